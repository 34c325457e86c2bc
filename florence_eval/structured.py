"""ANLS*, the generalisation of ANLS to lists and dictionaries, by its authors' package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from florence_eval.errors import InputError


def anls_star(prediction: Any, answers: Sequence[Any]) -> float:
    """The best ANLS* of a prediction over the accepted answers, in [0, 1].

    Prediction and answers are strings, lists or dictionaries of those; a string that is a JSON
    array or object is read as one, because that is how a model writes it. Computed by the package
    `anls_star` (Peer et al., "ANLS* - A Universal Document Processing Metric for Generative Large
    Language Models", 2024), whose strings are compared in its own way, strict at the threshold: it
    is no variant of `anls`. A prediction nested deeper than the package can follow, as a model that
    repeats a bracket writes it, is compared as text. Raises `InputError` for such an answer, and
    where that package is not installed.
    """
    try:
        anls_score = import_module("anls_star").anls_score
    except ImportError:
        raise InputError(
            "metric: anls_star needs the package anls_star; install florence-docs[metrics]"
        ) from None
    references = [_structure(answer) for answer in answers]

    def best(predicted: Any) -> float:
        return max(float(anls_score(gt=reference, pred=predicted)) for reference in references)

    try:
        return best(_structure(prediction))
    except RecursionError:
        pass
    try:
        return best(str(prediction))
    except RecursionError:
        raise InputError("answers: anls_star cannot follow an answer nested so deeply") from None


def _structure(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
