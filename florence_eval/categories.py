"""What is wrong with a prediction: one category a question, decided in a fixed order.

`docs/evaluation.md` has the definitions in one table; `CATEGORIES` is in the order of deciding. All
but two look at the question's own answers, and those two at the others of the same document.
"""

from __future__ import annotations

import re
from itertools import chain, repeat
from operator import contains

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from florence_eval import arrow_columns
from florence_eval.arrow_text import bare
from florence_eval.folding import skeletons, without_space, words
from florence_eval.matching import Matches
from florence_eval.pairs import Pairs, ranges
from florence_eval.similarity import Variant
from florence_eval.values import ANY_DATE, ANY_NUMBER, NUMBER_WORDS, number, same_value

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
_YES_NO = arrow_columns.strings(["yes", "no"])
_NUMBER_WORDS = arrow_columns.strings(list(NUMBER_WORDS))
# Compared answers of other questions that are in memory at once.
_PAIRS_AT_ONCE = 2**18
_FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def categorise(
    pairs: Pairs, documents: pa.Array | None, matches: Matches, variant: Variant
) -> NDArray[np.int32]:
    """The category of each of N questions, (N,) int32 positions in `CATEGORIES`.

    documents: (N,) strings; without them no answer of another question is looked at. `matches` are
    those of `variant`.
    """
    codes = np.zeros(len(matches.exact), np.int32)
    undecided = ~matches.exact
    if variant.fold_case and not variant.rewrites:
        # No distance between the compared strings says as much as comparing them again.
        alike = undecided & (matches.distance == 0)
        codes[alike] = CASE_OR_SPACE
        undecided &= ~alike
    rows = np.flatnonzero(undecided)
    if not len(rows):
        return codes
    some = pairs.take(rows)
    bare_answers = bare(pairs.answers)
    bare_predictions = bare(some.predictions)
    own_answers = bare_answers.take(arrow_columns.numbers(pairs.of_questions(rows)))
    for questions, places, block in some.blocks():
        codes[rows[questions]] = _against_own(
            block,
            bare_predictions[questions],
            own_answers[places],
            block.starts + matches.best_index[rows[questions]],
            matches.similarity[rows[questions]],
        )
    if documents is not None:
        _look_at_other_questions(
            codes, rows, pairs, bare_predictions, bare_answers, documents, matches
        )
    return codes


def _against_own(
    pairs: Pairs,
    bare_predictions: pa.Array,
    bare_answers: pa.Array,
    nearest: NDArray[np.int64],
    similarity: NDArray[np.float64],
) -> NDArray[np.int32]:
    """The categories as far as the questions' own answers decide them; `nearest` is each question's
    best pair.

    Each test is made of all rows at once, or of those few that a cheap test leaves; the tests that
    are decided first are written last.
    """
    codes = np.where(similarity >= NEAR, NEAR_MISS, WRONG).astype(np.int32)
    predictions, answers = pairs.predictions.to_pylist(), pairs.answers.to_pylist()

    rows, parts = _parts(pairs, predictions, answers, bare_predictions, bare_answers, nearest)
    codes[rows] = np.where(parts != WRONG, parts, codes[rows])

    numeric = _may_be_value(bare_predictions)[pairs.question_of] & _may_be_value(bare_answers)
    places = np.flatnonzero(numeric)
    same, different = np.zeros((2, len(answers)), np.bool_)
    same[places], different[places] = _same_values(
        pairs.predictions.take(arrow_columns.numbers(pairs.question_of[places])),
        pairs.answers.take(arrow_columns.numbers(places)),
    )
    rows = np.flatnonzero(numeric[nearest])
    own = skeletons([predictions[row] for row in rows.tolist()])
    other = skeletons([answers[pair] for pair in nearest[rows].tolist()])
    in_digits = ["#" in one and one == two for one, two in zip(own, other, strict=True)]
    codes[rows[np.array(in_digits, np.bool_) | different[nearest[rows]]]] = WRONG_NUMBER

    size = _lengths(pairs.predictions)
    long = (size >= _SHORTEST_LOOP) & (size > 2 * _lengths(pairs.answers)[nearest])
    for row in np.flatnonzero(long).tolist():
        if _is_loop(predictions[row]):
            codes[row] = REPETITION
    codes[pairs.any(same)] = NUMBER_FORMAT

    equal = _flags(pc.equal(pairs.each(bare_predictions), bare_answers)) & ~different
    nothing = _lengths(bare_predictions) == 0
    codes[pairs.any(equal) & ~nothing] = PUNCTUATION
    asked = pairs.any(_flags(pc.is_in(bare_answers, _YES_NO)))
    for row in np.flatnonzero(asked).tolist():
        said = _FIRST_WORD.match(predictions[row])
        if said is not None and said[1].lower() not in bare_answers[pairs.span(row)].to_pylist():
            codes[row] = YES_NO_FLIPPED
    for row in np.flatnonzero(nothing).tolist():
        if not predictions[row] or predictions[row].isspace():
            codes[row] = EMPTY
    for row in np.flatnonzero(pairs.any(equal)).tolist():
        (folded,) = without_space([predictions[row]])
        if folded in without_space(answers[pairs.span(row)]):
            codes[row] = CASE_OR_SPACE
    return codes


