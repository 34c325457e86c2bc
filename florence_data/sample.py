"""The records: one image with everything asked about it.

A `Sample` is the unit of storage and of shuffling. Its JSON form, without the image's bytes, is the
`KEY.json` of a shard::

    {"id": "ffbf0227_9", "source": "docvqa", "split": "train", "doc_id": "ffbf0227",
     "image": {"width": 1700, "height": 2200, "format": "png", "sha256": "9f86d0…"},
     "supervisions": [{"id": "337", "task": "vqa", "question": "what is the date?",
                       "answers": ["1/8/93"], "regions": [],
                       "metadata": {"question_types": ["handwritten", "form"]}}]}
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import msgspec
import PIL.Image
from msgspec.structs import replace

from florence_data import images, storage
from florence_data.errors import InputError

IMAGE_FORMATS = ("jpeg", "png", "webp")
"""What a shard stores as it is; a page in another format is converted to PNG when it is read."""

_PILLOW_NAMES = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
"""Pillow's names of them; MPO is what it calls a JPEG with more pictures behind the first."""


class Region(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a page, in pixels of the stored image, origin at the top left.

    `box` is (x1, y1, x2, y2). Each polygon is flat (x1, y1, x2, y2, …); four points make the quad
    of an OCR line. A region has a box, polygons, or both.
    """

    label: str = ""
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[float, ...], ...] = ()


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """One question or task on an image.

    `task` names what is asked (`vqa`, or a Florence-2 task such as `ocr`); `answers` are all
    accepted references, in the source's order, empty where the source withholds them (a test
    split). `metadata` holds what the source says beside it, as JSON values; `question_types` there
    is a list of strings.
    """

    id: str
    task: str = "vqa"
    question: str = ""
    answers: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    metadata: dict[str, Any] = {}


class Location(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where bytes are: `size` bytes from `offset` of a local path or an fsspec URL.

    A size of None reaches to the end of the file.
    """

    path: str
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes themselves. Raises `InputError` if the file is absent or too short."""
        data = storage.read(self.path, self.offset, self.size)
        if self.size is not None and len(data) != self.size:
            raise InputError(
                f"{self.path}: {len(data)} bytes at offset {self.offset}, expected {self.size}"
            )
        return data


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of an encoded image, and its bytes or where to read them.

    `width` and `height` are pixels as stored, `format` is one of `IMAGE_FORMATS`, `sha256` is of
    the encoded bytes, in hexadecimal.
    """

    width: int
    height: int
    format: str
    sha256: str
    data: bytes = b""
    location: Location | None = None

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Image:
        """Read the facts from encoded bytes; `name` stands for them in error messages.

        Only the header is parsed: a truncated image shows when it is decoded. Formats other than
        `IMAGE_FORMATS` are decoded and stored as PNG. Raises `InputError` if it is no image.
        """
        try:
            with PIL.Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
                format = _PILLOW_NAMES.get(picture.format or "")
        except images.FAILURES as error:
            raise images.unreadable(data, name, error) from None
        if format is None:
            converted = io.BytesIO()
            images.decode(data, name).save(converted, "PNG")
            return cls.from_bytes(converted.getvalue(), name)
        return cls(
            width=width,
            height=height,
            format=format,
            sha256=hashlib.sha256(data).hexdigest(),
            data=data,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Image:
        """Like `from_bytes`, for a file."""
        return cls.from_bytes(Location(str(path)).read(), str(path))

    def read(self) -> bytes:
        """The encoded bytes, from memory or from where they are."""
        if self.data:
            return self.data
        if self.location is None:
            raise InputError("an image without bytes and without a location cannot be read")
        return self.location.read()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One image with its supervisions.

    `id` is unique in its set and names the shard's members; `source` is the data set (for The
    Cauldron, the subset); `doc_id` is the document that the page belongs to: statistics resample
    documents.
    """

    id: str
    source: str
    split: str
    doc_id: str
    image: Image
    supervisions: tuple[Supervision, ...]

    def to_json(self) -> bytes:
        """The content of `KEY.json`: everything but the image's bytes and location."""
        image = replace(self.image, data=b"", location=None)
        return _encoder.encode(replace(self, image=image))

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Sample:
        """Read `to_json`'s form; `name` stands for it in error messages.

        Unknown keys are ignored, so that a later schema can add some. Raises `InputError` with the
        path of the first value that does not fit.
        """
        try:
            return _decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise InputError(f"{name}: not the JSON of a sample: {error}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: not UTF-8: {error}") from None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Sample)
