"""From encoded bytes to pixels: as a picture, and as the numbers that a Florence-2 model reads.

Whatever the file holds, a picture comes out upright and in RGB: EXIF orientation is applied,
transparency lies on white, palettes, CMYK and 16 bits a channel are converted.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from florence_data.errors import InputError

PIXEL_LIMIT = 178_956_970
"""Pixels of the largest image that is decoded, Pillow's own limit: a gigabyte as RGB and more."""

MODEL_SIZE = (768, 768)
"""(width, height) in pixels of what Florence-2 base and large read."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
"""Of ImageNet's red, green and blue in 0…1, as in the checkpoints' `preprocessor_config.json`."""

STD = np.array([0.229, 0.224, 0.225], np.float32)
"""The standard deviations that belong to `MEAN`."""

_SCALE = (1 / (255 * STD))[:, None, None]
_SHIFT = (-MEAN / STD)[:, None, None]
_TRANSPOSING = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""

FAILURES = (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError)
"""What Pillow raises for files that are broken."""


def decode(data: bytes, name: str) -> PIL.Image.Image:
    """An upright RGB picture at the size it is stored in; `name` stands for it in error messages.

    Raises `InputError` if the bytes are no image, are cut short, or hold more than `PIXEL_LIMIT`
    pixels.
    """
    return upright(data, name).convert("RGB")


def decode_at(data: bytes, size: tuple[int, int], name: str) -> PIL.Image.Image:
    """A picture like `decode`'s, resized to `size` (width, height) with the bicubic filter.

    The aspect is not kept, as in the official processor. A JPEG that is at least twice as large is
    decoded at a half, a quarter or an eighth of its size, whichever still covers `size`.
    """
    picture = upright(data, name, at_least=size)
    if picture.size != size:
        picture = picture.resize(size, PIL.Image.Resampling.BICUBIC)
    return picture.convert("RGB")


def pixels(
    data: bytes, size: tuple[int, int] = MODEL_SIZE, name: str = "image"
) -> npt.NDArray[np.float32]:
    """What the model reads: float32 [3, height, width], red, green, blue, less `MEAN` over `STD`.

    `size` is (width, height). An image that is stored at this size is not resized again.
    """
    return normalise(decode_at(data, size, name))


def normalise(picture: PIL.Image.Image) -> npt.NDArray[np.float32]:
    """RGB of 0…255 [height, width, 3] as float32 [3, height, width], (x / 255 - MEAN) / STD."""
    values = np.asarray(picture)
    planes: npt.NDArray[np.float32] = values.transpose(2, 0, 1).astype(np.float32, order="C")
    planes *= _SCALE
    planes += _SHIFT
    return planes


def flat(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Any of Pillow's pictures, upright and in 8-bit L (grey) or RGB."""
    if picture.getexif().get(0x0112, 1) != 1:
        picture = PIL.ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep_grey(picture)
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", picture.size, "white")
        return PIL.Image.alpha_composite(white, picture).convert("RGB")
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _from_deep_grey(picture: PIL.Image.Image) -> PIL.Image.Image:
    """8-bit grey of integer or float grey; Pillow's own conversion cuts off at 255."""
    values = np.asarray(picture).astype(np.float64)
    if picture.mode == "F":
        top = 1.0 if values.max(initial=0) <= 1 else 255.0
    else:
        top = 65535.0 if picture.mode.startswith("I;16") or values.max(initial=0) > 255 else 255.0
    grey = np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(grey)


def upright(data: bytes, name: str, at_least: tuple[int, int] | None = None) -> PIL.Image.Image:
    """An upright picture in L (grey) or RGB, as large as stored.

    With `at_least`, a (width, height), a JPEG may come at a half, a quarter or an eighth of its
    size, as long as it still covers that. Raises what `decode` raises.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            if width * height > PIXEL_LIMIT:
                raise InputError(
                    f"{name}: {width}x{height} pixels; up to {PIXEL_LIMIT:,} are accepted"
                )
            if at_least is not None and picture.format in ("JPEG", "MPO"):
                turned = picture.getexif().get(0x0112, 1) in _TRANSPOSING
                picture.draft(None, at_least[::-1] if turned else at_least)
            picture.load()
            return flat(picture)
    except InputError:
        raise
    except FAILURES as error:
        raise unreadable(data, name, error) from None


def unreadable(data: bytes, name: str, error: BaseException) -> InputError:
    """The error for bytes that Pillow refuses."""
    if isinstance(error, PIL.UnidentifiedImageError):  # its text is the address of the bytes
        error = ValueError("of no known format")
    return InputError(
        f"{name}: not an image that can be read ({len(data)} bytes; {error}); "
        "JPEG, PNG, WebP and what else Pillow reads are accepted"
    )
