"""The synthetic recipe: exact answers, exact boxes, and the same pages for the same seed."""

from __future__ import annotations

import io
import pickle
import random
from itertools import combinations

import numpy as np
import PIL.Image
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes.synthetic import KINDS, MOST_QUESTIONS, SyntheticPages, synthetic
from florence_data.recipes.synthetic.canvas import Canvas
from florence_data.recipes.synthetic.content import Content
from florence_data.recipes.synthetic.fonts import BUNDLED
from florence_data.recipes.synthetic.handwriting import STROKES, Hand
from florence_data.recipes.synthetic.question import Question
from florence_data.recipes.synthetic.skew import Skew
from florence_data.sample import Sample

SMALL = {"width": 638, "height": 825}
DOCVQA_TYPES = {
    "handwritten",
    "form",
    "layout",
    "table/list",
    "others",
    "free_text",
    "Image/Photo",
    "figure/diagram",
    "Yes/No",
}


def pixels(sample: Sample) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(sample.image.read())).convert("L"))


def drawn_pages(kind: str, count: int) -> list[tuple[Canvas, list[Question]]]:
    """Pages before they are scanned, half of them with Pillow's own font alone."""
    pages = []
    for seed in range(count):
        fonts = ("installed", "bundled")[seed % 2]
        source = synthetic(fonts=fonts).source
        assert isinstance(source, SyntheticPages)
        pages.append(source.draw(kind, random.Random(f"{kind} {seed}")))
    return pages


@pytest.fixture(scope="module", params=KINDS)
def drawn(request: pytest.FixtureRequest) -> list[tuple[Canvas, list[Question]]]:
    return drawn_pages(request.param, 24)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_or_split_other_pages() -> None:
    pages = list(synthetic(pages=6, seed=1, **SMALL))
    assert pages == list(synthetic(pages=6, seed=1, **SMALL))
    for other in (synthetic(pages=6, seed=2, **SMALL), synthetic(pages=6, split="test", **SMALL)):
        assert not {page.image.sha256 for page in pages} & {page.image.sha256 for page in other}


def test_a_longer_set_begins_with_the_pages_of_a_shorter_one() -> None:
    assert list(synthetic(pages=5, **SMALL))[:2] == list(synthetic(pages=2, **SMALL))


def test_any_range_can_be_read_by_another_process() -> None:
    source = synthetic(pages=7, **SMALL).source
    whole = list(source.read(0, 7, Account()))
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.read(5, 7, Account())) == whole[5:]
    assert list(copy.read(0, 3, Account())) == whole[:3]


def test_every_page_and_question_is_counted() -> None:
    account = Account()
    samples = list(synthetic(pages=5, questions_per_page=3, **SMALL).source.read(1, 5, account))
    assert (account.rows.read, account.rows.kept) == (4, 4)
    assert account.questions.read == sum(len(sample.supervisions) for sample in samples) == 12


def test_pages_are_documents_of_their_own_and_questions_have_ids_of_their_own() -> None:
    samples = list(synthetic(pages=12, questions_per_page=8, **SMALL))
    questions = [question for sample in samples for question in sample.supervisions]
    assert (
        len({sample.id for sample in samples}) == len({sample.doc_id for sample in samples}) == 12
    )
    assert len({question.id for question in questions}) == len(questions) == 96
    assert {question.metadata["kind"] for question in questions} == set(KINDS)


def test_the_image_has_the_size_that_was_asked_for() -> None:
    for sample in synthetic(pages=6, width=700, height=660):
        assert pixels(sample).shape == (660, 700)
        assert (sample.image.width, sample.image.height) == (700, 660)


def test_every_page_offers_enough_questions_and_none_twice(
    drawn: list[tuple[Canvas, list[Question]]],
) -> None:
    for _, questions in drawn:
        assert len(questions) >= MOST_QUESTIONS
        assert len({question.text for question in questions}) == len(questions)


def test_answers_are_what_the_evidence_shows(drawn: list[tuple[Canvas, list[Question]]]) -> None:
    for canvas, questions in drawn:
        for question in questions:
            shown = [ink.text for ink in question.evidence if ink.text]
            first = question.answers[0]
            if "Yes/No" in question.types:
                assert question.answers in (("Yes",), ("No",))
            elif (
                question.text.startswith(("How many", "For how many")) and len(question.answers) > 1
            ):
                # A count shows as so many things; a number in a text shows as itself.
                assert shown == [first] or int(first) == len(question.evidence)
            else:
                assert first in (" ".join(shown), ", ".join(shown)) or set(shown) == {first}
            assert question.evidence
            # A fact in running text is part of a line that was drawn.
            for text in shown:
                assert any(text in ink.text for ink in canvas.inks)


