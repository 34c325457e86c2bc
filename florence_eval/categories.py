"""What is wrong with a prediction: one category a question, decided in a fixed order.

`docs/evaluation.md` has the definitions in one table; `CATEGORIES` is in the order of deciding. All
but two look at the question's own answers, and those two at the others of the same document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from florence_eval.arrow_columns import strings, take, text_buffers, to_numpy
from florence_eval.arrow_text import bare, characters, lengths, letters, only_letters, words
from florence_eval.folding import skeletons, without_space
from florence_eval.matching import Matches
from florence_eval.pairs import Pairs
from florence_eval.similarity import Variant
from florence_eval.values import (
    ANY_DATE,
    ANY_NUMBER,
    NUMBER_WORDS,
    WHOLE_NUMBER,
    number,
    same_value,
)

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
    "wrong_field",
    "near_miss",
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
    WRONG_FIELD,
    NEAR_MISS,
    WRONG_NUMBER,
    OTHER_REFERENCE_NEARER,
    WRONG,
) = range(len(CATEGORIES))

# What another question's answer may decide otherwise.
_OPEN_TO_OTHERS = np.isin(range(len(CATEGORIES)), (NEAR_MISS, WRONG_NUMBER, WRONG))
NEAR = 0.5
# Shorter texts begin an answer, or are those of another question, by chance.
_SHORTEST_PART = 4
_SHORTEST_LOOP = 16
_YES_NO = ("yes", "no")
_NUMBER_WORDS = tuple(NUMBER_WORDS)
# Compared answers of other questions that are in memory at once.
_PAIRS_AT_ONCE = 2**18
_FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoldedAnswers:
    """The answers of N questions as they are compared here, where case counts for nothing.

    pairs: those whose answer is not `repeated`, P of them. bare: their answers laid bare, (P,).
    document_of: (N,) the number of each question's document; without it no answer of another
        question is looked at.
    """

    pairs: Pairs
    bare: pa.Array
    document_of: NDArray[np.int32] | None

    @classmethod
    def of(cls, pairs: Pairs, documents: pa.Array | None) -> FoldedAnswers:
        """Those of all pairs; `documents` are (N,) strings."""
        distinct = pairs.at(np.flatnonzero(~pairs.repeated))
        known = None if documents is None else to_numpy(documents.dictionary_encode())
        return cls(distinct, bare(distinct.answers), known)


def categorise(
    pairs: Pairs, folded: FoldedAnswers, matches: Matches, variant: Variant
) -> NDArray[np.int32]:
    """The category of each of N questions, (N,) int32 positions in `CATEGORIES`; `folded` are the
    answers of all `pairs`, and `matches` those of `variant`."""
    codes = np.zeros(len(matches.exact), np.int32)
    undecided = ~matches.exact
    distances = np.zeros_like(matches.pair_distance)
    if variant.fold_case and not variant.rewrites:
        # No distance between the compared strings says as much as comparing them again.
        alike = undecided & (matches.distance == 0)
        codes[alike] = CASE_OR_SPACE
        undecided &= ~alike
        distances = matches.pair_distance
    rows = np.flatnonzero(undecided)
    if not len(rows):
        return codes
    nearest = (pairs.starts + matches.best_index)[rows]
    nearest -= np.cumsum(pairs.repeated)[nearest]
    distances = distances[np.flatnonzero(~pairs.repeated)]
    pairs = folded.pairs
    of_pairs = pairs.of_questions(undecided)
    some = pairs.at(of_pairs)
    bare_predictions = bare(some.predictions)
    own_answers, distances = take(folded.bare, of_pairs), distances[of_pairs]
    nearest += some.starts - pairs.starts[rows]
    for questions, places, block in some.blocks():
        codes[rows[questions]] = _against_own(
            block,
            bare_predictions[questions],
            own_answers[places],
            distances[places],
            nearest[questions] - places.start,
            matches.similarity[rows[questions]],
        )
    if folded.document_of is not None:
        _look_at_other_questions(codes, rows, bare_predictions, folded, folded.document_of)
    return codes


def _against_own(
    pairs: Pairs,
    bare_predictions: pa.Array,
    bare_answers: pa.Array,
    distances: NDArray[np.int32],
    nearest: NDArray[np.int64],
    similarity: NDArray[np.float64],
) -> NDArray[np.int32]:
    """The categories as far as the questions' own answers decide them; `nearest` is each question's
    best pair, `distances` are each pair's, 0 where that is not known.

    Each test is made of all rows at once, or of those few that a cheap test leaves; the tests that
    are decided first are written last.
    """
    codes = np.where(similarity >= NEAR, NEAR_MISS, WRONG).astype(np.int32)
    own_length, theirs = lengths(bare_predictions), lengths(bare_answers)
    own = own_length[pairs.question_of]
    equal = np.zeros(len(theirs), np.bool_)
    alike = np.flatnonzero(own == theirs)
    equal[alike] = to_numpy(
        pc.equal(take(bare_predictions, pairs.question_of[alike]), take(bare_answers, alike))
    )

    # A text that holds another is no further from it than all that the two have beside it. Bytes,
    # because lower case may have more characters than the text, but never more than it has bytes.
    shorter = np.minimum(own, theirs)
    beside = _bytes(pairs.predictions)[pairs.question_of] + _bytes(pairs.answers) - 2 * shorter
    possible = np.flatnonzero((shorter > 0) & (equal | ((own != theirs) & (distances <= beside))))
    parts = np.full(len(theirs), WRONG, np.int32)
    parts[possible] = _parts(pairs, bare_predictions, bare_answers, possible)
    # A prediction may be part of one answer and contain another: the nearest decides.
    first = pairs.first(parts != WRONG)
    chosen = np.where(parts[nearest] != WRONG, parts[nearest], parts[first])
    codes = np.where(chosen != WRONG, chosen, codes)

    own_letters, their_letters = letters(bare_predictions), letters(bare_answers)
    numeric = _may_be_value(bare_predictions, own_length, own_letters)[pairs.question_of]
    numeric &= _may_be_value(bare_answers, theirs, their_letters)
    same, different = _same_values(pairs, np.flatnonzero(numeric))
    codes[different[nearest]] = WRONG_NUMBER
    # Texts that differ in their digits only have the same letters.
    like = numeric & ~different & (own_letters[pairs.question_of] == their_letters)
    rows = np.flatnonzero(like[nearest])
    in_digits = [
        "#" in one and one == other
        for one, other in zip(
            skeletons(take(pairs.predictions, rows).to_pylist()),
            skeletons(take(pairs.answers, nearest[rows]).to_pylist()),
            strict=True,
        )
    ]
    codes[rows[np.array(in_digits, np.bool_)]] = WRONG_NUMBER

    size = lengths(pairs.predictions)
    long = (size >= _SHORTEST_LOOP) & (size > 2 * lengths(pairs.answers)[nearest])
    rows = np.flatnonzero(long)
    rows = rows[_may_loop(take(pairs.predictions, rows))]
    loops = list(map(_is_loop, take(pairs.predictions, rows).to_pylist()))
    codes[rows[np.array(loops, np.bool_)]] = REPETITION
    codes[pairs.any(same)] = NUMBER_FORMAT

    empty = own_length == 0
    codes[pairs.any(equal & ~different) & ~empty] = PUNCTUATION
    asked = pairs.any(_is_in(bare_answers, theirs, _YES_NO))
    for row in np.flatnonzero(asked).tolist():
        said = _FIRST_WORD.match(pairs.predictions[row].as_py())
        if said is not None and said[1].lower() not in bare_answers[pairs.span(row)].to_pylist():
            codes[row] = YES_NO_FLIPPED
    for row in np.flatnonzero(empty).tolist():
        prediction = pairs.predictions[row].as_py()
        if not prediction or prediction.isspace():
            codes[row] = EMPTY
    places = np.flatnonzero(equal)
    same_but_for_space = [
        one == other
        for one, other in zip(
            without_space(take(pairs.predictions, pairs.question_of[places]).to_pylist()),
            without_space(take(pairs.answers, places).to_pylist()),
            strict=True,
        )
    ]
    codes[pairs.question_of[places[np.array(same_but_for_space, np.bool_)]]] = CASE_OR_SPACE
    return codes


def _parts(
    pairs: Pairs, bare_predictions: pa.Array, bare_answers: pa.Array, places: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Of each of some pairs: OVER_LONG where the words of the answer are among the prediction's,
    TRUNCATED where it is the other way round or a few letters of the prediction begin the answer,
    else WRONG."""
    codes = np.full(len(places), WRONG, np.int32)
    bare_pairs = zip(
        take(bare_predictions, pairs.question_of[places]).to_pylist(),
        take(bare_answers, places).to_pylist(),
        strict=True,
    )
    related = np.array([own in theirs or theirs in own for own, theirs in bare_pairs], np.bool_)
    places = places[related]
    # Words have a space around; one space alone is none.
    predicted = words(take(pairs.predictions, pairs.question_of[places]))
    expected = words(take(pairs.answers, places))
    codes[related] = [
        WRONG
        if own == " " or theirs == " "
        else OVER_LONG
        if theirs in own
        else TRUNCATED
        if own in theirs or (len(own) > _SHORTEST_PART + 1 and theirs.startswith(own[:-1]))
        else WRONG
        for own, theirs in zip(predicted, expected, strict=True)
    ]
    return codes


