"""A column of texts brought to a common form at once.

Real answers are nearly all ASCII, and so the whole column is treated as ASCII by Arrow's kernels or
as one array of bytes; the few texts outside ASCII are then done again one by one, in Python.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from florence_eval import arrow_columns, folding

# White space of ASCII but for the space.
_OTHER_SPACE = bytes(code for code in range(32) if chr(code).isspace())
_UNEVEN_SPACE = r"[\x00-\x1f]|  "
# Few enough for their bytes to stay in the processor's cache.
_AT_ONCE = 2**15
# The kinds of ASCII characters; those that are kept are odd.
_DROPPED, _KEPT, _MARK, _DIGIT = range(4)


def _kind(character: str) -> int:
    if character in folding.MARKS:
        return _MARK
    if character.isdigit():
        return _DIGIT
    return _KEPT if folding.bare([character]) != [""] else _DROPPED


_ASCII = [chr(code) for code in range(128)]
_KINDS = bytes([*map(_kind, _ASCII), *[_DROPPED] * 128])
_LOWER = bytes([*(ord(character.lower()) for character in _ASCII), *range(128, 256)])
_NAMES = np.array([ord(folding.MARKS.get(character, "\0")) for character in _ASCII], np.uint8)


def collapsed(texts: pa.Array) -> pa.Array:
    """Each text in lower case, stripped, with one space for each run of white space."""
    found = pc.ascii_trim_whitespace(pc.ascii_lower(texts))
    _, data = arrow_columns.text_buffers(found)
    # Looking through all texts as one is much faster than asking each.
    if (
        data.isascii()
        and b"  " not in data
        and len(data.translate(None, _OTHER_SPACE)) == len(data)
    ):
        return found
    uneven = pc.match_substring_regex(found, _UNEVEN_SPACE)
    by_hand = pc.or_(uneven, pc.invert(pc.string_is_ascii(texts)))
    return _replaced(found, texts, by_hand, lambda text: " ".join(text.lower().split()))


def bare(texts: pa.Array) -> pa.Array:
    """`folding.bare` of each text."""
    blocks = [_bare(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
    return pa.concat_arrays(blocks)


def _bare(texts: pa.Array) -> pa.Array:
    offsets, data = arrow_columns.text_buffers(texts)
    kinds = np.frombuffer(data.translate(_KINDS), np.uint8)
    lowered = np.frombuffer(bytearray(data.translate(_LOWER)), np.uint8)
    borders = np.zeros(len(data) + 1, np.bool_)
    borders[offsets] = True
    marks = np.flatnonzero(kinds == _MARK)
    marks = marks[~(borders[marks] | borders[marks + 1])]
    inner = marks[(kinds[marks - 1] == _DIGIT) & (kinds[marks + 1] == _DIGIT)]
    lowered[inner] = _NAMES[lowered[inner]]
    keep = (kinds & 1).view(np.bool_)
    keep[inner] = True
    ends = np.concatenate(([0], np.cumsum(keep, dtype=offsets.dtype)))
    found = arrow_columns.from_text_buffers(ends[offsets], np.compress(keep, lowered))
    if data.isascii():
        return found
    return _replaced(found, texts, pc.invert(pc.string_is_ascii(texts)), _bare_one)


def _bare_one(text: str) -> str:
    return folding.bare([text])[0]


def _replaced(
    found: pa.Array, texts: pa.Array, chosen: pa.Array, fold: Callable[[str], str]
) -> pa.Array:
    """`found`, but for the `chosen` ones of `texts`, which are folded in Python."""
    by_hand = texts.filter(chosen).to_pylist()
    if not by_hand:
        return found
    folded = arrow_columns.strings(list(map(fold, by_hand)))
    return pc.replace_with_mask(found, chosen, folded.cast(found.type))