def test_nothing_is_drawn_outside_of_the_page(drawn: list[tuple[Canvas, list[Question]]]) -> None:
    for canvas, _ in drawn:
        width, height = canvas.image.size
        for ink in canvas.inks:
            x1, y1, x2, y2 = ink.box
            # The largest skew moves a corner by 17 pixels.
            assert 17 <= x1 < x2 <= width - 17, ink
            assert 17 <= y1 < y2 <= height - 17, ink


def test_no_text_is_printed_over_other_text(drawn: list[tuple[Canvas, list[Question]]]) -> None:
    for canvas, questions in drawn:
        # The two lines of a stamp slope, so that the upright boxes around them may overlap.
        stamped = {
            ink for question in questions if "stamp" in question.text for ink in question.evidence
        }
        texts = [ink for ink in canvas.inks if ink.text]
        for one, other in combinations(texts, 2):
            if {one, other} <= stamped:
                continue
            wide = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
            high = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
            assert wide <= 1 or high <= 3, (one, other)


def test_every_box_holds_ink_that_reaches_its_edges(
    drawn: list[tuple[Canvas, list[Question]]],
) -> None:
    for canvas, questions in drawn:
        page = np.asarray(canvas.image.convert("L")).astype(int)
        for question in questions:
            for ink in question.evidence:
                x1, y1, x2, y2 = (round(value) for value in ink.box)
                around = page[y1 - 3 : y2 + 3, x1 - 3 : x2 + 3]
                assert np.ptp(around) > 60, (question, ink)
                if ink.text and "stamp" not in question.text:
                    for edge in (around[:6], around[-6:], around[:, :6], around[:, -6:]):
                        assert np.ptp(edge) > 25, (question, ink)


def test_boxes_follow_the_skew_onto_the_scanned_page() -> None:
    for sample in synthetic(pages=18, questions_per_page=8, seed=5):
        page = pixels(sample).astype(int)
        for question in sample.supervisions:
            for region in question.regions:
                assert region.box is not None
                x1, y1, x2, y2 = region.box
                part = page[round(y1) : round(y2), round(x1) : round(x2)]
                assert np.ptp(part) > 50, (sample.id, question.question)
                (quad,) = region.polygons
                assert min(quad[::2]) == x1 and max(quad[1::2]) == y2


@pytest.mark.parametrize("angle", [-0.02, 0.013])
def test_a_skewed_box_lies_where_the_skewed_ink_is(angle: float) -> None:
    image = PIL.Image.new("L", (400, 500), "white")
    box = (90, 310, 260, 330)
    image.paste("black", box)
    skew = Skew(angle, 200, 250)
    dark = np.asarray(skew.apply(image, "white")) < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert skew.bounds(box) == pytest.approx(seen, abs=1)


def test_all_question_types_of_docvqa_occur() -> None:
    types = {
        name
        for kind in KINDS
        for _, questions in drawn_pages(kind, 2)
        for question in questions
        for name in question.types
    }
    assert types == DOCVQA_TYPES


def test_every_kind_asks_for_things_that_differ_from_page_to_page() -> None:
    for kind in KINDS:
        answers = {
            question.answers[0]
            for _, questions in drawn_pages(kind, 10)
            for question in questions
            if "Yes/No" not in question.types
        }
        assert len(answers) > 60


def test_a_page_says_nothing_twice() -> None:
    content = Content(random.Random(0))
    facts = [content.person().text for _ in range(40)] + [content.date().text for _ in range(40)]
    facts += [content.money(content.price(100, 999)[0]).text for _ in range(40)]
    assert len(set(facts)) == len(facts)


def test_the_font_inside_pillow_has_every_character_that_is_printed(
    drawn: list[tuple[Canvas, list[Question]]],
) -> None:
    font = BUNDLED.font(40)
    absent = bytes(font.getmask("\uffff"))
    for character in {letter for canvas, _ in drawn for ink in canvas.inks for letter in ink.text}:
        assert bytes(font.getmask(character)) != absent, character


def test_the_hand_knows_every_letter_that_a_form_may_ask_for() -> None:
    written = "".join(chr(code) for code in range(ord("!"), ord("~")) if chr(code).isalnum())
    hand = Hand.of(random.Random(0))
    for letter in written + "$.,-/'&:()#+":
        assert letter in STROKES
        mask, _ = hand.write(letter, 24, random.Random(1))
        assert mask.getextrema()[1] > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pages": 0}, "pages: found 0, at least 1 is accepted"),
        ({"width": 100}, "width: found 100, at least 510 is accepted"),
        ({"questions_per_page": 9}, "questions-per-page: found 9, at most 8 is accepted"),
        ({"kinds": ("invoice", "novel")}, "kinds: found novel, accepted are invoice, form"),
        ({"kinds": ()}, "kinds: found nothing, accepted are invoice, form"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synthetic(**arguments)  # type: ignore[arg-type]
