"""Two short texts beside each other: which characters of them differ."""

from __future__ import annotations

from itertools import groupby

from rapidfuzz.distance import Levenshtein

LONGEST = 4_000
"""Of longer texts (characters) only the common beginning and end count as alike: aligning takes
time and memory by the product of the lengths."""

Pair = tuple[str, str]


def aligned(prediction: str, reference: str, *, fold_case: bool) -> list[Pair]:
    """Parts of both texts, alternately alike and different, beginning with an alike one.

    The first halves join to the prediction, the second to the reference. Alike parts are equal
    character by character, but for case if `fold_case`; the alignment is one of the fewest edits
    (Levenshtein), less the alike parts that are no longer than the differences on both sides of
    them, which are there by chance and only make marks harder to read.
    """
    if prediction == reference:
        return [(prediction, reference)]
    one, other = (_folded(text) if fold_case else text for text in (prediction, reference))
    if max(len(one), len(other)) > LONGEST:
        return _common_ends(prediction, reference, one, other)
    pairs = [("", "")]
    blocks = groupby(Levenshtein.opcodes(one, other), key=lambda code: code.tag == "equal")
    for alike, codes in blocks:
        found = list(codes)
        pair = (
            prediction[found[0].src_start : found[-1].src_end],
            reference[found[0].dest_start : found[-1].dest_end],
        )
        if alike and len(pairs) == 1:
            pairs[0] = pair
        else:
            pairs.append(pair)
    return _without_chance(pairs)


def _without_chance(pairs: list[Pair]) -> list[Pair]:
    """The pairs with each short alike part between two differences made part of them."""
    kept = pairs[:2]
    for place in range(2, len(pairs), 2):
        alike, following = pairs[place], pairs[place + 1 : place + 2]
        if following and len(alike[0]) <= min(_size(kept[-1]), _size(following[0])):
            kept[-1] = _joined(kept[-1], alike, following[0])
        else:
            kept += [alike, *following]
    return kept


def _size(pair: Pair) -> int:
    return max(map(len, pair))


def _joined(*pairs: Pair) -> Pair:
    return "".join(pair[0] for pair in pairs), "".join(pair[1] for pair in pairs)


def _folded(text: str) -> str | list[str]:
    """The text in lower case, one element a character: "İ" has two characters in lower case."""
    lower = text.lower()
    return lower if len(lower) == len(text) else [character.lower() for character in text]


def _common_ends(
    prediction: str, reference: str, one: str | list[str], other: str | list[str]
) -> list[Pair]:
    shorter = min(len(one), len(other))
    start = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    room = shorter - start
    end = next((at for at in range(room) if one[-1 - at] != other[-1 - at]), room)
    cuts = (start, len(prediction) - end), (start, len(reference) - end)
    return [
        (prediction[:start], reference[:start]),
        (prediction[start : cuts[0][1]], reference[start : cuts[1][1]]),
        (prediction[cuts[0][1] :], reference[cuts[1][1] :]),
    ]
