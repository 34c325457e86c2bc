"""Metrics of text against accepted answers, each of one question."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the prediction equals an answer after `strip` and `lower`, else 0.0."""
    compared = prediction.strip().lower()
    return float(any(compared == answer.strip().lower() for answer in answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 of bags of words over the answers, in [0, 1].

    Words are SQuAD's (Rajpurkar et al., 2016): lower case, no ASCII punctuation, no articles. Where
    either side has no words left, 1.0 if both have none and else 0.0, as SQuAD 2.0's script has it.
    """
    predicted = squad_words(prediction)
    return max(_f1(predicted, squad_words(answer)) for answer in answers)


def squad_words(text: str) -> list[str]:
    """The words of a text that `token_f1` counts."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def cer(prediction: str, answers: Sequence[str]) -> float:
    """Character error rate to the nearest answer: edits / characters of the answer; 0 is best.

    Case and punctuation count; white space around does not. Can exceed 1. Against an empty answer
    it is 0.0 for an empty prediction and else 1.0.
    """
    return min(error_rate(prediction.strip(), answer.strip()) for answer in answers)


def wer(prediction: str, answers: Sequence[str]) -> float:
    """Word error rate to the nearest answer, as `cer`, of words parted by white space.

    Any white space parts words, a line break or a tab too. (jiwer's default parts at spaces alone,
    and so takes "two\\nlines" for one word.)
    """
    return min(error_rate(prediction.split(), answer.split()) for answer in answers)


def error_rate(predicted: Sequence[str], reference: Sequence[str]) -> float:
    """Edits over the reference's length; 1.0 for anything but nothing against nothing."""
    if not reference:
        return float(bool(predicted))
    return Levenshtein.distance(predicted, reference) / len(reference)


def _f1(predicted: list[str], reference: list[str]) -> float:
    if not predicted or not reference:
        return float(predicted == reference)
    common = (Counter(predicted) & Counter(reference)).total()
    return 2 * common / (len(predicted) + len(reference))