def _may_be_value(
    bare_texts: pa.Array, of_length: NDArray[np.int64], of_letters: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a text might write a number or a date: it is not all letters, or a number's name."""
    named = _is_in(bare_texts, of_length, _NUMBER_WORDS)
    return named | ~only_letters(bare_texts, of_letters)


def _same_values(
    pairs: Pairs, places: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether `same_value` of each of P pairs is True, and whether it is False, (P,) each; only of
    those at some places."""
    same, different = np.zeros((2, len(pairs.answers)), np.bool_)
    predictions, answers = (
        take(pairs.predictions, pairs.question_of[places]),
        take(pairs.answers, places),
    )
    whole = _is_whole(predictions) & _is_whole(answers)
    chosen = np.flatnonzero(whole)
    equal = to_numpy(pc.equal(_digits(take(predictions, chosen)), _digits(take(answers, chosen))))
    same[places[chosen]], different[places[chosen]] = equal, ~equal

    rest = np.flatnonzero(~whole)
    predictions, answers, places = take(predictions, rest), take(answers, rest), places[rest]
    may_be = np.zeros(len(rest), np.bool_)
    for pattern in (ANY_NUMBER, ANY_DATE):
        rows = np.flatnonzero(_may_match(predictions, pattern))
        may_be[rows[_may_match(take(answers, rows), pattern)]] = True
    rows = np.flatnonzero(may_be)
    found = list(
        map(same_value, take(predictions, rows).to_pylist(), take(answers, rows).to_pylist())
    )
    same[places[rows]] = [value is True for value in found]
    different[places[rows]] = [value is False for value in found]
    return same, different


def _is_whole(texts: pa.Array) -> NDArray[np.bool_]:
    return to_numpy(pc.match_substring_regex(texts, WHOLE_NUMBER))


def _digits(whole_numbers: pa.Array) -> pa.Array:
    """The digits of each number without thousands separators and leading zeros."""
    return pc.utf8_ltrim(pc.replace_substring(whole_numbers, ",", ""), "0")


def _may_match(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Whether a text matches a pattern of ASCII, or is none."""
    matched = pc.match_substring_regex(texts, pattern, ignore_case=True)
    return to_numpy(pc.or_(matched, pc.invert(pc.string_is_ascii(texts))))


def _may_loop(texts: pa.Array) -> NDArray[np.bool_]:
    """Whether `_is_loop` may be true of each text, each of `_SHORTEST_LOOP` characters or more: the
    four left or right of its middle come again, or it is not ASCII."""
    found = ~to_numpy(pc.string_is_ascii(texts))
    if not len(texts):
        return found
    offsets, data = text_buffers(texts)
    sizes = np.diff(offsets)
    # Each byte with the three behind it, as a number.
    fours = np.ndarray(len(data) - 3, np.uint32, data, strides=(1,))
    middles = offsets[:-1] + sizes // 2
    for places in (middles - 4, middles):
        again = fours == np.repeat(fours[places], sizes)[:-3]
        found |= np.add.reduceat(again, offsets[:-1], dtype=np.int32) > 1
    return found


def _is_loop(text: str) -> bool:
    """Whether one unit, three times running or more, makes up over half of a text of at least
    `_SHORTEST_LOOP` characters."""
    middle, longest = len(text) // 2, len(text) // 3
    # Such a loop holds the four characters left or right of the middle, and they come again one
    # unit away from there.
    for start in (middle - 4, middle):
        part, end = text[start : start + 4], start + longest + 4
        place = text.find(part, max(0, start - longest), end)
        while place >= 0:
            if place != start and _repeats(text, min(start, place), abs(start - place)):
                return True
            place = text.find(part, place + 1, end)
    return False


def _repeats(text: str, start: int, period: int) -> bool:
    """Whether the same `period` characters come round `start` three times running or more, and are
    over half of the text."""
    unit = text[start : start + period]
    if unit not in (text[max(0, start - period) : start], text[start + period :][:period]):
        return False
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.flatnonzero(codes[:-period] != codes[period:])
    after = int(np.searchsorted(ends, start))
    first = int(ends[after - 1]) + 1 if after else 0
    last = int(ends[after]) if after < len(ends) else len(codes) - period
    times = (last - first) // period + 1
    return times >= 3 and 2 * times * period > len(text)


def _look_at_other_questions(
    codes: NDArray[np.int32],
    rows: NDArray[np.int64],
    bare_predictions: pa.Array,
    folded: FoldedAnswers,
    document_of: NDArray[np.int32],
) -> None:
    """Writes WRONG_FIELD and OTHER_REFERENCE_NEARER into `codes`; `bare_predictions` are those of
    `rows` only."""
    pairs, bare_answers = folded.pairs, folded.bare
    own_length, length = lengths(bare_predictions), lengths(bare_answers)
    wrong = np.flatnonzero(_OPEN_TO_OTHERS[codes[rows]] & (own_length >= _SHORTEST_PART))
    of_pair = document_of[pairs.question_of]
    # The pairs document after document, and where each one's begin and how many they are.
    order = np.argsort(of_pair, kind="stable")
    sizes = np.bincount(of_pair)
    begins = np.cumsum(sizes) - sizes
    others = sizes[document_of[rows[wrong]]]
    for block in np.split(wrong, np.flatnonzero(np.diff(np.cumsum(others) // _PAIRS_AT_ONCE)) + 1):
        document = document_of[rows[block]]
        candidate = np.repeat(block, sizes[document])
        place = order[_ranges(begins[document], sizes[document])]
        # Texts of which one is over twice as long are neither equal nor near.
        own, theirs = own_length[candidate], length[place]
        possible = (2 * own > theirs) & (2 * theirs > own)
        possible &= pairs.question_of[place] != rows[candidate]
        kept = np.flatnonzero(possible)
        candidate, place = candidate[kept], place[kept]

        alike = np.flatnonzero(own[kept] == theirs[kept])
        equal = to_numpy(
            pc.equal(take(bare_predictions, candidate[alike]), take(bare_answers, place[alike]))
        )
        codes[rows[candidate[alike[equal]]]] = WRONG_FIELD

        fuzzy = np.flatnonzero(codes[rows[candidate]] == WRONG)
        candidate, place = candidate[fuzzy], place[fuzzy]
        near = cpdist(
            characters(take(bare_predictions, candidate)),
            characters(take(bare_answers, place)),
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=NEAR,
            dtype=np.float64,
            workers=-1,
        )
        for row in np.unique(rows[candidate[near > NEAR]]).tolist():
            # Numbers that look alike say nothing.
            if number(pairs.predictions[row].as_py()) is None:
                codes[row] = OTHER_REFERENCE_NEARER


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """`start, start + 1, …`, `count` numbers, for each start, one after the other."""
    first = np.cumsum(counts) - counts
    found: NDArray[np.int64] = np.arange(counts.sum()) + np.repeat(starts - first, counts)
    return found


def _is_in(
    texts: pa.Array, of_length: NDArray[np.int64], chosen: Sequence[str]
) -> NDArray[np.bool_]:
    """Whether each text is one of a few; their lengths leave few texts to be asked."""
    found = np.zeros(len(texts), np.bool_)
    sizes = list(map(len, chosen))
    rows = np.flatnonzero((of_length >= min(sizes)) & (of_length <= max(sizes)))
    found[rows] = to_numpy(pc.is_in(take(texts, rows), strings(chosen)))
    return found


def _bytes(texts: pa.Array) -> NDArray[np.int64]:
    offsets, _ = text_buffers(texts)
    return np.diff(offsets).astype(np.int64)
