"""A page under the pen: draws in design units and remembers where the ink is.

A design page is 1275 units wide and 1650 high (letter paper at 150 dpi), origin at the top left. On
an image of another size it is scaled as a whole and centred.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from florence_data.recipes.synthetic.fonts import Family, Font
from florence_data.recipes.synthetic.handwriting import Hand

PAGE_WIDTH, PAGE_HEIGHT = 1275, 1650

Box = tuple[float, float, float, float]
Align = Literal["left", "right", "center"]
_BEFORE = {"left": 0.0, "right": 1.0, "center": 0.5}  # the part of a line left of its x
_RIM = 4  # pixels around a mask of letters, for those that reach out of their own advance


@dataclass(frozen=True)
class Ink:
    """Something drawn: the text that it shows ("" for a mark), and its box in pixels."""

    text: str
    box: Box


@dataclass(frozen=True)
class Style:
    """What the parts of a page have in common; colours are "#rrggbb", `size` is of body text."""

    body: Family
    heading: Family
    hand: Hand
    ink: str
    accent: str
    pen: str
    size: float


@dataclass(frozen=True)
class Paragraph:
    """Lines of text that were drawn; `bottom` is the base line after the last, in design units."""

    lines: tuple[tuple[str, tuple[int, int]], ...]
    font: Font
    bottom: float

    def find(self, phrase: str) -> tuple[Ink, ...]:
        """Where the phrase stands, one piece a line. Raises ValueError unless it is there once."""
        text = " ".join(line for line, _ in self.lines)
        # Whole words: a number also occurs inside of longer ones.
        found = list(re.finditer(rf"(?<!\S){re.escape(phrase)}(?=[.,]?(?:\s|$))", text))
        if len(found) != 1:
            raise ValueError(f"{phrase!r} is {len(found)} times in {text!r}")
        start, end = found[0].span()
        pieces = []
        for line, (x, y) in self.lines:
            before, piece = line[: max(start, 0)], line[max(start, 0) : max(end, 0)]
            if piece.strip():
                mask, above = _letters(self.font, piece)
                left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
                x += round(self.font.getlength(before)) - _RIM
                y -= above
                pieces.append(Ink(piece, (x + left, y + top, x + right, y + bottom)))
            start -= len(line) + 1
            end -= len(line) + 1
        return tuple(pieces)


class Canvas:
    """An image being drawn on; coordinates and sizes are design units, text stands on its `y`.

    `mode` is Pillow's, `L` or `RGB`; `shift` moves the page right and down on the image.
    """

    def __init__(
        self, width: int, height: int, mode: str, style: Style, shift: tuple[float, float] = (0, 0)
    ) -> None:
        self.image = Image.new(mode, (width, height), "white")
        self.style = style
        self.inks: list[Ink] = []
        self.scale = min(width / PAGE_WIDTH, height / PAGE_HEIGHT)
        self._left = (width - PAGE_WIDTH * self.scale) / 2 + shift[0] * self.scale
        self._top = (height - PAGE_HEIGHT * self.scale) / 2 + shift[1] * self.scale
        self._pen = ImageDraw.Draw(self.image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float | None = None,
        bold: bool = False,
        align: Align = "left",
        color: str | None = None,
        family: Family | None = None,
        max_width: float | None = None,
    ) -> Ink:
        """Print one line; in a smaller size where it would be wider than `max_width`."""
        family = family or self.style.body
        size = size or self.style.size
        if max_width is not None:
            size *= min(1.0, max_width / self.width(text, size, bold, family))
        font = self._font(family, size, bold)
        left, base = self.pixel(x, y)
        left -= round(font.getlength(text) * _BEFORE[align])
        mask, above = _letters(font, text, embolden=bold and family.bold is None)
        box = mask.getbbox()
        if box is None:
            raise ValueError(f"{text!r} has no ink")
        mask = mask.crop(box)
        return self.stencil(
            text, mask, left - _RIM + box[0], base - above + box[1], color or self.style.ink
        )

    def heading(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        align: Align = "left",
        color: str | None = None,
        max_width: float | None = None,
    ) -> Ink:
        """Print one bold line in the family for headings."""
        return self.text(
            x,
            y,
            text,
            size=size,
            bold=True,
            align=align,
            color=color,
            family=self.style.heading,
            max_width=max_width,
        )

    def paragraph(
        self, x: float, y: float, width: float, text: str, *, size: float | None = None
    ) -> Paragraph:
        """Print text broken at spaces into lines no wider than `width`."""
        size = size or self.style.size
        lines = []
        for line in self.wrap(text, width, size):
            self.text(x, y, line, size=size)
            lines.append((line, self.pixel(x, y)))
            y += 1.45 * size
        return Paragraph(tuple(lines), self._font(self.style.body, size, False), y)

    def handwrite(
        self, x: float, y: float, text: str, rng: random.Random, *, size: float, max_width: float
    ) -> Ink:
        """Write by hand, capitals `size` high; smaller where it would be wider than `max_width`."""
        mask, above = self.style.hand.write(text, size * self.scale, rng)
        if mask.width > max_width * self.scale:
            ratio = max_width * self.scale / mask.width
            mask = mask.resize((round(mask.width * ratio), max(1, round(mask.height * ratio))))
            above = round(above * ratio)
        left, base = self.pixel(x, y)
        return self.stencil(text, mask, left, base - above, self.style.pen)

    def stencil(self, text: str, mask: Image.Image, left: int, top: int, color: str) -> Ink:
        """Paint colour through a mask (mode L) whose corner is at a pixel."""
        box = (left, top, left + mask.width, top + mask.height)
        self.image.paste(color, box, mask)
        return self.record(text, box)

    def width(
        self, text: str, size: float | None = None, bold: bool = False, family: Family | None = None
    ) -> float:
        """How wide a line of text would be."""
        font = self._font(family or self.style.body, size or self.style.size, bold)
        return font.getlength(text) / self.scale

    def wrap(self, text: str, width: float, size: float | None = None) -> list[str]:
        """Break text at its spaces into lines no wider than `width`, as far as words allow."""
        words = text.split()
        lines = [words[0]]
        space = self.width(" ", size)
        used = self.width(words[0], size)
        for word in words[1:]:
            wide = self.width(word, size)
            if used + space + wide > width:
                lines.append(word)
                used = wide
            else:
                lines[-1] += f" {word}"
                used += space + wide
        return lines

    def line(
        self, x1: float, y1: float, x2: float, y2: float, width: float = 2, color: str | None = None
    ) -> None:
        """A straight line."""
        points = [self.pixel(x1, y1), self.pixel(x2, y2)]
        self._pen.line(points, fill=color or self.style.ink, width=self._thick(width))

    def rectangle(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        fill: str | None = None,
        outline: str | None = None,
        width: float = 2,
    ) -> None:
        """A rectangle, filled, outlined or both."""
        corners = (*self.pixel(x1, y1), *self.pixel(x2, y2))
        self._pen.rectangle(corners, fill=fill, outline=outline, width=self._thick(width))

    def ellipse(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        fill: str | None = None,
        outline: str | None = None,
        width: float = 2,
    ) -> None:
        """An ellipse that fills the rectangle."""
        corners = (*self.pixel(x1, y1), *self.pixel(x2, y2))
        self._pen.ellipse(corners, fill=fill, outline=outline, width=self._thick(width))

    def slice(self, x: float, y: float, radius: float, start: float, end: float, fill: str) -> None:
        """A slice of a pie around (x, y), angles in degrees clockwise from three o'clock."""
        corners = (*self.pixel(x - radius, y - radius), *self.pixel(x + radius, y + radius))
        self._pen.pieslice(corners, start, end, fill=fill, outline="#ffffff")

    def polygon(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        """A filled polygon."""
        self._pen.polygon([self.pixel(x, y) for x, y in points], fill=fill)

    def mark(self, x1: float, y1: float, x2: float, y2: float) -> Ink:
        """Remember a region without text, such as a picture or a ticked box."""
        return self.record("", (*self.pixel(x1, y1), *self.pixel(x2, y2)))

    def record(self, text: str, box: Box) -> Ink:
        """Remember what was drawn where, in pixels."""
        ink = Ink(text, box)
        self.inks.append(ink)
        return ink

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """The pixel of a point."""
        return round(self._left + x * self.scale), round(self._top + y * self.scale)

    def _font(self, family: Family, size: float, bold: bool) -> Font:
        return family.font(max(5, int(size * self.scale)), bold)

    def _thick(self, width: float) -> int:
        return max(1, round(width * self.scale))


def _letters(font: Font, text: str, embolden: bool = False) -> tuple[Image.Image, int]:
    """A mask (mode L) of a line that begins `_RIM` from its left, and its base line from the top.

    A font without a bold face is emboldened by drawing it again a little to the right, unless it
    is so small that its letters would run together.
    """
    ascent, descent = font.getmetrics()
    above = ascent + _RIM
    size = (int(font.getlength(text)) + 2 * _RIM + 1, above + descent + _RIM)
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for step in range(1 + math.ceil((font.size - 11) / 20) if embolden and font.size > 11 else 1):
        pen.text((_RIM + step, above), text, fill=255, font=font, anchor="ls")
    return mask, above
