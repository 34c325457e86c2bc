"""The pages that are asked about, at a size for looking at."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import PIL.Image
import PIL.ImageOps

# What Pillow raises for bytes that are no image, or too large a one.
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError)

Images = Callable[[str], "bytes | None"]
"""Gives the encoded image (any format of Pillow's) of an id, or None where there is none."""


@dataclass(frozen=True)
class Size:
    """How pages are stored: at most `pixels` on the longer side, in a format of Pillow's."""

    pixels: int
    format: str
    quality: int


PAGE = Size(1600, "JPEG", 78)
THUMBNAIL = Size(720, "WEBP", 55)


@dataclass(frozen=True)
class Page:
    """A stored page; without `data` there is only the `problem` that there was with it."""

    data: bytes = b""
    width: int = 0
    height: int = 0
    problem: str = ""


def read_pages(ids: Sequence[str], images: Images, size: Size) -> Iterator[Page]:
    """The page of each id, in order; a few are in memory at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(ids), 4 * workers):
            encoded = [images(each) for each in ids[start : start + 4 * workers]]
            yield from pool.map(lambda data: _page(data, size), encoded)


def _page(data: bytes | None, size: Size) -> Page:
    if data is None:
        return Page(problem="not among the images")
    try:
        with PIL.Image.open(io.BytesIO(data)) as stored:
            stored.draft("RGB", (size.pixels, size.pixels))
            picture = PIL.ImageOps.exif_transpose(stored)
            # Written anew, so that nothing but pixels is handed on.
            picture = picture.convert("RGB")
        picture.thumbnail((size.pixels, size.pixels), PIL.Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        picture.save(encoded, size.format, quality=size.quality)
    except PIL.UnidentifiedImageError:
        return Page(problem="not an image of a known format")
    except _FAILURES as error:
        return Page(problem=f"a broken image: {error}")
    return Page(encoded.getvalue(), *picture.size)
