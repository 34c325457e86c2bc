"""What a person wants to know of a set of samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from florence_data.sample import Sample
from florence_data.target_length import CHARACTERS_A_TOKEN

_FORMS = (
    ("yes or no", re.compile(r"(yes|no)\.?", re.IGNORECASE)),
    ("number", re.compile(r"[-+(]?[$€£¥]?\s?\d[\d,. ]*\s?[%)]?")),
    (
        "date",
        re.compile(
            r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
            r"|(\d{1,2}(st|nd|rd|th)?\s)?[a-z]{3,9}\.?\s\d{1,2}?(st|nd|rd|th)?,?\s?\d{2,4}",
            re.IGNORECASE,
        ),
    ),
    ("one word", re.compile(r"\S+")),
    ("2 to 5 words", re.compile(r"\S+(\s+\S+){1,4}")),
)
"""Forms of an answer; the first that fits counts."""


@dataclass(frozen=True)
class Spread:
    """Smallest, median, 95th percentile and largest of some whole numbers; all 0 of none."""

    smallest: int = 0
    median: int = 0
    p95: int = 0
    largest: int = 0

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """The spread of values; percentiles are the nearest ranks."""
        if not values:
            return cls()
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(ordered[0], ordered[last // 2], ordered[round(last * 0.95)], ordered[-1])

    def __str__(self) -> str:
        return f"{self.smallest} / {self.median} / {self.p95} / {self.largest}"


@dataclass(frozen=True)
class SetDescription:
    """Counts and spreads of a set; as text, a page to read.

    Sizes are pixels, lengths tokens (`tokens` says how they were counted). A question counts for
    each of its tasks and question types once, an answer for its form.
    """

    pages: int
    questions: int
    documents: int
    unanswered: int
    questions_a_page: Spread
    width: Spread
    height: Spread
    question_length: Spread
    answer_length: Spread
    tokens: str
    sources: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    question_types: Counter[str] = field(default_factory=Counter)
    answer_forms: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [
            f"{self.pages:,} pages of {self.documents:,} documents, {self.questions:,} questions, "
            f"{self.unanswered:,} of them without an answer",
            "smallest / median / 95 % / largest:",
            f"  questions a page  {self.questions_a_page}",
            f"  width, pixels     {self.width}",
            f"  height, pixels    {self.height}",
            f"  question, tokens  {self.question_length}  ({self.tokens})",
            f"  answer, tokens    {self.answer_length}",
        ]
        for name, counts in (
            ("sources", self.sources),
            ("splits", self.splits),
            ("formats", self.formats),
            ("tasks", self.tasks),
            ("question types", self.question_types),
            ("answer forms", self.answer_forms),
        ):
            if counts:
                shown = ", ".join(f"{key} {count:,}" for key, count in counts.most_common(12))
                more = len(counts) - 12
                lines.append(f"{name}: {shown}" + (f" and {more} more" if more > 0 else ""))
        return "\n".join(lines)


def answer_form(answer: str) -> str:
    """Which of a few forms an answer has."""
    text = answer.strip()
    if not text:
        return "empty"
    return next((form for form, pattern in _FORMS if pattern.fullmatch(text)), "longer")


def estimated_tokens(text: str) -> int:
    """Tokens of a text, from its characters."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def describe(
    samples: Iterable[Sample], count_tokens: Callable[[str], int] | None = None
) -> SetDescription:
    """Describe samples, in one pass. Without `count_tokens`, lengths are estimated."""
    count = estimated_tokens if count_tokens is None else count_tokens
    per_page: list[int] = []
    widths: list[int] = []
    heights: list[int] = []
    question_lengths: list[int] = []
    answer_lengths: list[int] = []
    documents: set[tuple[str, str]] = set()
    sources, splits, formats, tasks, types, forms = (Counter[str]() for _ in range(6))
    unanswered = 0
    for sample in samples:
        per_page.append(len(sample.supervisions))
        widths.append(sample.image.width)
        heights.append(sample.image.height)
        documents.add((sample.source, sample.doc_id))
        sources[sample.source] += 1
        splits[sample.split] += 1
        formats[sample.image.format] += 1
        for supervision in sample.supervisions:
            tasks[supervision.task] += 1
            types.update(supervision.metadata.get("question_types", ()))
            question_lengths.append(count(supervision.question))
            answer_lengths += [count(answer) for answer in supervision.answers[:1]]
            forms.update(answer_form(answer) for answer in supervision.answers[:1])
            unanswered += not supervision.answers
    return SetDescription(
        pages=len(per_page),
        questions=sum(per_page),
        documents=len(documents),
        unanswered=unanswered,
        questions_a_page=Spread.of(per_page),
        width=Spread.of(widths),
        height=Spread.of(heights),
        question_length=Spread.of(question_lengths),
        answer_length=Spread.of(answer_lengths),
        tokens="estimated" if count_tokens is None else "counted",
        sources=sources,
        splits=splits,
        formats=formats,
        tasks=tasks,
        question_types=types,
        answer_forms=forms,
    )
