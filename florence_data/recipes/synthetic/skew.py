"""A small turn of an image, and where its boxes are afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from florence_data.recipes.synthetic.canvas import Box


@dataclass(frozen=True)
class Skew:
    """A turn by `angle` radians, clockwise as seen, about the point (`x`, `y`) in pixels."""

    angle: float
    x: float
    y: float

    def quad(self, box: Box) -> tuple[float, ...]:
        """Where a box's corners come to lie: x1, y1, …, x4, y4, clockwise from the top left."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        left, top, right, bottom = box
        turned = []
        for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
            turned.append(self.x + cos * (x - self.x) - sin * (y - self.y))
            turned.append(self.y + sin * (x - self.x) + cos * (y - self.y))
        return tuple(turned)

    def bounds(self, box: Box) -> Box:
        """The upright box around `quad`."""
        quad = self.quad(box)
        return min(quad[::2]), min(quad[1::2]), max(quad[::2]), max(quad[1::2])

    def apply(self, image: Image.Image, background: str) -> Image.Image:
        """Turn an image within its own size; what comes in at the edges is background."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        # Pillow asks for the way back: the source of each point of the result.
        back = (
            cos, sin, self.x - cos * self.x - sin * self.y,
            -sin, cos, self.y + sin * self.x - cos * self.y,
        )  # fmt: skip
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            back,
            Image.Resampling.BILINEAR,
            fillcolor=background,
        )
