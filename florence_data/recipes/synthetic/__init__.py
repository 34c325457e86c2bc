"""Synthetic documents: pages drawn here, with questions whose answers and boxes are exact."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes.synthetic.canvas import Canvas, Style
from florence_data.recipes.synthetic.chart import draw_chart
from florence_data.recipes.synthetic.content import Content
from florence_data.recipes.synthetic.flyer import draw_flyer
from florence_data.recipes.synthetic.fonts import BUNDLED, installed_families
from florence_data.recipes.synthetic.form import draw_form
from florence_data.recipes.synthetic.handwriting import Hand
from florence_data.recipes.synthetic.invoice import draw_invoice
from florence_data.recipes.synthetic.letter import draw_letter
from florence_data.recipes.synthetic.marks import draw_marks
from florence_data.recipes.synthetic.question import Question
from florence_data.recipes.synthetic.scan import scan
from florence_data.recipes.synthetic.skew import Skew
from florence_data.recipes.synthetic.table import draw_table
from florence_data.sample import Image, Region, Sample, Supervision
from florence_data.sample_set import SampleSet

Fonts = Literal["installed", "bundled"]

KINDS: dict[str, Callable[[Canvas, Content], list[Question]]] = {
    "invoice": draw_invoice,
    "form": draw_form,
    "table": draw_table,
    "letter": draw_letter,
    "chart": draw_chart,
    "flyer": draw_flyer,
}
"""The kinds of document; each draws itself and returns all that can be asked about it."""

MOST_QUESTIONS = 8
"""Every page offers at least so many."""


def synthetic(
    *,
    pages: int = 100,
    seed: int = 0,
    split: str = "train",
    questions_per_page: int = 4,
    kinds: tuple[str, ...] = tuple(KINDS),
    fonts: Fonts = "installed",
    width: int = 1275,
    height: int = 1650,
) -> SampleSet:
    """Synthetic documents: invoices, forms, tables, letters, charts and flyers.

    Drawn on this machine from lists in this package, so they belong to whoever runs it and need no
    network. `pages` samples of one page and one document each, with `questions_per_page` questions
    a page; the kinds take turns. Every question has its answer as it is printed, then other forms
    that a person would accept; a region around the ink that shows it, in pixels of the stored
    image; and DocVQA's `question_types`. Pages are greyscale or colour JPEG files.

    Page i depends on `seed`, `split` and i alone: the same bytes on any machine with the same
    Pillow and the same fonts.

    Args:
        pages: How many pages.
        seed: Another seed gives other pages.
        split: Becomes the samples' split; another split gives other pages.
        questions_per_page: From 1 to 8.
        kinds: Only these kinds of document.
        fonts: `installed` uses Pillow's own font and the well-known families on this machine,
            `bundled` Pillow's own alone: the same pages everywhere.
        width: Of the image in pixels, at least 510.
        height: Of the image in pixels, at least 660.

    Raises:
        InputError: For a value that is out of range, or a kind that is not there.
    """
    for name, value, least in (
        ("pages", pages, 1),
        ("questions-per-page", questions_per_page, 1),
        ("width", width, 510),
        ("height", height, 660),
    ):
        if value < least:
            raise InputError(f"{name}: found {value}, at least {least} is accepted")
    if questions_per_page > MOST_QUESTIONS:
        raise InputError(
            f"questions-per-page: found {questions_per_page}, at most {MOST_QUESTIONS} is accepted"
        )
    for kind in kinds or ("nothing",):
        if kind not in KINDS:
            raise InputError(f"kinds: found {kind}, accepted are {', '.join(KINDS)}")
    return SampleSet(
        SyntheticPages(pages, seed, split, questions_per_page, kinds, fonts, width, height)
    )


@dataclass(frozen=True)
class SyntheticPages:
    """The source behind `synthetic`, whose arguments its fields are."""

    pages: int
    seed: int
    split: str
    questions_per_page: int
    kinds: tuple[str, ...]
    fonts: Fonts
    width: int
    height: int

    def __len__(self) -> int:
        return self.pages

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """Draw the pages from `start` to `stop - 1`."""
        for position in range(start, min(stop, self.pages)):
            account.rows.read += 1
            account.rows.kept += 1
            account.questions.read += self.questions_per_page
            yield self.page(position)

    def page(self, position: int) -> Sample:
        """Draw one page and choose its questions."""
        name = f"synthetic-{self.split}-{self.seed}-{position:06d}"
        rng = random.Random(f"{self.seed}/{self.split}/{position}")
        kind = self.kinds[position % len(self.kinds)]
        canvas, questions = self.draw(kind, rng)
        asked = rng.sample(questions, self.questions_per_page)
        data, skew = scan(canvas.image, rng)
        return Sample(
            id=name,
            source="synthetic",
            split=self.split,
            doc_id=name,
            image=Image.from_bytes(data, name),
            supervisions=tuple(
                Supervision(
                    id=f"{name}-{number}",
                    question=question.text,
                    answers=question.answers,
                    regions=_regions(question, skew),
                    metadata={"question_types": list(question.types), "kind": kind},
                )
                for number, question in enumerate(asked)
            ),
        )

    def draw(self, kind: str, rng: random.Random) -> tuple[Canvas, list[Question]]:
        """A page before it is scanned, and everything that can be asked about it."""
        families = installed_families() if self.fonts == "installed" else (BUNDLED,)
        style = Style(
            body=rng.choice(families),
            heading=rng.choice(families),
            hand=Hand.of(rng),
            ink=rng.choice(("#000000", "#000000", "#1c1c1c", "#202040")),
            accent=rng.choice(("#30507a", "#7a3030", "#2f6d46", "#5c5c5c", "#8a5a20", "#5a3a8a")),
            pen=rng.choice(("#1f2f86", "#101010", "#2b4fb0", "#333333")),
            size=rng.choice((20, 21, 22, 23, 24)),
        )
        mode = rng.choice(("L", "L", "RGB"))
        shift = (rng.uniform(-30, 30), rng.uniform(-20, 5))
        canvas = Canvas(self.width, self.height, mode, style, shift)
        content = Content(rng)
        questions = KINDS[kind](canvas, content)
        return canvas, questions + draw_marks(canvas, content)


def _regions(question: Question, skew: Skew) -> tuple[Region, ...]:
    """What shows the answer: the upright box, and the quad of the line as it lies on the scan."""
    return tuple(
        Region(
            label=ink.text,
            box=_rounded(skew.bounds(ink.box)),
            polygons=(tuple(round(value, 1) for value in skew.quad(ink.box)),),
        )
        for ink in question.evidence
    )


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1)
