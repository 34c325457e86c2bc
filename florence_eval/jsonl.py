"""The project's own file of predictions: JSON in UTF-8, one object a line.

    {"question_id": "49153", "prediction": "0.26", "answers": ["0.28"], "question": "What is …?",
     "image": "pybv0228_81.png", "doc_id": "pybv0228", "source": "docvqa",
     "question_types": ["table/list"], "metric": "anls"}

`florence_eval.predictions` says what each key is. Blank lines are ignored.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from florence_eval.errors import InputError
from florence_eval.predictions import (
    OnBadLine,
    Predictions,
    Source,
    Unreadable,
    from_records,
    labels,
    optional_id,
)


class Row(msgspec.Struct, gc=False):
    """One line, as far as scoring needs it."""

    question_id: str | int
    prediction: str
    answers: list[str] | None = None
    question: str | None = None
    image: str | None = None
    doc_id: str | int | None = None
    source: str | None = None
    question_types: list[str] | str | None = None
    metric: str | None = None


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that should hold something. Raises `InputError`."""
    if path.is_dir():
        raise InputError(f"{path}: a file is expected, found a directory")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not content.strip():
        raise InputError(f"{path}: predictions or references are expected, found an empty file")
    return content


def parse_predictions(
    content: bytes, name: str, *, columns: Sequence[str] = (), on_bad_line: OnBadLine = "error"
) -> Predictions:
    """The predictions in the `content` of the file `name`. Raises `InputError`."""
    with collector_paused():
        predictions = parse_well_formed(content, columns)
    if predictions is not None:
        return predictions
    # Something is wrong with a line: read again slowly, with a check and a message for each way.
    return from_records(records(content), Source(name), columns=columns, on_bad_line=on_bad_line)


def parse_well_formed(content: bytes, columns: Sequence[str] = ()) -> Predictions | None:
    """The predictions in `content`, or None where any line is not as it should be."""
    extra = [column for column in columns if column not in Row.__struct_fields__]
    try:
        rows = msgspec.json.Decoder(_row_type(extra)).decode_lines(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    answers = [row.answers for row in rows]
    if not rows or [] in answers:
        return None
    return Predictions(
        question_id=_strings([row.question_id for row in rows]),
        prediction=[row.prediction for row in rows],
        answers=answers,
        question=[row.question for row in rows],
        image=[row.image for row in rows],
        doc_id=_strings([row.doc_id for row in rows]),
        source=[row.source for row in rows],
        question_types=_lists([row.question_types for row in rows]),
        metric=[row.metric for row in rows],
        columns={column: [getattr(row, column) for row in rows] for column in extra},
    )


def _strings(ids: list[Any]) -> list[Any]:
    """Ids as strings, or None; a type is told for all at once, because most are strings already."""
    return ids if set(map(type, ids)) <= {str, type(None)} else list(map(optional_id, ids))


def _lists(types: list[Any]) -> list[list[str]]:
    return types if set(map(type, types)) == {list} else list(map(labels, types))


def records(content: bytes) -> Iterator[tuple[int, Any]]:
    """Each line's number and JSON value, or `Unreadable` where it has none."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, _value(line)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Unreadable(f"invalid UTF-8 at byte {error.start + 1}; UTF-8 text is accepted")
    except (ValueError, RecursionError) as error:
        return Unreadable(f"invalid JSON: {error}; one complete object a line is accepted")


def _row_type(extra: Sequence[str]) -> type[Any]:
    if not extra:
        return Row
    return msgspec.defstruct("RowWithColumns", [(c, Any, None) for c in extra], bases=(Row,))


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a million new objects, none of them garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
