"""How sure a mean is: intervals that resample documents, and the analytic error beside them.

Questions of one document succeed and fail together, so the document is the unit of chance: an
interval over questions would be too narrow.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from florence_eval import arrow_columns

RESAMPLES = 10_000
LEVEL = 0.95
# Resampled documents a call may draw: 10,000 times 10,000 take a second or so. Above, the analytic
# interval, which is as good with that many documents, stands alone.
_DRAWS = 10**8
_DRAWS_AT_ONCE = 4 * 10**6
_Z = 1.959963984540054
# Power of 80 %: the normal quantile that a true difference must clear beyond _Z.
_Z_POWER = 0.8416212335729143


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions and how sure it is.

    mean: of `questions` values; NaN where there are none.
    standard_error: clustered by document; NaN for fewer than two documents.
    low, high: the 95 % interval from the standard error.
    bootstrap_low, bootstrap_high: the 95 % percentile interval over resampled documents; NaN where
        it was not computed.
    """

    mean: float
    questions: int
    documents: int
    standard_error: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float

    def as_json(self) -> dict[str, float | int | None]:
        """The fields for JSON, which has no NaN: None instead."""
        return {key: known(value) for key, value in asdict(self).items()}


def known(value: float) -> float | None:
    """A number as JSON has it: None for NaN."""
    return None if value != value else value


def document_codes(documents: pa.Array) -> NDArray[np.int64]:
    """A number from 0 for each distinct one of (N,) strings, in the order of coming, (N,) int64."""
    return arrow_columns.to_numpy(documents.dictionary_encode().indices).astype(np.int64)


def estimate(
    values: NDArray[np.float64],
    documents: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of (N,) values, and its intervals; `documents` is (N,), a number for each."""
    sums, counts = cluster_sums(values, documents)
    error = clustered_error(sums, counts)
    mean = float(sums.sum() / counts.sum()) if len(counts) else float("nan")
    if len(counts) > 1 and resamples * len(counts) <= _DRAWS:
        low, high = bootstrap_interval(sums, counts, resamples=resamples, seed=seed)
    else:
        low = high = float("nan")
    return Estimate(
        mean, len(values), len(counts), error, mean - _Z * error, mean + _Z * error, low, high
    )


def cluster_sums(
    values: NDArray[np.float64], documents: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum of values and the number of questions of each of D documents that occur."""
    if not len(values):
        return np.zeros(0), np.zeros(0)
    counts = np.bincount(documents)
    sums = np.bincount(documents, weights=values)
    present = counts > 0
    return sums[present].astype(np.float64), counts[present].astype(np.float64)


def clustered_error(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The standard error of the mean of questions that come in D clusters.

    The cluster-robust ("sandwich") error of a mean, with the D / (D - 1) correction for few
    clusters (Cameron & Miller, "A Practitioner's Guide to Cluster-Robust Inference", 2015); NaN for
    fewer than two.
    """
    clusters = len(counts)
    if clusters < 2:
        return float("nan")
    residuals = sums - counts * (sums.sum() / counts.sum())
    variance = clusters / (clusters - 1) * np.square(residuals).sum()
    return float(np.sqrt(variance) / counts.sum())


def bootstrap_interval(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The percentile interval of the mean over resamples of D documents, drawn with replacement.

    Every question of a drawn document comes with it, so the number of questions varies.
    """
    clusters = len(counts)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // clusters)
    for start in range(0, resamples, step):
        drawn = generator.integers(0, clusters, (min(step, resamples - start), clusters), np.int32)
        means[start : start + step] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_p_value(
    sums: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """The two-sided p-value of D paired document sums of differences being 0 on average.

    If two models are exchangeable, swapping them on a document flips the sign of its sum: the share
    of random flips whose total is at least as far from 0 as the one seen, the seen one counted.
    NaN where that would take more than 10⁸ flips.
    """
    sums = sums[sums != 0]
    if resamples * len(sums) > _DRAWS:
        return float("nan")
    if not len(sums):
        return 1.0
    # Rounding must not make a flip that is equally far from 0 look nearer.
    seen = abs(sums.sum()) * (1 - 1e-12)
    generator = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // len(sums))
    as_far = 0
    for start in range(0, resamples, step):
        size = (min(step, resamples - start), len(sums))
        signs = generator.integers(0, 2, size, np.int8).astype(np.float64) * 2 - 1
        as_far += int((np.abs(signs @ sums) >= seen).sum())
    return (as_far + 1) / (resamples + 1)


def detectable_difference(standard_error: float) -> float:
    """The smallest true difference that a two-sided test at 5 % would have found four times in
    five, of a difference with this standard error."""
    return (_Z + _Z_POWER) * standard_error
