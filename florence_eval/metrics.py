"""The metrics by name, and what computes each for many questions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from florence_eval import captions, choices, structured, text_metrics
from florence_eval.errors import InputError, quoted
from florence_eval.relaxed import relaxed_accuracy
from florence_eval.similarity import without_final_period
from florence_eval.vqa import LEAST_ANSWERS, vqa_accuracy

OfOneQuestion = Callable[..., float]

# `match` computes these for all questions at once; cider is of all together; the rest are of one.
_FROM_MATCHES = ("anls", "nls")
_OF_ONE: dict[str, OfOneQuestion] = {
    "exact_match": text_metrics.exact_match,
    "token_f1": text_metrics.token_f1,
    "relaxed_accuracy": relaxed_accuracy,
    "vqa_accuracy": vqa_accuracy,
    "multiple_choice": choices.multiple_choice,
    "cer": text_metrics.cer,
    "wer": text_metrics.wer,
    "anls_star": structured.anls_star,
}
NAMES = (*_FROM_MATCHES, *_OF_ONE, "cider")
ERROR_RATES = ("cer", "wer")

_FINAL_ANSWER = re.compile(r".*\banswer(?:\s+is|\s*:)\s*:?\s*", re.IGNORECASE | re.DOTALL)
_REWRITES: dict[str, Callable[[str], str]] = {
    "strip_period": without_final_period,
    "final_answer": lambda text: _FINAL_ANSWER.sub("", text, count=1).strip(),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its switches.

    name: one of `NAMES`.
    switches: keyword arguments of the metric's function that are on, and of `rewrites`:
        `strip_period` drops one final "." of predictions and answers, `final_answer` keeps what
        follows the last "answer:" or "answer is" in them.
    """

    name: str
    switches: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Metric:
        """The metric that `text` names: "relaxed_accuracy" or "relaxed_accuracy+thousands".
        Raises `InputError`."""
        return _parse(text)

    def __str__(self) -> str:
        return "+".join([self.name, *self.switches])

    @property
    def lower_is_better(self) -> bool:
        return self.name in ERROR_RATES

    @property
    def worst(self) -> float:
        """The value of a question that was not answered."""
        return 1.0 if self.lower_is_better else 0.0

    @property
    def least_answers(self) -> int:
        """How many answers a question must have to be scored."""
        counted = self.name == "vqa_accuracy" and "any_answer" not in self.switches
        return LEAST_ANSWERS if counted else 1

    @property
    def of_corpus(self) -> bool:
        """Whether a question's value depends on the other questions."""
        return self.name == "cider"

    def values(
        self,
        predictions: Sequence[str],
        answers: Sequence[Sequence[str]],
        questions: Sequence[str | None],
    ) -> NDArray[np.float64]:
        """The metric of each of N questions, (N,) float64; not for anls and nls, which `match`
        computes. Raises `InputError`."""
        rewritten = self._rewritten(predictions)
        accepted = [self._rewritten(each) for each in answers]
        if self.name == "cider":
            return np.array(captions.cider(rewritten, accepted), np.float64)
        function = self._function()
        if self.name == "multiple_choice":
            lettered = map(choices.read_choices, questions)
            scored = map(function, rewritten, accepted, lettered)
        else:
            scored = map(function, rewritten, accepted)
        return np.fromiter(scored, np.float64, len(predictions))

    def _function(self) -> OfOneQuestion:
        own = {switch: True for switch in self.switches if switch not in _REWRITES}
        return partial(_OF_ONE[self.name], **own)

    def _rewritten(self, texts: Iterable[str]) -> list[str]:
        rewritten = list(texts)
        for switch in self.switches:
            if switch in _REWRITES:
                rewritten = list(map(_REWRITES[switch], rewritten))
        return rewritten


def corpus_error_rate(
    metric: Metric, predictions: Sequence[str | None], answers: Sequence[Sequence[str]]
) -> float:
    """`cer` or `wer` of a whole set: all edits over all reference characters or words.

    The reference of each question is the answer with the smallest rate of its own. A prediction of
    None is missing: all of its shortest answer is wrong, even if that is empty.
    """
    part: Callable[[str], Any] = str.strip if metric.name == "cer" else str.split
    edits, length = 0.0, 0
    for prediction, accepted in zip(predictions, map(metric._rewritten, answers), strict=True):
        references = [part(answer) for answer in accepted]
        if prediction is None:
            rate, size = metric.worst, max(1, min(map(len, references)))
        else:
            (predicted,) = map(part, metric._rewritten([prediction]))
            rate, size = min(
                (text_metrics.error_rate(predicted, reference), max(len(reference), 1))
                for reference in references
            )
        edits += rate * size
        length += size
    return edits / length


@lru_cache(maxsize=256)
def _parse(text: str) -> Metric:
    name, *switches = text.split("+")
    if name == "auto":
        raise InputError(
            "metric: auto takes the standard metric of each question; it stands alone, found "
            f"{quoted(text)} beside others, with a switch or in a row"
        )
    if name not in NAMES:
        raise InputError(f"metric: {quoted(name)} is not one of auto, {', '.join(NAMES)}")
    if len(set(switches)) < len(switches):
        raise InputError(f"metric: a switch is there twice in {quoted(text)}; once is accepted")
    if switches and name in _FROM_MATCHES:
        raise InputError(
            f"metric: {name} has no switches; the variant has ({text!r} was asked for)"
        )
    own = _OF_ONE.get(name)
    parameters = inspect.signature(own).parameters.values() if own else ()
    accepted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] + list(_REWRITES)
    for switch in switches:
        if switch not in accepted:
            raise InputError(
                f"metric: {name} has the switches {', '.join(accepted)}, not {switch!r}"
            )
    return Metric(name, tuple(switches))
