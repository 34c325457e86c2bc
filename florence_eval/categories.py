"""What is wrong with a prediction: one category a question, decided in a fixed order.

`docs/evaluation.md` has the definitions in one table; `CATEGORIES` is in the order of deciding. All
but two look at the question's own answers, and those two at the others of the same document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from florence_eval.folding import bare, skeletons, without_space, words
from florence_eval.matching import Matches
from florence_eval.values import NUMBER_WORDS, number, same_value

CATEGORIES = (
    "exact",
    "case_or_space",
    "empty",
    "yes_no_flipped",
    "punctuation",
    "number_format",
    "repetition",
    "wrong_field",
    "wrong_number",
    "over_long",
    "truncated",
    "near_miss",
    "other_reference_nearer",
    "wrong",
)
(
    EXACT,
    CASE_OR_SPACE,
    EMPTY,
    YES_NO_FLIPPED,
    PUNCTUATION,
    NUMBER_FORMAT,
    REPETITION,
    WRONG_FIELD,
    WRONG_NUMBER,
    OVER_LONG,
    TRUNCATED,
    NEAR_MISS,
    OTHER_REFERENCE_NEARER,
    WRONG,
) = range(len(CATEGORIES))

NEAR = 0.5
_SHORTEST_CUT = 4
_SHORTEST_LOOP = 16
_LOOP = re.compile(r"(.{1,80}?)\1{2,}", re.DOTALL)
_YES_NO = frozenset(("yes", "no"))
_FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def categorise(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    documents: Sequence[str] | None,
    matches: Matches,
) -> NDArray[np.int32]:
    """The category of each of N questions, (N,) int32 positions in `CATEGORIES`.

    Without `documents` (one a question), no answer of another question is looked at.
    """
    codes = np.zeros(len(predictions), np.int32)
    rows = np.flatnonzero(~matches.exact)
    chosen = rows.tolist()
    folded_answers = iter(without_space(list(chain.from_iterable(answers[row] for row in chosen))))
    folded = without_space([predictions[row] for row in chosen])
    same = [
        text in [next(folded_answers) for _ in answers[row]]
        for row, text in zip(chosen, folded, strict=True)
    ]
    codes[rows] = CASE_OR_SPACE
    rows = rows[~np.array(same, np.bool_)]
    if len(rows):
        chosen = rows.tolist()
        codes[rows] = _against_own(
            [predictions[row] for row in chosen],
            [answers[row] for row in chosen],
            matches.best_index[rows],
            matches.similarity[rows],
        )
    if documents is not None:
        _look_at_other_questions(codes, predictions, answers, documents, matches)
    return codes


def _against_own(
    predictions: list[str],
    answers: list[Sequence[str]],
    best_index: NDArray[np.int32],
    similarity: NDArray[np.float64],
) -> NDArray[np.int32]:
    """The categories as far as the questions' own answers decide them.

    Each test is made of all rows at once, or of those few that a cheap test leaves; the tests that
    are decided first are written last.
    """
    counts = np.fromiter(map(len, answers), np.int64, len(answers))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    row_of = np.repeat(np.arange(len(answers)), counts)
    flat = list(chain.from_iterable(answers))
    times = counts.tolist()

    def any_answer(of_pairs: list[bool]) -> NDArray[np.bool_]:
        """Whether a test of (prediction, answer) pairs holds for any of a question's answers."""
        found: NDArray[np.bool_] = np.logical_or.reduceat(np.array(of_pairs, np.bool_), starts)
        return found

    def with_each_answer(texts: list[str]) -> chain[str]:
        return chain.from_iterable(map(repeat, texts, times))

    codes = np.where(similarity >= NEAR, NEAR_MISS, WRONG).astype(np.int32)

    bare_predictions, bare_answers = bare(predictions), bare(flat)
    inside = [
        one in other or other in one
        for one, other in zip(with_each_answer(bare_predictions), bare_answers, strict=True)
    ]
    parts = np.flatnonzero(any_answer(inside)).tolist()
    their_words = iter(words(list(chain.from_iterable(answers[row] for row in parts))))
    for row, prediction in zip(parts, words([predictions[row] for row in parts]), strict=True):
        own = [next(their_words) for _ in answers[row]]
        # A prediction may be part of one answer and contain another: the nearest decides.
        own.insert(0, own.pop(int(best_index[row])))
        codes[row] = _part(prediction, own, int(codes[row]))
    nearest = (starts + best_index).tolist()

    # Values: only where prediction and answer both hold digits or are number words.
    bones, bones_of_answers = skeletons(predictions), skeletons(flat)
    numeric = ["#" in bone or bone in NUMBER_WORDS for bone in bones]
    numeric_answer = ["#" in bone or bone in NUMBER_WORDS for bone in bones_of_answers]
    other_digits = [
        has and bone == bones_of_answers[place]
        for has, bone, place in zip(numeric, bones, nearest, strict=True)
    ]
    codes[np.array(other_digits)] = WRONG_NUMBER
    pairs = np.flatnonzero(np.repeat(np.array(numeric), counts) & np.array(numeric_answer))
    same_format, differ = set(), set()
    for pair, row in zip(pairs.tolist(), row_of[pairs].tolist(), strict=True):
        same = same_value(predictions[row], flat[pair])
        if same:
            same_format.add(row)
        elif same is False:
            differ.add(pair)
    codes[[row for row, place in enumerate(nearest) if place in differ]] = WRONG_NUMBER

    for row, place in enumerate(nearest):
        if len(predictions[row]) >= _SHORTEST_LOOP and _is_loop(predictions[row], flat[place]):
            codes[row] = REPETITION
    codes[list(same_format)] = NUMBER_FORMAT
    equal = [
        bool(one) and one == other and pair not in differ
        for pair, (one, other) in enumerate(
            zip(with_each_answer(bare_predictions), bare_answers, strict=True)
        )
    ]
    codes[any_answer(equal)] = PUNCTUATION

    asked = any_answer([answer in _YES_NO for answer in bare_answers])
    for row in np.flatnonzero(asked).tolist():
        said = _FIRST_WORD.match(predictions[row])
        if said is not None and said[1].lower() not in bare(answers[row]):
            codes[row] = YES_NO_FLIPPED
    codes[[not text or text.isspace() for text in predictions]] = EMPTY
    return codes


