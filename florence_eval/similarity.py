"""ANLS, average normalised Levenshtein similarity: the definition, and its variants by name.

The score of one question is `1 - min over answers of distance / length`, and 0 where that falls
below the threshold (Biten et al., "Scene Text Visual Question Answering", ICCV 2019, eq. 1). The
public copies of the official evaluator and the paper differ in what `length` is and in whether a
similarity of exactly the threshold is kept, so every score is the score of a named `Variant`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args, get_type_hints

from rapidfuzz.distance import Levenshtein

from florence_eval.errors import InputError, quoted
from florence_eval.values import canonical_number

Tie = Literal["keep", "drop"]
Length = Literal["raw", "compared"]
Unicode = Literal["none", "nfc", "nfkc"]


@dataclass(frozen=True, slots=True)
class Variant:
    """The switches under one way of computing ANLS. The defaults are the official evaluator's.

    threshold: similarities below it score 0.
    tie: whether a similarity of exactly `threshold` is kept (official) or scores 0 (paper).
    length: what the distance is divided by: the longer of the `raw` strings, upper-cased, white
        space and all (official), or of the `compared` ones (paper).
    fold_case, collapse_space: lower-case; strip and join runs of white space to one space.
    first_answer_only: ignore every reference but the first.
    strip_period: drop one final "." of prediction and answer (The Cauldron appended one).
    unicode: normalise both to NFC or NFKC first.
    coerce_numbers: write both as plain numbers where they are ones ("$1,000.0" as "1000").
    """

    threshold: float = 0.5
    tie: Tie = "keep"
    length: Length = "raw"
    fold_case: bool = True
    collapse_space: bool = True
    first_answer_only: bool = False
    strip_period: bool = False
    unicode: Unicode = "none"
    coerce_numbers: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"threshold: {self.threshold!r} is not between 0 and 1")

    @classmethod
    def parse(cls, text: str | Variant) -> Variant:
        """The variant that `text` names: "official", "paper" or "seed", and any switches after it:
        "official+strip_period+unicode=nfkc". Raises `InputError`."""
        return text if isinstance(text, Variant) else _parse(text)

    @property
    def name(self) -> str:
        """The text that `parse` reads back: the nearest named variant, and what differs from it."""
        best, switches = min(
            ((name, _differences(self, variant)) for name, variant in VARIANTS.items()),
            key=lambda candidate: len(candidate[1]),
        )
        return "+".join([best, *switches])

    @property
    def rewrites(self) -> bool:
        """Whether strings are rewritten before the evaluator's own procedure sees them."""
        return self.strip_period or self.coerce_numbers or self.unicode != "none"

    def rewrite(self, text: str) -> str:
        """`text` after the switches that no official evaluator has."""
        if self.unicode == "nfc":
            text = unicodedata.normalize("NFC", text)
        elif self.unicode == "nfkc":
            text = unicodedata.normalize("NFKC", text)
        if self.strip_period:
            text = without_final_period(text)
        if self.coerce_numbers:
            text = canonical_number(text) or text
        return text

    def compared(self, text: str) -> str:
        """The string whose distance counts, of a rewritten one."""
        if self.fold_case:
            text = text.lower()
        return " ".join(text.split()) if self.collapse_space else text

    def thresholded(self, similarity: float) -> float:
        """The score of a similarity: itself, or 0 where it falls below the threshold."""
        kept = similarity > self.threshold or (self.tie == "keep" and similarity == self.threshold)
        return similarity if kept else 0.0


VARIANTS: dict[str, Variant] = {
    "official": Variant(),
    "paper": Variant(tie="drop", length="compared"),
    "seed": Variant(
        tie="drop",
        length="compared",
        fold_case=False,
        collapse_space=False,
        first_answer_only=True,
    ),
}


