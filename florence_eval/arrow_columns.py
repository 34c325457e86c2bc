"""Arrow arrays from Python lists and to numpy, without pandas.

`pyarrow.array` and `to_numpy` import pandas wherever it is installed, which takes longer than
scoring 100,000 questions does. These build and read the buffers directly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_TYPES = {"int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}
_DTYPES = {kind: np.dtype(name) for name, kind in _TYPES.items()}


def numbers(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """An int32, int64 or float64 array, null where `valid` is false."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    mask = None if valid is None else _bits(valid)
    return pa.Array.from_buffers(_TYPES[values.dtype.name], len(values), [mask, data])


def take(column: pa.Array | pa.Table, places: NDArray[np.int64]) -> Any:
    """What stands at some places of a column, or of each column of a table."""
    return column.take(numbers(places))


def booleans(values: NDArray[np.bool_]) -> pa.Array:
    """A boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def strings(values: Sequence[str | None]) -> pa.Array:
    """A string array; None is null. Raises `UnicodeEncodeError` for a lone surrogate."""
    present = values
    valid = None
    if None in values:
        if values.count(None) == len(values):
            return pa.nulls(len(values), pa.string())
        present = [value or "" for value in values]
        valid = _bits(np.array([value is not None for value in values], np.bool_))
    return _filled(present, valid)  # type: ignore[arg-type]


def _filled(present: Sequence[str], valid: pa.Buffer | None = None) -> pa.Array:
    text = "".join(present)
    data = text.encode()
    if len(data) == len(text):
        lengths = np.fromiter(map(len, present), np.int64, len(present))
    else:
        lengths = np.array([len(value.encode()) for value in present], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if offsets[-1] < 2**31:
        offsets = offsets.astype(np.int32)
    return from_text_buffers(offsets, data, valid)


def text_buffers(texts: pa.Array) -> tuple[NDArray[Any], bytes]:
    """The (N + 1,) int32 or int64 offsets, from 0, of N strings in their joined UTF-8, and that."""
    _, starts, data = texts.buffers()
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    if not len(texts):
        return np.zeros(1, kind), b""
    offsets = np.frombuffer(starts, kind)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return offsets - offsets[0], data[first:last].to_pybytes() if last > first else b""


def from_text_buffers(
    offsets: NDArray[Any], data: NDArray[np.uint8] | bytes, valid: pa.Buffer | None = None
) -> pa.Array:
    """The string array that `text_buffers` parts: a large one where the offsets are int64."""
    kind = pa.string() if offsets.dtype == np.int32 else pa.large_string()
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def string_lists(values: Sequence[Sequence[str] | None]) -> pa.Array:
    """An array of lists of strings; None is null."""
    valid = None
    if None in values:
        valid = np.array([value is not None for value in values], np.bool_)
        values = [value or () for value in values]
    lengths = np.fromiter(map(len, values), np.int32, len(values))  # type: ignore[arg-type]
    return _lists(lengths, _filled(list(chain.from_iterable(values))), valid)  # type: ignore[arg-type]


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's forms of strings."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def without_null_lists(lists: pa.Array) -> pa.Array:
    """Lists of strings with an empty list for each null."""
    if not lists.null_count:
        return lists
    # As Arrow has it: pyarrow imports pandas to make this of a Python number.
    (zero,) = numbers(np.zeros(1, np.int32))
    lengths = pc.list_value_length(lists).fill_null(zero)
    return _lists(to_numpy(lengths), lists.flatten())


def lists_of_one(texts: pa.Array) -> pa.Array:
    """Each string in a list of its own, and an empty list for each null."""
    return _lists(to_numpy(texts.is_valid()).astype(np.int32), texts.drop_null())


def _lists(
    lengths: NDArray[np.int32], flat: pa.Array, valid: NDArray[np.bool_] | None = None
) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int32))).astype(np.int32)
    null = None if valid is None else booleans(~valid)
    return pa.ListArray.from_arrays(numbers(offsets), flat, mask=null)


def _bits(values: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def labels(codes: NDArray[np.int32], names: Sequence[str]) -> pa.Array:
    """A dictionary array: `names[code]` for each code, stored as the code."""
    return pa.DictionaryArray.from_arrays(numbers(codes), strings(names), ordered=True, safe=False)


def values(found: Sequence[Any]) -> pa.Array:
    """An array of what a user's own JSON column holds: strings or lists of strings as they are,
    with null for None; everything else as `text_of` writes it."""
    if all(value is None or isinstance(value, str) for value in found):
        return strings(found)
    lists = [[] if value is None else value for value in found]
    if all(
        isinstance(value, list) and all(isinstance(label, str) for label in value)
        for value in lists
    ):
        return string_lists(lists)
    return strings([None if value is None else text_of(value) for value in found])


def text_of(value: Any) -> str:
    """A string as it is, what JSON has as JSON text, and anything else (a DataFrame may hold a
    date, bytes or a set) as Python writes it."""
    if isinstance(value, (bool, int, float, list, tuple, dict)):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError):  # a key that is no string, an object that holds itself
            pass
    return str(value)


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece; `combine_chunks` would copy it even where it is one already."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def to_numpy(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """The values of an integer, float64 or boolean column, or the codes of one of `labels`; a null
    number is NaN."""
    array = whole(column)
    if pa.types.is_dictionary(array.type):
        array = array.indices
    validity, data = array.buffers()
    rows = slice(array.offset, array.offset + len(array))
    if pa.types.is_boolean(array.type):
        return _unpacked(data)[rows]
    found = np.frombuffer(data, _DTYPES[array.type])[rows]
    return found if validity is None else np.where(_unpacked(validity)[rows], found, np.nan)


def _unpacked(bits: pa.Buffer) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").astype(np.bool_)