def _part(prediction: str, answers: list[str], otherwise: int) -> int:
    """OVER_LONG where the words of an answer are among the prediction's, TRUNCATED where it is the
    other way round or a few letters of the prediction begin an answer. Words have spaces around."""
    if not prediction.strip():
        return otherwise
    for answer in answers:
        if answer.strip() and answer in prediction:
            return OVER_LONG
        if prediction in answer:
            return TRUNCATED
        if len(prediction) > _SHORTEST_CUT + 1 and answer.startswith(prediction.rstrip()):
            return TRUNCATED
    return otherwise


def _is_loop(prediction: str, answer: str) -> bool:
    """Whether one unit, three times running or more, makes up over half of a long prediction."""
    if len(prediction) <= 2 * len(answer):
        return False
    # Such a loop holds the middle, so four characters left or right of there come again.
    middle = len(prediction) // 2
    left, right = prediction[middle - 4 : middle], prediction[middle : middle + 4]
    if prediction.count(left) < 2 and prediction.count(right) < 2:
        return False
    return any(2 * len(loop[0]) > len(prediction) for loop in _LOOP.finditer(prediction))


def _look_at_other_questions(
    codes: NDArray[np.int32],
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    documents: Sequence[str],
    matches: Matches,
) -> None:
    """Writes WRONG_FIELD and OTHER_REFERENCE_NEARER into `codes`."""
    candidates = np.flatnonzero((codes == WRONG) | (codes == WRONG_NUMBER)).tolist()
    wanted = {documents[row] for row in candidates}
    groups: dict[str, list[int]] = {document: [] for document in wanted}
    for row, document in enumerate(documents):
        if document in wanted:
            groups[document].append(row)
    involved = [row for group in groups.values() if len(group) > 1 for row in group]
    accepted = [answers[row] for row in involved]
    parted = iter(bare(list(chain.from_iterable(accepted))))
    answers_of = {
        row: [next(parted) for _ in own] for row, own in zip(involved, accepted, strict=True)
    }
    candidates = [row for row in candidates if row in answers_of]
    owns: list[str] = []
    others: list[str] = []
    rows: list[int] = []
    for row, own in zip(candidates, bare([predictions[row] for row in candidates]), strict=True):
        elsewhere = [
            answer
            for other in groups[documents[row]]
            if other != row
            for answer in answers_of[other]
        ]
        if own in elsewhere:
            codes[row] = WRONG_FIELD
        # Short texts are near by chance, and numbers that look alike say nothing.
        elif codes[row] == WRONG and len(own) >= _SHORTEST_CUT and number(predictions[row]) is None:
            owns.extend(repeat(own, len(elsewhere)))
            others.extend(elsewhere)
            rows.extend(repeat(row, len(elsewhere)))
    if rows:
        near = cpdist(
            owns,
            others,
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=NEAR,
            dtype=np.float64,
            workers=1,
        )
        row_array = np.array(rows)
        nearer = (near >= NEAR) & (near > matches.similarity[row_array])
        codes[row_array[nearer]] = OTHER_REFERENCE_NEARER
