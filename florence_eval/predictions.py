"""Predictions to be scored, as columns, and every check of one of them.

Whatever file they come from, a prediction is a record with these keys: `question_id` (string or
integer; compared as strings) and `prediction` (string) are required; `answers` (array of strings),
`question`, `image`, `doc_id`, `source`, `question_types` (array of strings, or one) and `metric`
are used where present, and other keys are ignored unless they are asked for by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from florence_eval.errors import InputError

OnBadLine = Literal["error", "skip"]
OnMissing = Literal["error", "zero"]


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line that could not be read (an item or a row, where the file has no lines), and why."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """N predictions as columns, each of length N.

    `answers[i]` is None where the file carries no references for that question. `columns` holds
    what else was asked for by name. `missing` are the positions of questions that were not
    answered and score 0; `skipped` the lines that could not be read.
    """

    question_id: list[str]
    prediction: list[str]
    answers: list[list[str] | None]
    question: list[str | None]
    image: list[str | None]
    doc_id: list[str | None]
    source: list[str | None]
    question_types: list[list[str]]
    metric: list[str | None]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()

    @property
    def documents(self) -> tuple[str, list[str]]:
        """What tells documents apart, and each question's: the first of `doc_id`, `image` and
        `question_id` that every question has."""
        if None not in self.doc_id:
            return "doc_id", self.doc_id  # type: ignore[return-value]
        if None not in self.image:
            return "image", self.image  # type: ignore[return-value]
        return "question_id", self.question_id


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from, for messages.

    name: the file, or "predictions" for a table in memory.
    unit: what is counted: "line", "item" or "row".
    keys: what the source calls a key of ours, where it has another name for it.
    """

    name: str
    unit: str = "line"
    keys: Mapping[str, str] = field(default_factory=dict)

    def at(self, number: int) -> str:
        """The place of one record: "file.jsonl:7", or "file.json: item 7"."""
        return (
            f"{self.name}:{number}" if self.unit == "line" else f"{self.name}: {self.unit} {number}"
        )

    def problem(self, record: object, required: Sequence[str]) -> str | None:
        """What is wrong with a record, in words, or None: one named check for each way."""
        if not isinstance(record, dict):
            return f"an object is expected, found {json_kind(record)}"
        for key in required:
            if key not in record:
                called = " and ".join(self.keys.get(key, key) for key in required)
                return f"no {self.keys.get(key, key)!r}; {called} are required"
        for key, check in _CHECKS.items():
            if key in record:
                problem = check(record[key])
                if problem is not None:
                    return f"{self.keys.get(key, key)}: {problem}"
        for key, value in record.items():
            if _holds_lone_surrogate(value):
                return (
                    f"{self.keys.get(key, key)}: holds a lone surrogate, which is no Unicode text; "
                    "write U+FFFD in its place"
                )
        return None


REQUIRED = ("question_id", "prediction")
OPTIONAL = ("answers", "question", "image", "doc_id", "source", "question_types", "metric")


def from_records(
    records: Iterable[tuple[int, Any]],
    source: Source,
    *,
    columns: Sequence[str] = (),
    on_bad_line: OnBadLine = "error",
) -> Predictions:
    """The predictions in numbered records. Raises `InputError`, also for no record at all."""
    good: list[dict[str, Any]] = []
    skipped = []
    for number, record in records:
        problem = record if isinstance(record, Unreadable) else source.problem(record, REQUIRED)
        if problem is None:
            good.append(record)
        elif on_bad_line == "error":
            raise InputError(f"{source.at(number)}: {problem}")
        else:
            skipped.append(SkippedLine(number, str(problem)))
    if not good and skipped:
        raise InputError(f"{source.at(skipped[0].line)}: {skipped[0].problem}")
    if not good:
        raise InputError(f"{source.name}: predictions are expected, found none")
    return Predictions(
        question_id=[str(record["question_id"]) for record in good],
        prediction=[record["prediction"] for record in good],
        answers=[record.get("answers") for record in good],
        question=[record.get("question") for record in good],
        image=[record.get("image") for record in good],
        doc_id=[optional_id(record.get("doc_id")) for record in good],
        source=[record.get("source") for record in good],
        question_types=[labels(record.get("question_types")) for record in good],
        metric=[record.get("metric") for record in good],
        columns={
            column: [record.get(column) for record in good]
            for column in columns
            if column not in (*REQUIRED, *OPTIONAL)
        },
        skipped=tuple(skipped),
    )


class Unreadable(str):
    """Stands for a record that is no record: the problem, in words."""

    __slots__ = ()


def optional_id(value: str | int | None) -> str | None:
    """An id as a string."""
    return None if value is None else str(value)


def labels(value: list[str] | str | None) -> list[str]:
    """Question types as a list: one string is a list of one."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def json_kind(value: object) -> str:
    """A JSON value in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return "null (NaN)" if value != value else f"the number {value}"
    if isinstance(value, str):
        return f"the string {value!r}"
    return "an array" if isinstance(value, list) else "an object"


def _id_problem(value: object) -> str | None:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return None
    return f"a string or an integer is expected, found {json_kind(value)}"


def _prediction_problem(value: object) -> str | None:
    if isinstance(value, str):
        return None
    if isinstance(value, list):
        return (
            "one string is expected, found an array; choose one answer (or give the array as "
            "JSON text and ask for anls_star)"
        )
    return f'a string is expected, found {json_kind(value)}; write "" for no answer'


def _answers_problem(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (
            "an array of strings is expected, found a string, which would be compared letter by "
            f"letter; write [{json.dumps(value)}]"
        )
    if not isinstance(value, list):
        return f"an array of strings is expected, found {json_kind(value)}"
    if not value:
        return "at least one answer is expected, found an empty array"
    for answer in value:
        if not isinstance(answer, str):
            return f"an array of strings is expected, found {json_kind(answer)} in it"
    return None


def _text_problem(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return None
    return f"a string is expected, found {json_kind(value)}"


def _optional_id_problem(value: object) -> str | None:
    return None if value is None else _id_problem(value)


def _labels_problem(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return None
    return f"an array of strings is expected, found {json_kind(value)}"


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "question_id": _id_problem,
    "prediction": _prediction_problem,
    "answers": _answers_problem,
    "question": _text_problem,
    "image": _text_problem,
    "doc_id": _optional_id_problem,
    "source": _text_problem,
    "question_types": _labels_problem,
    "metric": _text_problem,
}


def _holds_lone_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
