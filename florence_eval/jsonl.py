"""The project's own file of predictions: JSON in UTF-8, one object a line.

    {"question_id": "49153", "prediction": "0.26", "answers": ["0.28"], "question": "What is …?",
     "image": "pybv0228_81.png", "doc_id": "pybv0228", "source": "docvqa",
     "question_types": ["table/list"], "metric": "anls"}

`florence_eval.predictions` says what each key is. Blank lines are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from florence_eval.errors import InputError, quoted
from florence_eval.predictions import (
    OPTIONAL,
    REQUIRED,
    OnBadLine,
    Predictions,
    Source,
    Unreadable,
    from_columns,
    from_records,
)

_KINDS = {int: pa.int64(), bool: pa.bool_(), list: pa.list_(pa.string())}
_BLOCK_BYTES = 8 * 2**20
# Some programs begin UTF-8 with a mark of the order of bytes, which it has no need of.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that should hold something, without a byte order mark. Raises
    `InputError`."""
    try:
        content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    except IsADirectoryError:
        raise InputError(f"{path}: a file is expected, found a directory") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not content or content.isspace():
        raise InputError(f"{path}: predictions or references are expected, found an empty file")
    return content


def parse_predictions(
    content: bytes, name: str, *, columns: Sequence[str] = (), on_bad_line: OnBadLine = "error"
) -> Predictions:
    """The predictions in the `content` of the file `name`. Raises `InputError`."""
    predictions = parse_well_formed(content, name, columns)
    if predictions is not None:
        return predictions
    # Something is wrong with a line: read again slowly, with a check and a message for each way.
    return from_records(records(content), Source(name), columns=columns, on_bad_line=on_bad_line)


def parse_well_formed(content: bytes, name: str, columns: Sequence[str] = ()) -> Predictions | None:
    """The predictions in `content`, or None where any line is not as it should be."""
    content = content.replace(b"\r\n", b"\n")
    if not content.endswith(b"}\n"):
        content = content.rstrip() + b"\n"
    first = next((record for _, record in records(content[: content.index(b"\n")])), None)
    if not isinstance(first, dict):
        return None
    options = pyarrow.json.ParseOptions(_schema(first, columns), unexpected_field_behavior="ignore")
    buffer = pa.py_buffer(content)
    try:
        # Arrow's parser takes bytes that are no UTF-8 for text.
        whole = pa.py_buffer(np.array([0, len(content)], np.int64))
        pa.Array.from_buffers(pa.large_string(), 1, [None, whole, buffer]).validate(full=True)
        table = pyarrow.json.read_json(
            pa.BufferReader(buffer),
            pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES),
            options,
        )
        # It also takes several objects on a line and one on several. Where each line begins and
        # ends with braces, no object goes on in the next line; so as many objects as lines are one
        # a line.
        if not content.count(b"\n") == content.count(b"}\n{") + 1 == len(table):
            return None
        found = {key: table[key] for key in table.column_names}
        return from_columns(found, Source(name), range(1, len(table) + 1), columns)
    except pa.ArrowException:
        return None


def _schema(first: dict[str, Any], columns: Sequence[str]) -> pa.Schema:
    """The types of the keys that are wanted, as the first line has them; strings, where it does not
    say. A file of other types is read again with a check of each line."""
    fields = []
    for key in dict.fromkeys((*REQUIRED, *OPTIONAL, *columns)):
        value = first.get(key)
        kind = _KINDS.get(type(value), pa.string())
        if key == "answers" or (key == "question_types" and value is None):
            kind = pa.list_(pa.string())
        fields.append((key, kind))
    return pa.schema(fields)


def records(content: bytes) -> Iterator[tuple[int, Any]]:
    """Each line's number and JSON value, or `Unreadable` where it has none."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, _value(line)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), object_pairs_hook=with_each_key_once)
    except UnicodeDecodeError as error:
        return Unreadable(f"invalid UTF-8 at byte {error.start + 1}; UTF-8 text is accepted")
    except (ValueError, RecursionError) as error:
        return Unreadable(f"invalid JSON: {error}; one complete object a line is accepted")


def with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of keys and values. Raises `ValueError` where a key is there twice: which of
    its values is meant, nobody can know."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {quoted(repeated)} is there twice in one object")
    return found
