"""A pandas DataFrame of predictions: the keys of a prediction as columns, one row a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from florence_eval.predictions import (
    OPTIONAL,
    REQUIRED,
    OnBadLine,
    Predictions,
    Source,
    from_records,
    labels,
)

if TYPE_CHECKING:
    import pandas as pd


def parse_predictions(
    frame: pd.DataFrame, name: str, columns: Sequence[str], on_bad_line: OnBadLine
) -> Predictions:
    """The predictions in a DataFrame; messages count its rows from 0. Raises `InputError`."""
    cells = {str(key): _plain_cells(frame[key]) for key in frame.columns}
    predictions = _well_formed(cells, len(frame), columns)
    if predictions is not None:
        return predictions
    source = Source(name, "row")
    return from_records(
        _records(cells, len(frame)), source, columns=columns, on_bad_line=on_bad_line
    )


def _well_formed(
    cells: dict[str, list[Any]], rows: int, columns: Sequence[str]
) -> Predictions | None:
    """The predictions, or None where any cell is not as it should be."""
    if not rows or not all(key in cells for key in REQUIRED):
        return None
    absent = [None] * rows
    found = {key: cells.get(key, absent) for key in (*REQUIRED, *OPTIONAL)}
    texts = [
        found[key] for key in ("question", "image", "source", "metric", "doc_id") if key in cells
    ]
    accepted = list(filter(None, found["answers"]))
    types = list(chain.from_iterable(map(labels, cells.get("question_types", ()))))
    if not (
        set(map(type, found["question_id"])) in ({str}, {int})
        and set(map(type, found["prediction"])) == {str}
        and set(map(type, accepted)) <= {list}
        and len(accepted) + found["answers"].count(None) == rows
        and set(map(type, chain.from_iterable(accepted))) <= {str}
        and all(set(map(type, text)) <= {str, type(None)} for text in texts)
        and set(map(type, types)) <= {str}
        and all(map(_is_unicode, (found["prediction"], *texts)))
        and _is_unicode(chain.from_iterable(accepted))
        and _is_unicode(types)
    ):
        return None
    return Predictions(
        question_id=list(map(str, found["question_id"])),
        prediction=found["prediction"],
        answers=found["answers"],
        question=found["question"],
        image=found["image"],
        doc_id=found["doc_id"],
        source=found["source"],
        question_types=(
            list(map(labels, cells["question_types"]))
            if "question_types" in cells
            else [[] for _ in range(rows)]
        ),
        metric=found["metric"],
        columns={key: cells.get(key, absent) for key in columns if key not in found},
    )


def _is_unicode(texts: Iterable[str | None]) -> bool:
    try:
        "".join(filter(None, texts)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _records(cells: dict[str, list[Any]], rows: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in range(rows):
        yield row, {key: values[row] for key, values in cells.items()}


def _plain_cells(column: pd.Series) -> list[Any]:
    """A column's cells as Python values, arrays as lists, and None for what is missing."""
    cells = column.tolist()
    if set(map(type, cells)) <= {str, int, list}:
        return cells
    return [_plain(cell) for cell in cells]


def _plain(cell: Any) -> Any:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, tuple):
        return list(cell)
    # NaN and NaT differ from themselves; pandas.NA is neither equal nor unequal to itself.
    if isinstance(cell, (str, list, dict)):
        return cell
    return cell if (cell == cell) is True else None