def anls(
    prediction: str,
    answers: Sequence[str],
    *,
    variant: str | Variant = "official",
    threshold: float | None = None,
) -> float:
    """The ANLS of one prediction, in [0, 1]: its best score over the accepted answers.

    `threshold` replaces the variant's own, which is 0.5 in every named one. Raises `InputError` for
    a prediction that is not a string, for answers that are one string (which would be compared
    letter by letter), empty, or not strings, and for an unknown variant.
    """
    chosen = Variant.parse(variant)
    if threshold is not None:
        chosen = replace(chosen, threshold=threshold)
    return chosen.thresholded(_similarity(prediction, answers, chosen))


def nls(prediction: str, answers: Sequence[str], *, variant: str | Variant = "official") -> float:
    """`anls` without the threshold: the normalised similarity to the nearest answer, in [0, 1]."""
    return _similarity(prediction, answers, Variant.parse(variant))


def without_final_period(text: str) -> str:
    """`text` without one final "." and the white space after it; as it stands where it has none."""
    bare = text.rstrip()
    return bare[:-1] if bare.endswith(".") else text


def check_answers(prediction: object, answers: object) -> None:
    """Raises `InputError` unless `prediction` is a string and `answers` a sequence of strings."""
    if not isinstance(prediction, str):
        raise InputError(f"prediction: a string is expected, found {quoted(prediction)}")
    if isinstance(answers, str):
        raise InputError(
            f"answers: a list of strings is expected, found the string {quoted(answers)}"
        )
    if not isinstance(answers, Sequence) or not all(isinstance(a, str) for a in answers):
        raise InputError(f"answers: a list of strings is expected, found {quoted(answers)}")
    if not answers:
        raise InputError("answers: at least one answer is expected, found an empty list")


def _similarity(prediction: str, answers: Sequence[str], variant: Variant) -> float:
    check_answers(prediction, answers)
    if variant.first_answer_only:
        answers = answers[:1]
    raw_prediction = variant.rewrite(prediction)
    compared_prediction = variant.compared(raw_prediction)
    distances = []
    for answer in answers:
        raw_answer = variant.rewrite(answer)
        compared_answer = variant.compared(raw_answer)
        if variant.length == "raw":
            length = max(len(raw_prediction.upper()), len(raw_answer.upper()))
        else:
            length = max(len(compared_prediction), len(compared_answer))
        distance = Levenshtein.distance(compared_prediction, compared_answer)
        distances.append(distance / length if length else 0.0)
    # "İ" is longer in lower case than in upper case, so a distance can exceed the raw length.
    return max(0.0, 1.0 - min(distances))


def _differences(variant: Variant, named: Variant) -> list[str]:
    switches = []
    for field in fields(Variant):
        value = getattr(variant, field.name)
        if value != getattr(named, field.name):
            switches.append(field.name if value is True else f"{field.name}={value}".lower())
    return switches


@lru_cache(maxsize=64)
def _parse(text: str) -> Variant:
    name, *switches = text.split("+")
    if name not in VARIANTS:
        raise InputError(f"variant: {quoted(name)} is not one of {', '.join(VARIANTS)}")
    changes: dict[str, Any] = {}
    for switch in switches:
        key, _, value = switch.partition("=")
        if key not in _SWITCHES:
            raise InputError(f"variant: {quoted(key)} is not one of {', '.join(_SWITCHES)}")
        if key in changes:
            raise InputError(f"variant: {key} is there twice in {quoted(text)}; once is accepted")
        changes[key] = _SWITCHES[key](key, value)
    return replace(VARIANTS[name], **changes)


def _boolean(key: str, value: str) -> bool:
    if value in ("", "true"):
        return True
    if value == "false":
        return False
    raise InputError(f"variant: {key} is true or false, found {value!r}")


def _fraction(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"variant: {key} is a number, found {value!r}") from None


def _one_of(choices: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        if value not in choices:
            raise InputError(f"variant: {key} is one of {', '.join(choices)}, found {value!r}")
        return value

    return read


def _reader(annotation: Any) -> Callable[[str, str], Any]:
    if annotation is bool:
        return _boolean
    return _fraction if annotation is float else _one_of(get_args(annotation))


_SWITCHES = {key: _reader(hint) for key, hint in get_type_hints(Variant).items()}
