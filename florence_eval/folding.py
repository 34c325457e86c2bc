"""Many texts brought to a common form at once.

A method call for each of a million short texts costs more than the work itself, so the texts are
joined, treated as one and parted again. Texts outside ASCII are treated apart, because Python
translates a string that is all ASCII some ten times as fast. A NUL in a text counts as a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_BREAK = "\0"
_BREAK_BETWEEN_WORDS = f" {_BREAK} "
# A mark between two digits belongs to the number or date: it is kept, under another name.
MARKS = {mark: chr(1 + place) for place, mark in enumerate(".,:/-")}
_INNER_MARKS = [
    (re.compile(rf"{re.escape(mark)}(?=\d)(?<=\d.)"), kept) for mark, kept in MARKS.items()
]
_NUMBER = re.compile(r"\d[\d.,]*")
_SIGNS = "$€£¥₹%"


class _Table(dict[int, int | None]):
    """A table for `str.translate` that fills itself: what is not `kept` becomes `otherwise`."""

    def __init__(self, kept: Callable[[str], bool], otherwise: int | None) -> None:
        super().__init__()
        self._kept = kept
        self._otherwise = otherwise

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        kept = character == _BREAK or self._kept(character)
        self[code] = code if kept else self._otherwise
        return self[code]


def _is_letter(character: str) -> bool:
    return character.isalnum() or character in MARKS.values()


_NO_SPACE = _Table(lambda character: not character.isspace(), None)
_BARE = _Table(lambda character: _is_letter(character) or character in _SIGNS, None)
_PARTED = _Table(_is_letter, ord(" "))


def without_space(texts: Sequence[str]) -> list[str]:
    """Each text in lower case without any white space."""
    return _treated(texts, lambda text: text.lower().translate(_NO_SPACE))


def bare(texts: Sequence[str]) -> list[str]:
    """Each text in lower case without white space and punctuation.

    Letters, digits, the signs $ € £ ¥ ₹ % and a mark between two digits (. , : / -) are kept.
    """
    return _treated(texts, _bare)


def skeletons(texts: Sequence[str]) -> list[str]:
    """Each text in lower case without white space, each number in it as "#"."""
    return _treated(texts, lambda text: _NUMBER.sub("#", text.lower()).translate(_NO_SPACE))


def words(texts: Sequence[str]) -> list[str]:
    """The words of each text, as `bare` keeps their letters, but without signs; one space between
    and one at each end, a single one where there is no word."""
    return _treated(texts, _parted)


def _bare(text: str) -> str:
    for pattern, kept in _INNER_MARKS:
        text = pattern.sub(kept, text)
    return text.lower().translate(_BARE)


def _parted(text: str) -> str:
    for pattern, kept in _INNER_MARKS:
        text = pattern.sub(kept, text)
    # With spaces around before runs of them become one, each text ends up with one at each end.
    text = f" {text.lower().translate(_PARTED).replace(_BREAK, _BREAK_BETWEEN_WORDS)} "
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def _treated(texts: Sequence[str], treat: Callable[[str], str]) -> list[str]:
    if not texts:
        return []
    joined = _BREAK.join(texts)
    if joined.count(_BREAK) != len(texts) - 1:
        return _treated([text.replace(_BREAK, " ") for text in texts], treat)
    if joined.isascii():
        return treat(joined).split(_BREAK)
    ascii_texts = iter(treat(_BREAK.join(filter(str.isascii, texts))).split(_BREAK))
    return [next(ascii_texts) if text.isascii() else treat(text) for text in texts]
