"""YOLO: boxes or outlines in the text files that YOLO detectors are trained on.

The format of https://docs.ultralytics.com/datasets/detect/. `data.yaml` has the class names and the
folders of the splits; an image in `…/images/…` has its annotations in `…/labels/….txt`, one a line:
the class's number and then the centre, width and height of a box, or the points of an outline, in
0…1 of the image's width and height.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.region_pages import MarkedPage, RegionPages, RegionTask
from florence_data.sample import Region
from florence_data.sample_set import SampleSet

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


def yolo(
    source: str,
    tasks: tuple[RegionTask, ...] = ("od",),
    name: str = "yolo",
    split: Literal["train", "validation", "test"] = "train",
) -> SampleSet:
    """A data set in YOLO's layout; one sample an image.

    An image without a label file, or with an empty one, shows nothing and is dropped.

    Args:
        source: The data.yaml, or the folder that it is in.
        tasks: What to ask of the regions; each task adds its questions to a page.
        name: What the samples give as their source.
        split: Which of the file's splits.
    """
    path = Path(source)
    description = _read_description(path if path.is_file() else path / "data.yaml")
    return SampleSet(RegionPages(YoloPages.find(description, split), tasks, name, split))


@dataclass(frozen=True)
class YoloShape:
    """A line of a label file: what follows the class's number, in 0…1."""

    label: str
    values: tuple[float, ...]

    def region(self, width: int, height: int) -> Region:
        if len(self.values) == 4:
            x, y, box_width, box_height = self.values
            if box_width <= 0 or box_height <= 0:
                raise DropError("an empty box")
            left, top = (x - box_width / 2) * width, (y - box_height / 2) * height
            box = (left, top, left + box_width * width, top + box_height * height)
            return Region(label=self.label, box=box)
        xs = [x * width for x in self.values[0::2]]
        ys = [y * height for y in self.values[1::2]]
        outline = tuple(value for point in zip(xs, ys, strict=True) for value in point)
        box = (min(xs), min(ys), max(xs), max(ys))
        return Region(label=self.label, box=box, polygons=(outline,))


@dataclass(frozen=True)
class Description:
    """A data.yaml: class names by number, and the folders of images by split."""

    path: Path
    names: dict[int, str]
    folders: dict[str, tuple[Path, ...]]


@dataclass(frozen=True)
class YoloPages:
    """The images of a split; each label file is read when its page is."""

    directory: str
    names: dict[int, str]
    images: tuple[str, ...]

    @classmethod
    def find(cls, description: Description, split: str) -> YoloPages:
        """Raises `InputError` if the split or its images are absent."""
        folders = description.folders.get(split)
        if not folders:
            raise InputError(
                f"{description.path}: no {split} split; it has "
                f"{', '.join(description.folders) or 'none'}"
            )
        images = sorted(
            str(path)
            for folder in folders
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
        )
        if not images:
            searched = ", ".join(map(str, folders))
            raise InputError(f"{description.path}: no images in {searched}; folders are expected")
        return cls(str(description.path.parent), description.names, tuple(images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> MarkedPage:
        path = Path(self.images[position])
        labels = _label_file(path)
        lines = labels.read_text().splitlines() if labels.is_file() else []
        shapes = [
            _shape(line, self.names, f"{labels}: line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        name = os.path.relpath(path.with_suffix(""), self.directory)
        return MarkedPage(name, str(path), shapes)


def _label_file(image: Path) -> Path:
    """`a/images/b/c.jpg` has `a/labels/b/c.txt`; elsewhere the file is beside the image."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _shape(line: str, names: dict[int, str], place: str) -> YoloShape:
    first, *rest = line.split()
    try:
        number, values = int(float(first)), [float(word) for word in rest]
    except (ValueError, OverflowError):
        raise InputError(f"{place}: {line!r}; expected numbers") from None
    if not all(map(math.isfinite, values)):
        raise InputError(f"{place}: {line!r}; finite numbers are accepted")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise InputError(
            f"{place}: {len(values)} numbers after the class; a box has 4, an outline 6 or more"
        )
    if number not in names:
        raise InputError(f"{place}: class {number}; there are {', '.join(map(str, names))}")
    return YoloShape(names[number], tuple(values))


def _read_description(path: Path) -> Description:
    try:
        content: Any = msgspec.yaml.decode(path.read_bytes())
    except ImportError:
        raise InputError(
            "the detection extra is not installed; pip install 'florence-docs[detection]'"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        file = msgspec.convert(content, _DataYaml, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: not a YOLO data set: {error}") from None
    names = file.names if isinstance(file.names, dict) else dict(enumerate(file.names))
    folders = {
        split: tuple(_folder(path.parent, file.path, folder) for folder in _listed(given))
        for split, given in (("train", file.train), ("validation", file.val), ("test", file.test))
        if given
    }
    return Description(path, names, folders)


class _DataYaml(msgspec.Struct):
    names: dict[int, str] | list[str]
    path: str = ""
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None


def _listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _folder(directory: Path, root: str, folder: str) -> Path:
    """Where a folder is: in the file's `path`, or beside the file, where exports often are moved.

    Roboflow's exports say `../train/images` of the folder `train/images` beside the file.
    """
    candidates = (
        directory / root / folder,
        directory / folder,
        directory / folder.removeprefix("../"),
    )
    return next(filter(Path.is_dir, candidates), candidates[0])
