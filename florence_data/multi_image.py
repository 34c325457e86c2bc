"""Making one page of several images."""

from __future__ import annotations

import io
from collections.abc import Sequence

import PIL.Image

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.images import decode
from florence_data.sample import Image

GAP = 16
"""White pixels between neighbours."""


def stitch(images: Sequence[Image], name: str) -> Image:
    """The images side by side, left to right, aligned at the top on white, as one PNG.

    Nothing is scaled: the width is the sum of the widths and gaps, the height is the greatest. A
    model with a fixed input size sees every image smaller for it. Raises `DropError` if one of them
    cannot be decoded.
    """
    try:
        pictures = [decode(image.read(), name) for image in images]
    except InputError:
        raise DropError("image damaged") from None
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    height = max(picture.height for picture in pictures)
    page = PIL.Image.new("RGB", (width, height), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width + GAP
    encoded = io.BytesIO()
    page.save(encoded, "PNG")
    return Image.from_bytes(encoded.getvalue(), name)
