"""What is wrong with a prediction: one category a question, decided in a fixed order.

`docs/evaluation.md` has the definitions in one table; `CATEGORIES` is in the order of deciding. All
but two look at the question's own answers, and those two at the others of the same document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from florence_eval.folding import bare, skeletons, without_space, words
from florence_eval.matching import Matches
from florence_eval.similarity import Variant
from florence_eval.values import NUMBER_WORDS, number, same_value

CATEGORIES = (
    "exact",
    "case_or_space",
    "empty",
    "yes_no_flipped",
    "punctuation",
    "number_format",
    "repetition",
    "over_long",
    "truncated",
    "near_miss",
    "wrong_field",
    "wrong_number",
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
    OVER_LONG,
    TRUNCATED,
    NEAR_MISS,
    WRONG_FIELD,
    WRONG_NUMBER,
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
    variant: Variant,
) -> NDArray[np.int32]:
    """The category of each of N questions, (N,) int32 positions in `CATEGORIES`.

    `matches` are those of `variant`. Without `documents` (one a question), no answer of another
    question is looked at.
    """
    codes = np.zeros(len(predictions), np.int32)
    undecided = ~matches.exact
    if variant.fold_case and not variant.rewrites:
        # No distance between the compared strings says as much as comparing them again.
        alike = undecided & (matches.distance == 0)
        codes[alike] = CASE_OR_SPACE
        undecided &= ~alike
    rows = np.flatnonzero(undecided)
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
    pairs = _Pairs(answers)
    codes = np.where(similarity >= NEAR, NEAR_MISS, WRONG).astype(np.int32)
    nearest = (pairs.starts + best_index).tolist()
    bare_predictions, bare_answers = bare(predictions), bare(pairs.flat)
    same_bare = np.fromiter(
        map(str.__eq__, pairs.each(bare_predictions), bare_answers), np.bool_, len(bare_answers)
    )

    holds = map(str.__contains__, pairs.each(bare_predictions), bare_answers)
    held = map(str.__contains__, bare_answers, pairs.each(bare_predictions))
    parts = np.flatnonzero(pairs.any(holds) | pairs.any(held)).tolist()
    their_words = iter(words(list(chain.from_iterable(answers[row] for row in parts))))
    for row, prediction in zip(parts, words([predictions[row] for row in parts]), strict=True):
        own = [next(their_words) for _ in answers[row]]
        # A prediction may be part of one answer and contain another: the nearest decides.
        own.insert(0, own.pop(int(best_index[row])))
        codes[row] = _part(prediction, own, int(codes[row]))

    same_format = []
    for row, text in enumerate(bare_predictions):
        if text.isalpha() and text not in NUMBER_WORDS:
            continue
        values = [same_value(predictions[row], answer) for answer in answers[row]]
        if values[best_index[row]] is False or _differs_in_digits(
            predictions[row], pairs.flat[nearest[row]]
        ):
            codes[row] = WRONG_NUMBER
        if True in values:
            same_format.append(row)
        for pair, same in enumerate(values, int(pairs.starts[row])):
            if same is False:
                same_bare[pair] = False

    for row, (prediction, place) in enumerate(zip(predictions, nearest, strict=True)):
        long = len(prediction) >= _SHORTEST_LOOP and len(prediction) > 2 * len(pairs.flat[place])
        if long and _is_loop(prediction):
            codes[row] = REPETITION
    codes[same_format] = NUMBER_FORMAT
    equal = pairs.any(same_bare)
    codes[equal & np.array(list(map(bool, bare_predictions)))] = PUNCTUATION

    asked = pairs.any(answer in _YES_NO for answer in bare_answers)
    for row in np.flatnonzero(asked).tolist():
        said = _FIRST_WORD.match(predictions[row])
        if said is not None and said[1].lower() not in bare(answers[row]):
            codes[row] = YES_NO_FLIPPED
    codes[[not text or text.isspace() for text in predictions]] = EMPTY
    for row in np.flatnonzero(equal).tolist():
        (folded,) = without_space([predictions[row]])
        if folded in without_space(answers[row]):
            codes[row] = CASE_OR_SPACE
    return codes


class _Pairs:
    """The (prediction, answer) pairs of N questions, question after question.

    flat: the answer of each pair. counts, starts: (N,) int64, each question's number of pairs and
    its first. row_of: the question of each pair.
    """

    def __init__(self, answers: list[Sequence[str]]) -> None:
        self.flat = list(chain.from_iterable(answers))
        self.counts = np.array(list(map(len, answers)), np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.row_of = np.repeat(np.arange(len(answers)), self.counts)
        self._times: list[int] = self.counts.tolist()

    def each(self, texts: list[str]) -> chain[str]:
        """Each question's text, once for each of its pairs."""
        return chain.from_iterable(map(repeat, texts, self._times))

    def any(self, of_pairs: Iterable[bool]) -> NDArray[np.bool_]:
        """Whether a test of pairs holds for any of a question's, (N,) bool."""
        tested = np.fromiter(of_pairs, np.bool_, len(self.flat))
        found: NDArray[np.bool_] = np.logical_or.reduceat(tested, self.starts)
        return found


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


def _differs_in_digits(prediction: str, answer: str) -> bool:
    """Whether two texts are the same but for their numbers: "$184 million", "$278 million"."""
    own, other = skeletons([prediction, answer])
    return "#" in own and own == other


def _is_loop(prediction: str) -> bool:
    """Whether one unit, three times running or more, makes up over half of a long prediction."""
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
    flat = bare(list(chain.from_iterable(accepted)))
    # Where in `flat` the answers of each row are, and those of each document.
    ends = np.cumsum(list(map(len, accepted)), dtype=np.int64).tolist()
    place_of = dict(zip(involved, zip([0, *ends], ends, strict=False), strict=True))
    candidates = [row for row in candidates if row in place_of]
    owns: list[str] = []
    others: list[str] = []
    rows: list[int] = []
    for row, own in zip(candidates, bare([predictions[row] for row in candidates]), strict=True):
        group = groups[documents[row]]
        start, end = place_of[row]
        elsewhere = flat[place_of[group[0]][0] : start] + flat[end : place_of[group[-1]][1]]
        if own in elsewhere:
            codes[row] = WRONG_FIELD
        # Short texts are near by chance, and numbers that look alike say nothing.
        elif codes[row] == WRONG and len(own) >= _SHORTEST_CUT and number(predictions[row]) is None:
            owns += [own] * len(elsewhere)
            others += elsewhere
            rows += [row] * len(elsewhere)
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
