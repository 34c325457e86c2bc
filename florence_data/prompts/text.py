"""Text in which the model's own tokens are told from what a person wrote.

Text from the data is data. A prompt or a target is a sequence of parts: a `str` is text and is
tokenised as text whatever it holds, a `Token` is one of the model's own tokens. So a question that
contains `<OCR>` or `<loc_5>` reaches the model as those characters and never as markup.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One of the model's own tokens, such as `<loc_12>`."""

    text: str


Text = tuple["str | Token", ...]

POLY = Token("<poly>")
END_POLY = Token("</poly>")
SEP = Token("<sep>")

_MARKUP = re.compile(r"(<(?:loc_\d+|/?poly|sep|/?s|pad)>)")


def split_tokens(generated: str) -> Text:
    """The parts of a decoded output that was generated as one string.

    In such a string a token and the same characters generated as text look alike; both become a
    `Token`. Who has the token ids builds the parts from them instead and loses nothing.
    """
    pieces = _MARKUP.split(generated)
    return tuple(
        Token(piece) if index % 2 else piece for index, piece in enumerate(pieces) if piece
    )
