"""A pandas DataFrame of predictions or references: their keys as columns, one row a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from florence_eval.errors import InputError, quoted
from florence_eval.predictions import (
    OPTIONAL,
    REQUIRED,
    OnBadLine,
    Predictions,
    Source,
    from_columns,
    from_records,
)

if TYPE_CHECKING:
    import pandas as pd


def parse_predictions(
    frame: pd.DataFrame, name: str, columns: Sequence[str], on_bad_line: OnBadLine
) -> Predictions:
    """The predictions in a DataFrame; messages count its rows from 0. Raises `InputError`."""
    source = Source(name, "row")
    chosen = _wanted(frame, name, columns)
    try:
        found = {key: _arrow(cells) for key, cells in chosen.items()}
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
        predictions = None
    else:
        predictions = from_columns(found, source, range(len(frame)), columns)
    if predictions is not None:
        return predictions
    # Some cell is not as it should be: read again slowly, with a check and a message for each way.
    return from_records(
        records(frame, name, columns), source, columns=columns, on_bad_line=on_bad_line
    )


def records(
    frame: pd.DataFrame, name: str, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's number, from 0, and its cells as Python values: arrays as lists, and None for what
    is missing. Raises `InputError`."""
    cells = {
        key: [_plain(cell) for cell in column.tolist()]
        for key, column in _wanted(frame, name, columns).items()
    }
    for row in range(len(frame)):
        yield row, {key: values[row] for key, values in cells.items()}


def _wanted(frame: pd.DataFrame, name: str, columns: Sequence[str]) -> dict[str, pd.Series]:
    """The columns that are used. Raises `InputError` where one of them is there twice."""
    wanted = (*REQUIRED, *OPTIONAL, *columns)
    found: dict[str, pd.Series] = {}
    for place, key in enumerate(map(str, frame.columns)):
        if key in found:
            raise InputError(f"{name}: the column {quoted(key)} is there twice; one is accepted")
        if key in wanted:
            found[key] = frame.iloc[:, place]
    return found


def _arrow(cells: pd.Series) -> pa.Array | pa.ChunkedArray:
    if cells.dtype == object:
        values = cells.tolist()
        if set(map(type, values)) == {list}:
            # Looking for the type of their texts takes pyarrow as long as converting them. Lists of
            # anything else would be read slowly all the same. Told the type, pyarrow would also
            # take a string for the list of its letters.
            return pa.array(values, pa.list_(pa.string()))
    return pa.array(cells, from_pandas=True)


def _plain(cell: Any) -> Any:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, set, frozenset)):
        return list(map(_text, cell))
    # NaN and NaT differ from themselves; pandas.NA is neither equal nor unequal to itself.
    if isinstance(cell, (str, dict)):
        return cell
    return _text(cell) if (cell == cell) is True else None


def _text(value: Any) -> Any:
    """The text that bytes hold as UTF-8, as pyarrow reads them among strings; else the value."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
