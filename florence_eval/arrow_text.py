"""A column of texts measured, or brought to a common form, at once.

Real answers are nearly all ASCII, and so the whole column is treated as ASCII by Arrow's kernels or
as one array of bytes; the few texts outside ASCII are then done again one by one, in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from florence_eval import arrow_columns, folding

# Few enough for their bytes to stay in the processor's cache.
_AT_ONCE = 2**14
_SPACE, _BREAK = ord(" "), 0
# Stand for what is left out and for a mark; neither is in any text.
_GONE, _MARK = 254, 255
# As Arrow has it: pyarrow imports pandas to make this of a Python string.
_BETWEEN = arrow_columns.strings([f" {chr(_BREAK)} "])[0]
_ASCII = [chr(code) for code in range(128)]
_NAMES = np.array([ord(folding.MARKS.get(character, "\0")) for character in _ASCII], np.uint8)
# What keeps so many of the first of eight bytes that are read as one number.
_FIRST_BYTES = np.array([256**size - 1 for size in range(9)], np.uint64)


def _table(fold: Callable[[Sequence[str]], list[str]], otherwise: int) -> bytes:
    """What becomes of each byte where texts are folded, marks left for later."""
    folded = [fold([character])[0].strip() for character in _ASCII]
    codes = [
        _MARK if character in folding.MARKS else ord(kept) if kept else otherwise
        for character, kept in zip(_ASCII, folded, strict=True)
    ]
    return bytes([*codes, *[otherwise] * 128])


_BARE = _table(folding.bare, _GONE)
_WORDS = bytes([_BREAK, *_table(folding.words, _SPACE)[1:]])


def collapsed(texts: pa.Array) -> pa.Array:
    """Each text in lower case, stripped, with one space for each run of white space."""
    found = pc.ascii_trim_whitespace(pc.ascii_lower(texts))
    # Looking through all texts as one is much faster than asking each.
    offsets, data = arrow_columns.text_buffers(found)
    codes = np.frombuffer(data, np.uint8)
    spaces = codes == _SPACE
    uneven = (codes < _SPACE) | (codes > 127)
    uneven[1:] |= spaces[1:] & spaces[:-1]
    if not uneven.any():
        return found
    by_hand = arrow_columns.booleans(np.diff(_counted_before(uneven, offsets)) > 0)
    return _replaced(found, texts, by_hand, lambda text: " ".join(text.lower().split()))


def bare(texts: pa.Array) -> pa.Array:
    """`folding.bare` of each text."""
    blocks = [_bare(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
    return pa.concat_arrays(blocks)


def words(texts: pa.Array) -> list[str]:
    """`folding.words` of each text."""
    texts = texts.cast(pa.string())  # Arrow joins no large strings; a block's fit
    whole = arrow_columns.numbers(np.array([0, len(texts)], np.int32))
    joined = pc.binary_join(pa.ListArray.from_arrays(whole, texts), _BETWEEN)
    data = joined[0].as_buffer().to_pybytes()
    if data.count(_BREAK) != len(texts) - 1:
        return folding.words(texts.to_pylist())
    codes = _translated(b" " + data + b" ", _WORDS)
    spaces = codes == _SPACE
    spaces[1:] &= spaces[:-1]
    spaces[0] = False
    found: list[str] = codes[np.flatnonzero(~spaces)].tobytes().decode().split(chr(_BREAK))
    rows, others = _outside_ascii(texts)
    for row, folded in zip(rows.tolist(), folding.words(others), strict=True):
        found[row] = folded
    return found


def characters(texts: pa.Array) -> list[bytes | str]:
    """Each text as rapidfuzz takes the characters of it soonest: bytes, which are made in half the
    time, where it is ASCII. It compares bytes with the code points of a string."""
    large = pa.types.is_large_string(texts.type)
    found: list[bytes | str] = texts.view(pa.large_binary() if large else pa.binary()).to_pylist()
    rows, others = _outside_ascii(texts)
    for row, text in zip(rows.tolist(), others, strict=True):
        found[row] = text
    return found


def letters(texts: pa.Array) -> NDArray[np.int64]:
    """How many of a to z each text has, (N,) int64."""
    offsets, data = arrow_columns.text_buffers(texts)
    codes = np.frombuffer(data, np.uint8)
    return np.diff(_counted_before((codes >= ord("a")) & (codes <= ord("z")), offsets))


def only_letters(bare_texts: pa.Array, of_letters: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each text, in lower case, is of letters only, (N,); `of_letters` are its `letters`,
    which are all that a text of ASCII can have."""
    offsets, data = arrow_columns.text_buffers(bare_texts)
    if data.isascii():
        found: NDArray[np.bool_] = of_letters == np.diff(offsets)
        return found
    return arrow_columns.to_numpy(pc.utf8_is_alpha(bare_texts))


