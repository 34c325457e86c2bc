"""Whether a set can be trained on: every image is decoded, every question is looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from string import ascii_uppercase

from florence_data.curation.scan import scan
from florence_data.errors import InputError
from florence_data.images import decode
from florence_data.prompts import prompt_template
from florence_data.sample import Image, Region, Sample, Supervision
from florence_data.sample_set import SampleSet

YES_NO = "Yes/No"
"""The one of DocVQA's question types that says what the answer looks like."""

LISTED = 20
"""How many problems of a kind a printed report lists."""

_YES_NO = re.compile(r"\s*(yes|no)\s*\.?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a sample, or with one of its supervisions."""

    sample_id: str
    supervision_id: str | None
    kind: str
    detail: str

    def __str__(self) -> str:
        place = f"sample {self.sample_id}"
        if self.supervision_id is not None:
            place += f", supervision {self.supervision_id}"
        return f"{place}: {self.detail.removeprefix(f'{place}: ')}"


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What was looked at and what is wrong with it. `unanswered` questions have no answer at all,
    which is right for a test split and useless for training."""

    pages: int
    questions: int
    unanswered: int
    problems: tuple[Problem, ...]

    @property
    def kinds(self) -> Counter[str]:
        """How many problems there are of each kind."""
        return Counter(problem.kind for problem in self.problems)

    def __str__(self) -> str:
        """The counts, then the first problems of each kind."""
        lines = [
            f"{self.pages:,} pages, {self.questions:,} questions, {self.unanswered:,} of them "
            f"without an answer; {len(self.problems):,} problems"
        ]
        for kind, count in self.kinds.most_common():
            lines.append(f"{kind}: {count:,}")
            listed = [problem for problem in self.problems if problem.kind == kind][:LISTED]
            lines += (f"  {problem}" for problem in listed)
            lines += [f"  and {count - LISTED:,} more"] if count > LISTED else []
        return "\n".join(lines)


def validate(samples: SampleSet, workers: int = 1) -> ValidationReport:
    """Look at every sample of a set. Nothing is raised for what is wrong with one."""
    pages = questions = unanswered = 0
    problems: list[Problem] = []
    samples_seen: Counter[str] = Counter()
    questions_seen: Counter[str] = Counter()
    for looked in scan(samples, _look, workers):
        pages += 1
        questions += len(looked.supervision_ids)
        unanswered += looked.unanswered
        problems += looked.problems
        samples_seen[looked.sample_id] += 1
        if samples_seen[looked.sample_id] == 2:
            problems.append(
                Problem(looked.sample_id, None, "duplicate id", "other samples have this id")
            )
        for name in looked.supervision_ids:
            questions_seen[name] += 1
            if questions_seen[name] == 2:
                problems.append(
                    Problem(
                        looked.sample_id, name, "duplicate id", "several questions have this id"
                    )
                )
    return ValidationReport(pages, questions, unanswered, tuple(problems))


@dataclass(frozen=True, slots=True)
class _Looked:
    sample_id: str
    supervision_ids: tuple[str, ...]
    unanswered: int
    problems: tuple[Problem, ...]


def _look(sample: Sample) -> _Looked:
    problems = [Problem(sample.id, None, kind, detail) for kind, detail in _sample_problems(sample)]
    for row in sample.supervisions:
        problems += (
            Problem(sample.id, row.id, kind, detail) for kind, detail in _row_problems(sample, row)
        )
    return _Looked(
        sample.id,
        tuple(row.id for row in sample.supervisions),
        sum(not row.answers and not row.regions for row in sample.supervisions),
        tuple(problems),
    )


def _sample_problems(sample: Sample) -> Iterator[tuple[str, str]]:
    for field in ("id", "source", "split", "doc_id"):
        if not getattr(sample, field).strip():
            yield "schema", f"{field} is empty"
    if not sample.supervisions:
        yield "schema", "no supervision"
    name = f"sample {sample.id}"
    try:
        data = sample.image.read()
        found = Image.from_bytes(data, name)
        decode(data, name)
    except (InputError, OSError) as error:
        yield "image", str(error)
        return
    for fact in ("sha256", "format", "width", "height"):
        stored, said = getattr(found, fact), getattr(sample.image, fact)
        if stored != said:
            yield "image", f"{fact} is {stored}, the sample says {said}"


def _row_problems(sample: Sample, row: Supervision) -> Iterator[tuple[str, str]]:
    if not row.id.strip():
        yield "schema", "id is empty"
    try:
        prompt_template("docvqa").example(sample, row)
    except InputError as error:
        yield "prompt", str(error)
    if any(not answer.strip() for answer in row.answers):
        yield "empty answer", f"answers {list(row.answers)}"
    elif detail := _mismatch(row):
        yield "answer type", detail
    for region in row.regions:
        if detail := _outside(region, sample.image.width, sample.image.height):
            yield "region", detail


def _mismatch(row: Supervision) -> str:
    """How an answer differs from what its type allows, or nothing."""
    types, choices = row.metadata.get("question_types"), row.metadata.get("choices")
    for answer in row.answers:
        if isinstance(types, list) and YES_NO in types and not _YES_NO.fullmatch(answer):
            return f"question type {YES_NO}, answer {answer!r}"
        if isinstance(choices, list) and answer not in (
            *choices,
            *ascii_uppercase[: len(choices)],
        ):
            return f"the choices are {choices}, the answer is {answer!r}"
    return ""


def _outside(region: Region, width: int, height: int) -> str:
    """What a region has outside of the picture, or nothing; a pixel's rounding is let pass."""
    for coordinates in (region.box or (), *region.polygons):
        for value, limit in zip(coordinates, cycle((width, height)), strict=False):
            if not -1 <= value <= limit + 1:
                return f"{coordinates} reaches out of the picture of {width}x{height} pixels"
    return ""
