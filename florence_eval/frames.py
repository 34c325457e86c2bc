"""A pandas DataFrame of predictions: the keys of a prediction as columns, one row a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

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
    predictions = _well_formed(frame, columns)
    if predictions is not None:
        return predictions
    cells = {str(key): _plain_cells(frame[key]) for key in frame.columns}
    source = Source(name, "row")
    return from_records(
        _records(cells, len(frame)), source, columns=columns, on_bad_line=on_bad_line
    )


def _well_formed(frame: pd.DataFrame, columns: Sequence[str]) -> Predictions | None:
    """The predictions, or None where any cell is not as it should be."""
    wanted = (*REQUIRED, *OPTIONAL, *columns)
    try:
        found = {
            str(key): pa.array(frame[key], from_pandas=True)
            for key in frame.columns
            if str(key) in wanted
        }
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        return None
    return from_columns(found, columns)


def _records(cells: dict[str, list[Any]], rows: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in range(rows):
        yield row, {key: values[row] for key, values in cells.items()}


def _plain_cells(column: pd.Series) -> list[Any]:
    """A column's cells as Python values, arrays as lists, and None for what is missing."""
    return [_plain(cell) for cell in column.tolist()]


def _plain(cell: Any) -> Any:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, tuple):
        return list(cell)
    # NaN and NaT differ from themselves; pandas.NA is neither equal nor unequal to itself.
    if isinstance(cell, (str, list, dict)):
        return cell
    return cell if (cell == cell) is True else None
