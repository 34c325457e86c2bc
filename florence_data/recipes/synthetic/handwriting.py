"""Handwriting: letters as pen strokes, every one a little different.

A glyph is its strokes, a stroke the points that the pen passes. A point is two hexadecimal digits:
x from the left, then y upwards from the descender's end; 3 is the base line, 8 the height of an x,
c that of a capital.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

STROKES = {
    "a": "57 38 16 14 33 55|58 54 63", "b": "1c 13|16 38 56 54 33 14", "c": "57 38 16 14 33 54",
    "d": "57 38 16 14 33 55|5c 54 63", "e": "15 56 57 38 16 14 33 54", "f": "5b 4c 2a 23|08 48",
    "g": "57 38 16 15 34 56|58 52 30 11", "h": "1c 13|16 38 57 53", "i": "18 13|1a 1b",
    "j": "28 21 10 01|2a 2b", "k": "1c 13|58 15|26 53", "l": "1c 14 23",
    "m": "18 13|16 38 47 43|46 68 77 73", "n": "18 13|16 38 57 53", "o": "38 16 14 33 54 56 38",
    "p": "18 10|16 38 56 54 33 14", "q": "57 38 16 14 33 55|58 50 61", "r": "18 13|15 28 48",
    "s": "57 38 17 26 45 54 33 14", "t": "2b 24 33 43|08 48", "u": "18 14 33 55|58 53",
    "v": "18 33 58", "w": "18 23 47 63 78", "x": "18 53|58 13", "y": "18 15 34 56|58 52 30 11",
    "z": "18 58 13 53",
    "A": "13 4c 73|26 66", "B": "1c 13|1c 4c 5a 48 18|48 66 64 43 13", "C": "6a 4c 2a 17 25 43 64",
    "D": "1c 13|1c 4b 68 65 43 13", "E": "6c 1c 13 63|18 58", "F": "6c 1c 13|18 58",
    "G": "6a 4c 2a 17 25 43 64 67 47", "H": "1c 13|6c 63|18 68", "I": "1c 5c|3c 33|13 53",
    "J": "5c 55 43 23 15", "K": "1c 13|6c 17 63", "L": "1c 13 63", "M": "13 1c 46 7c 73",
    "N": "13 1c 63 6c", "O": "4c 2a 17 25 43 65 68 5b 4c", "P": "1c 13|1c 4c 6a 48 17",
    "Q": "4c 2a 17 25 43 65 68 5b 4c|45 72", "R": "1c 13|1c 4c 6a 48 17|37 63",
    "S": "6b 4c 2b 29 57 65 43 14", "T": "0c 6c|3c 33", "U": "1c 15 33 53 65 6c", "V": "0c 33 6c",
    "W": "0c 23 4a 63 8c", "X": "1c 63|6c 13", "Y": "0c 38 6c|38 33", "Z": "1c 6c 13 63",
    "0": "3c 1a 15 33 55 5a 3c", "1": "1a 3c 33", "2": "1a 3c 5a 46 13 53",
    "3": "1b 3c 5a 28|28 56 54 33 14", "4": "3c 16 56|49 43", "5": "5c 2c 18 47 55 33 14",
    "6": "4c 18 15 33 55 38 16", "7": "1c 5c 23", "8": "38 1a 3c 5a 38 15 33 55 38",
    "9": "5a 3c 1a 28 5a|5b 43",
    ".": "13 14", ",": "14 12", "-": "16 46", "/": "13 5c", "'": "1c 1a",
    "$": "6b 4c 2b 29 57 65 43 14|4d 42",
    "&": "63 1a 3c 4a 15 33 66", ":": "13 14|17 18", "(": "3c 18 32", ")": "1c 38 12",
    "#": "2b 14|5b 44|09 69|06 66", "+": "16 56|38 34",
}  # fmt: skip

_BASE = 11  # the base line from the top of what is drawn, in glyph units
_FINE = 3  # the factor by which strokes are drawn larger, then averaged down


@dataclass(frozen=True)
class Hand:
    """How one person writes: slope of the stems, pen width and unsteadiness, in glyph units."""

    slant: float
    pen: float
    shake: float
    spacing: float

    @classmethod
    def of(cls, rng: random.Random) -> Hand:
        """Some person's."""
        return cls(
            slant=rng.uniform(-0.05, 0.35),
            pen=rng.uniform(0.7, 1.1),
            shake=rng.uniform(0.2, 0.55),
            spacing=rng.uniform(0.8, 1.6),
        )

    def write(self, text: str, pixels: float, rng: random.Random) -> tuple[Image.Image, int]:
        """A mask of the text (mode L, 255 is ink), cropped to it, and its base line from the top.

        Capitals are `pixels` high.
        """
        unit = pixels / 9 * _FINE
        strokes: list[list[tuple[float, float]]] = []
        x = 2.0
        for letter in text:
            widest = 2.0
            drift = rng.uniform(-1, 1) * self.shake
            for stroke in STROKES[letter].split("|") if letter != " " else ():
                glyph = [(int(point[0], 16), int(point[1], 16)) for point in stroke.split()]
                widest = max(widest, *(px for px, _ in glyph))
                strokes.append(
                    [
                        (
                            x + px + self.slant * py + rng.uniform(-1, 1) * self.shake,
                            _BASE + 3 - py + drift + rng.uniform(-1, 1) * self.shake,
                        )
                        for px, py in glyph
                    ]
                )
            x += widest + self.spacing + rng.uniform(0, self.shake)
        mask = Image.new("L", (math.ceil((x + 7) * unit), math.ceil(16 * unit)))
        pen = ImageDraw.Draw(mask)
        for points in strokes:
            curve = [(px * unit, py * unit) for px, py in _smooth(points)]
            pen.line(curve, fill=255, width=max(2, round(self.pen * unit)))
        small = mask.reduce(_FINE)
        box = small.getbbox()
        if box is None:
            raise ValueError(f"{text!r} has no ink")
        return small.crop(box), round(_BASE * unit / _FINE) - box[1]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A Catmull-Rom spline through the points, four pieces a span."""
    path = [points[0], *points, points[-1]]
    curve = [points[0]]
    for a, b, c, d in zip(path, path[1:], path[2:], path[3:], strict=False):
        for t in (0.25, 0.5, 0.75, 1.0):
            x = _catmull_rom(a[0], b[0], c[0], d[0], t)
            y = _catmull_rom(a[1], b[1], c[1], d[1], t)
            curve.append((x, y))
    return curve


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
