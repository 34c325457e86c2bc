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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from florence_eval import arrow_columns
from florence_eval.errors import InputError, one_line, quoted, shortened

OnBadLine = Literal["error", "skip"]
OnMissing = Literal["error", "zero"]


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line that could not be read (an item or a row, where the file has no lines), and why."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """N predictions as a table.

    rows: a column for each key of `REQUIRED` and `OPTIONAL`, then for each that was asked for by
        name. Strings, but `answers` and `question_types` are lists of strings; null where nothing
        was said, an empty list for `question_types`.
    source, numbers: where they come from, and each one's number there, for messages. Those of
        `missing`, which come last, have none.
    missing: positions of questions that were not answered and score 0.
    skipped: the lines that could not be read.
    """

    rows: pa.Table
    source: Source
    numbers: Sequence[int]
    missing: tuple[int, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()

    def column(self, key: str) -> pa.Array:
        """A column in one piece."""
        return arrow_columns.whole(self.rows[key])

    @property
    def documents_by(self) -> str:
        """What tells documents apart: the first of `doc_id`, `image` and `question_id` that every
        question has; an empty text is none."""
        for key in ("doc_id", "image"):
            column = self.rows[key]
            if not column.null_count and pc.min(pc.binary_length(column)).as_py() > 0:
                return key
        return "question_id"

    def place(self, position: int) -> str:
        """Where a prediction stands: "file.jsonl:7"; of one that is missing, the file."""
        if position >= len(self.numbers):
            return self.source.name
        return self.source.at(self.numbers[position])

    def without(self, problems: Mapping[int, str]) -> Predictions:
        """The predictions but those at some positions, which are skipped for the reasons given."""
        kept = [position for position in range(len(self.rows)) if position not in problems]
        answered = len(self.numbers)
        skipped = [
            SkippedLine(self.numbers[position], problem)
            for position, problem in problems.items()
            if position < answered
        ]
        return Predictions(
            arrow_columns.take(self.rows, np.array(kept, np.int64)),
            self.source,
            [self.numbers[position] for position in kept if position < answered],
            tuple(new for new, old in enumerate(kept) if old >= answered),
            tuple(sorted((*self.skipped, *skipped), key=lambda each: each.line)),
        )


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


IDS = ("question_id", "doc_id")
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
    numbers = []
    skipped = []
    for number, record in records:
        problem = record if isinstance(record, Unreadable) else source.problem(record, REQUIRED)
        if problem is None:
            good.append(record)
            numbers.append(number)
        elif on_bad_line == "error":
            raise InputError(f"{source.at(number)}: {problem}")
        else:
            skipped.append(SkippedLine(number, one_line(problem)))
    if not good and skipped:
        raise InputError(f"{source.at(skipped[0].line)}: {skipped[0].problem}")
    if not good:
        raise InputError(f"{source.name}: predictions are expected, found none")
    keys = dict.fromkeys((*REQUIRED, *OPTIONAL, *columns))
    cells = {key: [record.get(key) for record in good] for key in keys}
    return from_lists(cells, source, numbers, skipped=tuple(skipped))


def from_lists(
    cells: dict[str, list[Any]],
    source: Source,
    numbers: Sequence[int],
    missing: tuple[int, ...] = (),
    skipped: tuple[SkippedLine, ...] = (),
) -> Predictions:
    """The predictions in lists of checked values: a list for each column of `Predictions.rows`."""
    rows = {}
    for key, found in cells.items():
        if key in IDS:
            rows[key] = arrow_columns.strings(list(map(optional_id, found)))
        elif key == "answers":
            rows[key] = arrow_columns.string_lists(found)
        elif key == "question_types":
            rows[key] = arrow_columns.string_lists(list(map(labels, found)))
        else:
            rows[key] = arrow_columns.values(found)
    return Predictions(pa.table(rows), source, numbers, missing, skipped)


def from_columns(
    found: Mapping[str, pa.Array | pa.ChunkedArray],
    source: Source,
    numbers: Sequence[int],
    columns: Sequence[str] = (),
) -> Predictions | None:
    """The predictions in Arrow columns by key, or None where any cell is not as it should be."""
    if not all(key in found and len(found[key]) for key in REQUIRED):
        return None
    absent = pa.nulls(len(found["prediction"]), pa.string())
    rows = {}
    for key in dict.fromkeys((*REQUIRED, *OPTIONAL, *columns)):
        column = _COLUMNS.get(key, _asked_for)(_plain(found.get(key, absent)))
        if column is None or (key in REQUIRED and column.null_count):
            return None
        rows[key] = column
    return Predictions(pa.table(rows), source, numbers)


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
    """A JSON value, or what else a DataFrame may hold, in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return "null (NaN)" if value != value else f"the number {shortened(str(value))}"
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else f"the {type(value).__name__} {quoted(value)}"


def _question_id_problem(value: object) -> str | None:
    if value == "":
        return "an id is expected, found an empty string"
    return _id_problem(value)


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
            f"letter; write [{shortened(json.dumps(value))}]"
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
    "question_id": _question_id_problem,
    "prediction": _prediction_problem,
    "answers": _answers_problem,
    "question": _text_problem,
    "image": _text_problem,
    "doc_id": _optional_id_problem,
    "source": _text_problem,
    "question_types": _labels_problem,
    "metric": _text_problem,
}


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece, its texts in one of Arrow's several forms of them if they fit."""
    array = arrow_columns.whole(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    text = pa.types.is_null(array.type) or arrow_columns.is_text(array.type)
    return array.cast(pa.string()) if text and array.nbytes < 2**31 else array


def _texts(column: pa.Array) -> pa.Array | None:
    return column if arrow_columns.is_text(column.type) else None


def _ids(column: pa.Array) -> pa.Array | None:
    return column.cast(pa.string()) if pa.types.is_integer(column.type) else _texts(column)


def _question_ids(column: pa.Array) -> pa.Array | None:
    ids = _ids(column)
    return None if ids is None or not pc.min(pc.binary_length(ids)).as_py() else ids


def _lists(column: pa.Array) -> pa.Array | None:
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.list_(pa.string()))
    of_texts = pa.types.is_list(column.type) and arrow_columns.is_text(column.type.value_type)
    return column if of_texts and not column.flatten().null_count else None


def _answers(column: pa.Array) -> pa.Array | None:
    lists = _lists(column)
    if lists is None or 0 in arrow_columns.to_numpy(pc.list_value_length(lists)):
        return None
    return lists


def _labels(column: pa.Array) -> pa.Array | None:
    lists = _lists(column)
    if lists is not None:
        return arrow_columns.without_null_lists(lists)
    return arrow_columns.lists_of_one(column) if arrow_columns.is_text(column.type) else None


def _asked_for(column: pa.Array) -> pa.Array | None:
    """Booleans and integers as the text that JSON writes; lists of strings without null."""
    if pa.types.is_list(column.type):
        return _labels(column)
    return column.cast(pa.string()) if pa.types.is_boolean(column.type) else _ids(column)


_COLUMNS: dict[str, Callable[[pa.Array], pa.Array | None]] = {
    "question_id": _question_ids,
    "prediction": _texts,
    "answers": _answers,
    "question": _texts,
    "image": _texts,
    "doc_id": _ids,
    "source": _texts,
    "question_types": _labels,
    "metric": _texts,
}


def _holds_lone_surrogate(value: object) -> bool:
    try:
        arrow_columns.text_of(value).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