def all_differ(texts: pa.Array) -> bool:
    """Whether no text is there twice."""
    offsets, data = arrow_columns.text_buffers(texts)
    sizes = np.diff(offsets)
    if sizes.max(initial=0) <= 8:
        # Short ones are sorted as numbers, which takes a quarter of the time that hashing takes.
        eights = np.ndarray(len(data) + 1, "<u8", data + bytes(8), strides=(1,))
        keys = np.sort(eights[offsets[:-1]] & _FIRST_BYTES[sizes])
        if (keys[1:] != keys[:-1]).all():
            return True
    return len(texts.unique()) == len(texts)


def lengths(texts: pa.Array) -> NDArray[np.int64]:
    """The length of each text in characters, (N,) int64."""
    offsets, data = arrow_columns.text_buffers(texts)
    if data.isascii():
        return np.diff(offsets).astype(np.int64)
    return arrow_columns.to_numpy(pc.utf8_length(texts)).astype(np.int64)


def upper_lengths(texts: pa.Array) -> NDArray[np.int64]:
    """The length of each text in upper case, in characters, (N,) int64; only outside ASCII can it
    differ from the text's own."""
    found = lengths(texts)
    rows, others = _outside_ascii(texts)
    found[rows] = [len(text.upper()) for text in others]
    return found


def _bare(texts: pa.Array) -> pa.Array:
    offsets, data = arrow_columns.text_buffers(texts)
    borders = np.zeros(len(data) + 1, np.bool_)
    borders[offsets] = True
    codes = _translated(data, _BARE, borders)
    # Indices of what is kept take half as long as a mask.
    kept = codes[np.flatnonzero(codes != _GONE)]
    gone_before = _counted_before(codes == _GONE, offsets).astype(offsets.dtype)
    found = arrow_columns.from_text_buffers(offsets - gone_before, kept)
    if data.isascii():
        return found
    return _replaced(found, texts, pc.invert(pc.string_is_ascii(texts)), _bare_one)


def _counted_before(flags: NDArray[np.bool_], places: NDArray[Any]) -> NDArray[np.int64]:
    """How many of N flags are true before each of some places from 0 to N.

    A cumulated sum of all flags takes several times as long as this one of 64 at a time.
    """
    packed = np.packbits(flags, bitorder="little")
    words = np.zeros(len(flags) // 64 + 1, "<u8")
    words.view(np.uint8)[: len(packed)] = packed
    counts = np.bitwise_count(words).astype(np.int64)
    word, bit = places >> 6, (places & 63).astype(np.uint64)
    below = (np.uint64(1) << bit) - np.uint64(1)
    found: NDArray[np.int64] = (np.cumsum(counts) - counts)[word]
    found += np.bitwise_count(words[word] & below)
    return found


def _translated(
    data: bytes, table: bytes, borders: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Bytes by a table, marks between two digits of a text by their names and other marks by what
    the table has for a byte that is none of ASCII; `borders` are where texts begin and end."""
    codes = np.frombuffer(bytearray(data.translate(table)), np.uint8)
    marks = np.flatnonzero(codes == _MARK)
    inner = marks if borders is None else marks[~(borders[marks] | borders[marks + 1])]
    before, after = codes[inner - 1], codes[inner + 1]
    inner = inner[_is_digit(before) & _is_digit(after)]
    codes[marks] = table[-1]
    codes[inner] = _NAMES[np.frombuffer(data, np.uint8)[inner]]
    return codes


def _is_digit(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (codes >= ord("0")) & (codes <= ord("9"))
    return found


def _outside_ascii(texts: pa.Array) -> tuple[NDArray[np.int64], list[str]]:
    """Which texts are not all ASCII, and those."""
    if arrow_columns.text_buffers(texts)[1].isascii():
        return np.zeros(0, np.int64), []
    rows = np.flatnonzero(~arrow_columns.to_numpy(pc.string_is_ascii(texts)))
    return rows, arrow_columns.take(texts, rows).to_pylist()


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
