"""Locations: pixels ⇄ the model's `<loc_0>` … `<loc_999>` tokens.

Each axis has 1000 bins. A coordinate in pixels falls in the bin `floor(x / (W / 1000))`, clamped to
the image, and a bin is read back as its centre, as `Florence2PostProcessor` in transformers does
(which then cuts the centre to a whole pixel; here it stays exact, so that encoding it again gives
the same bin).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import cycle

from florence_data.errors import InputError
from florence_data.prompts.text import Text, Token

BINS = 1000
Size = tuple[int, int]
"""(width, height) in pixels."""

_LOCATION = re.compile(r"<loc_(\d+)>")


def encode_points(coordinates: Sequence[float], size: Size) -> Text:
    """Location tokens of x, y, x, y, … in pixels. Raises `InputError` if one is not finite."""
    tokens = []
    for value, extent in zip(coordinates, cycle(size), strict=False):
        if not math.isfinite(value):
            raise InputError(f"a coordinate is {value}; a finite number of pixels is accepted")
        place = min(max(math.floor(value / (extent / BINS)), 0), BINS - 1)
        tokens.append(Token(f"<loc_{place}>"))
    return tuple(tokens)


def decode_points(bins: Sequence[int], size: Size) -> tuple[float, ...]:
    """Pixels x, y, x, y, … of the bins' centres."""
    return tuple(
        (place + 0.5) * (extent / BINS) for place, extent in zip(bins, cycle(size), strict=False)
    )


def location_bin(token: Token) -> int | None:
    """The bin of a location token, and None for another token."""
    match = _LOCATION.fullmatch(token.text)
    return int(match[1]) if match else None
