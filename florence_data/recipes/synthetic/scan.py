"""What a scanner makes of a page: skew, faded ink, grain, specks, dark edges, compression."""

from __future__ import annotations

import io
import random
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from florence_data.recipes.synthetic.skew import Skew

_TILE = 512


def scan(page: Image.Image, rng: random.Random) -> tuple[bytes, Skew]:
    """The page as a JPEG file, and the turn that its boxes went through.

    A fifth of the pages is as clean as if it had never been on paper; of the others, two in five
    lie askew.
    """
    width, height = page.size
    clean = rng.random() < 0.2
    angle = 0.0 if clean or rng.random() < 0.6 else rng.uniform(-0.02, 0.02)
    skew = Skew(angle, width / 2, height / 2)
    if angle:
        page = skew.apply(page, "white")
    if not clean:
        _soil(page, rng)
        page = ImageChops.multiply(_fade(page, rng), _sheet(page, rng))
    file = io.BytesIO()
    page.save(file, "JPEG", quality=rng.choice((65, 75, 80, 85)))
    return file.getvalue(), skew


def _fade(page: Image.Image, rng: random.Random) -> Image.Image:
    """Ink that is not quite black, on paper that, in colour, is not quite white."""
    darkest = rng.randrange(0, 80)
    paper = rng.choice(((255, 255, 255), (255, 252, 240), (250, 244, 226), (246, 249, 255)))
    brightest = paper if page.mode == "RGB" else (255,)
    return page.point(
        [darkest + value * (top - darkest) // 255 for top in brightest for value in range(256)]
    )


def _soil(page: Image.Image, rng: random.Random) -> None:
    """Specks, and on some pages the dark rim of a copier's glass."""
    width, height = page.size
    pen = ImageDraw.Draw(page)
    for _ in range(rng.randrange(0, 60)):
        x, y, radius = rng.randrange(width), rng.randrange(height), rng.choice((0, 0, 1, 1, 2))
        pen.ellipse((x, y, x + radius, y + radius), fill=rng.choice(("#303030", "#707070")))
    if rng.random() < 0.25:
        rim = rng.randrange(3, max(4, width // 90))
        left, right, top = (0, 0, rim, height), (width - rim, 0, width, height), (0, 0, width, rim)
        edge = rng.choice((left, right, top))
        pen.rectangle(edge, fill=rng.choice(("#202020", "#606060")))


def _sheet(page: Image.Image, rng: random.Random) -> Image.Image:
    """Grain over an area of the page's size and mode."""
    width, height = page.size
    tile = _grain(rng.choice((4, 8, 14)))
    sheet = Image.new("L", page.size)
    left, top = -rng.randrange(_TILE), -rng.randrange(_TILE)
    for y in range(top, height, _TILE):
        for x in range(left, width, _TILE):
            sheet.paste(tile, (x, y))
    return sheet if page.mode == "L" else Image.merge("RGB", (sheet, sheet, sheet))


@lru_cache(maxsize=8)
def _grain(strength: int) -> Image.Image:
    """A tile of noise from 255 - 2 x strength to 255, the sum of two even ones."""
    rng = random.Random(f"grain {strength}")
    ramp = [255 - value * strength // 255 for value in range(256)]
    first, second = (
        Image.frombytes("L", (_TILE, _TILE), rng.randbytes(_TILE * _TILE)).point(ramp)
        for _ in range(2)
    )
    return ImageChops.add(first, second, offset=-255)
