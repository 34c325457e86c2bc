"""Values by label: what a column of labels says about a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from florence_eval.statistics import Estimate, estimate

NO_LABEL = "(none)"


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions with one label, and the mean of their values."""

    label: str
    estimate: Estimate


def as_json(slices: Sequence[Slice]) -> dict[str, dict[str, float | int | None]]:
    """Estimates by label, ready for JSON."""
    return {each.label: each.estimate.as_json() for each in slices}


def sliced(
    column: Sequence[Any], values: NDArray[np.float64], documents: NDArray[np.int64], *, seed: int
) -> list[Slice]:
    """The mean of (N,) values for each label of a column, by number of questions.

    A question with several labels (a list) counts in each, one without any in "(none)".
    """
    rows_of: dict[str, list[int]] = {}
    for row, found in enumerate(column):
        labels = found if isinstance(found, list) else [found]
        for label in dict.fromkeys(labels or [None]):
            rows_of.setdefault(NO_LABEL if label is None else str(label), []).append(row)
    slices = [
        Slice(label, estimate(values[rows], documents[rows], seed=seed))
        for label, rows in rows_of.items()
    ]
    return sorted(slices, key=lambda each: (-each.estimate.questions, each.label))
