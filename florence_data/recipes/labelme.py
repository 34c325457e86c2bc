"""Labelme: rectangles, polygons and circles drawn in Labelme, one JSON file an image.

https://github.com/wkentaro/labelme. The `labelme` library needs a desktop's windows to be imported,
so the JSON is read here: `shapes` with `label`, `shape_type` and `points` in pixels, and the image,
embedded (`imageData`, base64) or named relative to the file (`imagePath`).
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.region_pages import MarkedPage, RegionPages, RegionTask, image_directory
from florence_data.sample import Region
from florence_data.sample_set import SampleSet


def labelme(
    source: str,
    tasks: tuple[RegionTask, ...] = ("od",),
    name: str = "labelme",
    split: Literal["train", "validation", "test"] = "train",
) -> SampleSet:
    """A folder annotated with Labelme; one sample an image.

    Lines and points are dropped. A circle and a mask are kept as their boxes.

    Args:
        source: The folder with the JSON files, searched with its folders.
        tasks: What to ask of the regions; each task adds its questions to a page.
        name: What the samples give as their source.
        split: What the samples give as their split.
    """
    directory = image_directory(source)
    files = tuple(sorted(map(str, directory.rglob("*.json"))))
    if not files:
        raise InputError(f"{source}: no JSON file; expected one an image, as Labelme saves them")
    return SampleSet(RegionPages(LabelmePages(str(directory), files), tasks, name, split))


class LabelmeShape(msgspec.Struct, frozen=True):
    """A drawn shape; `points` are x and y."""

    label: str
    points: tuple[tuple[float, float], ...]
    shape_type: str = "polygon"

    def region(self, width: int, height: int) -> Region:
        if self.shape_type not in ("rectangle", "polygon", "circle", "mask"):
            raise DropError(f"a {self.shape_type}, not a region")
        if len(self.points) < (3 if self.shape_type == "polygon" else 2):
            raise DropError("a shape of too few points")
        if self.shape_type == "polygon":
            outline = tuple(value for point in self.points for value in point)
            return Region(label=self.label, box=_around(self.points), polygons=(outline,))
        if self.shape_type == "circle":
            (x, y), edge, *_ = self.points
            radius = math.dist((x, y), edge)
            corners = ((x - radius, y - radius), (x + radius, y + radius))
            return Region(label=self.label, box=_around(corners))
        return Region(label=self.label, box=_around(self.points))


def _around(points: tuple[tuple[float, float], ...]) -> tuple[float, float, float, float]:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


class LabelmeFile(msgspec.Struct, frozen=True):
    """What is read of a file; the names are Labelme's."""

    shapes: tuple[LabelmeShape, ...]
    imagePath: str  # noqa: N815
    imageData: str | None = None  # noqa: N815


@dataclass(frozen=True)
class LabelmePages:
    """The files of a folder, each read when its page is."""

    directory: str
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> MarkedPage:
        path = Path(self.files[position])
        try:
            file = _decoder.decode(path.read_bytes())
            data = None if file.imageData is None else b64decode(file.imageData, validate=True)
        except msgspec.MsgspecError as error:
            raise InputError(f"{path}: not a Labelme file: {error}") from None
        except binascii.Error as error:
            raise InputError(f"{path}: imageData is not base64: {error}") from None
        return MarkedPage(
            name=str(path.relative_to(self.directory).with_suffix("")),
            path=str(path.parent / file.imagePath.replace("\\", "/")),
            shapes=file.shapes,
            data=data,
        )


_decoder = msgspec.json.Decoder(LabelmeFile)
