"""The (prediction, answer) pairs of many questions as flat columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from florence_eval.arrow_columns import take, to_numpy

# What is made of so many questions fits a processor's cache, and the memory of one block serves the
# next: with a million at once, getting fresh memory took more time than the work.
QUESTIONS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Pairs:
    """The P pairs of N questions, question after question.

    predictions: (N,) strings. answers: (P,) strings. counts: (N,) int64, each question's number of
    answers, at least 1.
    """

    predictions: pa.Array
    answers: pa.Array
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, predictions: pa.Array, answers: pa.ListArray) -> Pairs:
        """The pairs of (N,) strings and (N,) lists of strings."""
        counts = to_numpy(pc.list_value_length(answers)).astype(np.int64)
        return cls(predictions, answers.flatten(), counts)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(N,) int64, each question's first pair."""
        starts: NDArray[np.int64] = np.cumsum(self.counts) - self.counts
        return starts

    @cached_property
    def question_of(self) -> NDArray[np.int64]:
        """(P,) int64, each pair's question."""
        rows: NDArray[np.int64] = np.repeat(np.arange(len(self.counts)), self.counts)
        return rows

    @cached_property
    def repeated(self) -> NDArray[np.bool_]:
        """(P,) bool, whether an answer is the one before it, of the same question, but for the case
        of ASCII letters: one in five of DocVQA's is. Such answers are alike wherever case counts
        for nothing."""
        folded = pc.ascii_lower(self.answers)
        found = np.zeros(len(self.answers), np.bool_)
        found[1:] = to_numpy(pc.equal(folded[1:], folded[:-1]))
        found[self.starts] = False
        return found

    def each(self, of_questions: pa.Array) -> pa.Array:
        """(N,) values, once for each pair of their question: (P,)."""
        return take(of_questions, self.question_of)

    def any(self, of_pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,), whether (P,) bool holds for any pair of a question."""
        found = np.zeros(len(self.counts), np.bool_)
        found[self.question_of[np.flatnonzero(of_pairs)]] = True
        return found

    def first(self, of_pairs: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(N,), the first pair of each question that (P,) bool holds for; its first pair where it
        holds for none."""
        chosen: NDArray[np.int64] = self.starts.copy()
        # Of several writes to one place the last stays.
        held = np.flatnonzero(of_pairs)[::-1]
        chosen[self.question_of[held]] = held
        return chosen

    def of_questions(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The pairs of the questions that are chosen, (N,) bool."""
        return np.flatnonzero(chosen[self.question_of])

    def blocks(self) -> Iterator[tuple[slice, slice, Pairs]]:
        """The questions some at a time: which questions, which pairs, and those."""
        for first in range(0, len(self.counts), QUESTIONS_AT_ONCE):
            questions = slice(first, min(first + QUESTIONS_AT_ONCE, len(self.counts)))
            places = slice(self.span(first).start, self.span(questions.stop - 1).stop)
            yield (
                questions,
                places,
                Pairs(self.predictions[questions], self.answers[places], self.counts[questions]),
            )

    def at(self, places: NDArray[np.int64]) -> Pairs:
        """The pairs at some places, in order, of the questions that have any there."""
        counts = np.bincount(self.question_of[places], minlength=len(self.counts))
        asked = np.flatnonzero(counts)
        return Pairs(take(self.predictions, asked), take(self.answers, places), counts[asked])

    def span(self, question: int) -> slice:
        """The pairs of one question."""
        return slice(int(self.starts[question]), int(self.starts[question] + self.counts[question]))