def _parts(
    pairs: Pairs,
    predictions: list[str],
    answers: list[str],
    bare_predictions: pa.Array,
    bare_answers: pa.Array,
    nearest: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The rows whose prediction may be a part of an answer or hold one, and OVER_LONG, TRUNCATED or
    WRONG for each."""
    left = pairs.each(bare_predictions)
    left_is_longer = pc.greater_equal(pc.utf8_length(left), pc.utf8_length(bare_answers))
    longer = pc.if_else(left_is_longer, left, bare_answers).to_pylist()
    shorter = pc.if_else(left_is_longer, bare_answers, left).to_pylist()
    related = np.fromiter(map(contains, longer, shorter), np.bool_, len(longer))
    rows = np.flatnonzero(pairs.any(related))
    places = pairs.of_questions(rows)
    own = words([predictions[row] for row in rows.tolist()])
    own_each = chain.from_iterable(map(repeat, own, pairs.counts[rows].tolist()))
    theirs = words([answers[place] for place in places.tolist()])
    codes = np.full(len(answers), WRONG, np.int32)
    codes[places] = list(map(_part, own_each, theirs))
    # A prediction may be part of one answer and contain another: the nearest decides.
    first = codes[pairs.first(codes != WRONG)]
    return rows, np.where(codes[nearest] != WRONG, codes[nearest], first)[rows]


def _part(prediction: str, answer: str) -> int:
    """OVER_LONG where the words of the answer are among the prediction's, TRUNCATED where it is the
    other way round or a few letters of the prediction begin the answer, else WRONG. Words have
    spaces around."""
    if prediction.isspace():
        return WRONG
    if answer in prediction and not answer.isspace():
        return OVER_LONG
    if prediction in answer:
        return TRUNCATED
    if len(prediction) > _SHORTEST_CUT + 1 and answer.startswith(prediction.rstrip()):
        return TRUNCATED
    return WRONG


def _may_be_value(bare_texts: pa.Array) -> NDArray[np.bool_]:
    """Whether a text might write a number or a date: it is not all letters, or a number's name."""
    word = pc.is_in(bare_texts, _NUMBER_WORDS)
    return _flags(pc.or_(pc.invert(pc.utf8_is_alpha(bare_texts)), word))


def _same_values(ones: pa.Array, others: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether `same_value` of each of P pairs of texts is True, and whether it is
    False, (P,) each."""
    numbers, both_dates = (
        pc.and_(_may_match(ones, pattern), _may_match(others, pattern))
        for pattern in (ANY_NUMBER, ANY_DATE)
    )
    chosen = pc.or_(numbers, both_dates)
    chosen_pairs = zip(
        ones.filter(chosen).to_pylist(), others.filter(chosen).to_pylist(), strict=True
    )
    found = [same_value(one, other) for one, other in chosen_pairs]
    same, different = np.zeros((2, len(ones)), np.bool_)
    same[_flags(chosen)] = [value is True for value in found]
    different[_flags(chosen)] = [value is False for value in found]
    return same, different


def _may_match(texts: pa.Array, pattern: str) -> pa.Array:
    """Whether a text matches a pattern of ASCII, or is none."""
    found = pc.match_substring_regex(texts, pattern, ignore_case=True)
    return pc.or_(found, pc.invert(pc.string_is_ascii(texts)))


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
    rows: NDArray[np.int64],
    pairs: Pairs,
    bare_predictions: pa.Array,
    bare_answers: pa.Array,
    documents: pa.Array,
    matches: Matches,
) -> None:
    """Writes WRONG_FIELD and OTHER_REFERENCE_NEARER into `codes`; `bare_predictions` are those of
    `rows` only."""
    wrong = np.flatnonzero((codes[rows] == WRONG) | (codes[rows] == WRONG_NUMBER))
    document_of = arrow_columns.to_numpy(documents.dictionary_encode().indices)
    of_pair = document_of[pairs.question_of]
    # The pairs document after document, and where each one's begin and how many they are.
    order = np.argsort(of_pair, kind="stable")
    sizes = np.bincount(of_pair)
    begins = np.cumsum(sizes) - sizes
    own_length, length = _lengths(bare_predictions), _lengths(bare_answers)
    others = sizes[document_of[rows[wrong]]]
    for block in np.split(wrong, np.flatnonzero(np.diff(np.cumsum(others) // _PAIRS_AT_ONCE)) + 1):
        document = document_of[rows[block]]
        candidate = np.repeat(block, sizes[document])
        place = order[ranges(begins[document], sizes[document])]
        # Texts of which one is over twice as long are not near; short ones are near by chance.
        shorter = np.minimum(own_length[candidate], length[place])
        longer = np.maximum(own_length[candidate], length[place])
        fuzzy = (codes[rows[candidate]] == WRONG) & (own_length[candidate] >= _SHORTEST_CUT)
        possible = (shorter == longer) | (fuzzy & (2 * shorter >= longer))
        possible &= pairs.question_of[place] != rows[candidate]
        candidate, place, fuzzy = candidate[possible], place[possible], fuzzy[possible]
        near = cpdist(
            bare_predictions.take(arrow_columns.numbers(candidate)).to_pylist(),
            bare_answers.take(arrow_columns.numbers(place)).to_pylist(),
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=NEAR,
            dtype=np.float64,
            workers=-1,
        )
        nearer = fuzzy & (near >= NEAR) & (near > matches.similarity[rows[candidate]])
        for row in np.unique(rows[candidate[nearer]]).tolist():
            # Numbers that look alike say nothing.
            if number(pairs.predictions[row].as_py()) is None:
                codes[row] = OTHER_REFERENCE_NEARER
        codes[rows[candidate[near == 1]]] = WRONG_FIELD


def _flags(array: pa.Array) -> NDArray[np.bool_]:
    return arrow_columns.to_numpy(array)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    return arrow_columns.to_numpy(pc.utf8_length(texts)).astype(np.int64)
