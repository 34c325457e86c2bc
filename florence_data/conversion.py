"""Storing images in another size or format than the source's.

The resize is the official processor's: bicubic, of the whole decoded picture, aspect not kept. What
differs from it afterwards is what the JPEG or WebP encoder leaves out.
"""

from __future__ import annotations

import io
import re

import PIL.Image
from msgspec.structs import replace

from florence_data.errors import InputError
from florence_data.images import upright
from florence_data.sample import Image, Region, Sample
from florence_data.shard_format import ImageDescription


def parse_image_size(text: str) -> tuple[int, int] | None:
    """(width, height) from `768` or `640x480`, None from `none`. Raises `InputError` otherwise."""
    if text == "none":
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if match is None:
        raise InputError(f"image size {text!r}: expected none, 768, or WIDTHxHEIGHT in pixels")
    return int(match[1]), int(match[2] or match[1])


def convert(sample: Sample, to: ImageDescription) -> Sample:
    """The sample with its image's bytes in memory, stored as `to` wants it.

    The source's own bytes stay where they fit. Regions follow a change of size. Raises `InputError`
    for an image that cannot be read or, where it must change, decoded.
    """
    image = _convert(sample.image, to, f"sample {sample.id}")
    if (image.width, image.height) == (sample.image.width, sample.image.height):
        return replace(sample, image=image)
    across, down = image.width / sample.image.width, image.height / sample.image.height
    supervisions = tuple(
        replace(
            supervision,
            regions=tuple(_scale(region, across, down) for region in supervision.regions),
        )
        for supervision in sample.supervisions
    )
    return replace(sample, image=image, supervisions=supervisions)


def _convert(image: Image, to: ImageDescription, name: str) -> Image:
    data = image.read()
    size = to.size or (image.width, image.height)
    format = image.format if to.format == "keep" else to.format
    if size == (image.width, image.height) and format == image.format:
        return replace(image, data=data, location=None)
    picture = upright(data, name)
    if picture.size != size:
        picture = picture.resize(size, PIL.Image.Resampling.BICUBIC)
    stored = io.BytesIO()
    if format == "png":
        picture.save(stored, "PNG")
    else:
        picture.save(stored, format.upper(), quality=to.quality)
    return Image.from_bytes(stored.getvalue(), name)


def _scale(region: Region, across: float, down: float) -> Region:
    box = region.box
    if box is not None:
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    polygons = tuple(
        tuple(value * (down if index % 2 else across) for index, value in enumerate(polygon))
        for polygon in region.polygons
    )
    return replace(region, box=box, polygons=polygons)
