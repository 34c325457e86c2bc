"""Relaxed accuracy, the metric of ChartQA and PlotQA."""

from __future__ import annotations

import re
from collections.abc import Sequence

TOLERANCE = 0.05
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?%?")


def relaxed_accuracy(
    prediction: str,
    answers: Sequence[str],
    *,
    thousands: bool = False,
    percent_unit: bool = False,
) -> float:
    """1.0 where the prediction is within 5 % of a numeric answer, or equals another, else 0.0.

    As published (Masry et al., "ChartQA", 2022, section 5.1, after Methani et al., "PlotQA", 2020,
    and as the public evaluators compute it): a text is a number where Python's `float` reads it or,
    with a final "%", reads the rest, which is then divided by 100; an answer of 0 and everything
    that is no number must match exactly but for case.

    thousands: read "1,000" as 1000. As published it is no number; "1,2,3" is none either way.
    percent_unit: read "5%" as 5. As published it is 0.05, and so wrong for an answer of "5".
    """

    def value(text: str) -> float | None:
        if thousands and _THOUSANDS.fullmatch(text.strip()):
            text = text.replace(",", "")
        scale = 1.0
        if text.endswith("%"):
            text = text.rstrip("%")
            scale = 1.0 if percent_unit else 100.0
        try:
            return float(text) / scale
        except ValueError:
            return None

    predicted = value(prediction)
    return float(any(_relaxed(prediction, predicted, answer, value(answer)) for answer in answers))


def _relaxed(prediction: str, predicted: float | None, answer: str, target: float | None) -> bool:
    if predicted is None or not target:
        return prediction.lower() == answer.lower()
    return abs(predicted - target) / abs(target) <= TOLERANCE
