"""COCO: boxes and outlines in the JSON of the COCO data sets, which many tools export.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014; the format is described on
https://cocodataset.org/#format-data. One file has the images, the categories and the annotations:
`bbox` is x, y, width and height in pixels, `segmentation` a list of polygons or a run-length mask.
Document sets in this format are, for example, DocLayNet and PubLayNet.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.region_pages import MarkedPage, RegionPages, RegionTask, image_directory
from florence_data.sample import Region
from florence_data.sample_set import SampleSet


def coco(
    annotations: str,
    images: str,
    tasks: tuple[RegionTask, ...] = ("od",),
    name: str = "coco",
    split: Literal["train", "validation", "test"] = "train",
) -> SampleSet:
    """Boxes and outlines in COCO's JSON; one sample an image.

    The annotation file is held in memory, images are read one by one. Crowds (`iscrowd`) are
    dropped; a run-length mask is left out and its box kept.

    Args:
        annotations: The JSON file, such as instances_train2017.json.
        images: The folder that the file's image names are relative to.
        tasks: What to ask of the regions; each task adds its questions to a page.
        name: What the samples give as their source.
        split: What the samples give as their split.
    """
    directory = image_directory(images)
    return SampleSet(RegionPages(CocoPages.read(annotations, directory), tasks, name, split))


class CocoShape(msgspec.Struct, frozen=True):
    """An annotation; `segmentation` holds polygons, or a run-length mask."""

    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: tuple[tuple[float, ...], ...] | dict[str, Any] | None = None
    iscrowd: int = 0
    label: str = ""

    def region(self, width: int, height: int) -> Region:
        x, y, box_width, box_height = self.bbox
        if self.iscrowd:
            raise DropError("a crowd, not an object")
        if box_width <= 0 or box_height <= 0:
            raise DropError("an empty box")
        return Region(
            label=self.label,
            box=(x, y, x + box_width, y + box_height),
            polygons=self.segmentation if isinstance(self.segmentation, tuple) else (),
        )


@dataclass(frozen=True)
class CocoPages:
    """The images of an annotation file, in its order."""

    pages: tuple[MarkedPage, ...]

    @classmethod
    def read(cls, path: str, directory: Path) -> CocoPages:
        """Raises `InputError` if the file is malformed; its message names the annotation."""
        file = _parse(path)
        labels = {number: str(category["name"]) for number, category in file.cats.items()}
        pages = []
        for number, image in file.imgs.items():
            shapes = [
                _shape(annotation, labels, path) for annotation in file.imgToAnns.get(number, ())
            ]
            name = str(image["file_name"])
            pages.append(MarkedPage(name, str(directory / name), shapes))
        if unknown := file.imgToAnns.keys() - file.imgs.keys():
            raise InputError(f"{path}: image {min(unknown)} has annotations and is not in images")
        return cls(tuple(pages))

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, position: int) -> MarkedPage:
        return self.pages[position]


def _parse(path: str) -> Any:
    """The file as `pycocotools.coco.COCO`, which prints its progress; that is left out."""
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise InputError(
            "the detection extra is not installed; pip install 'florence-docs[detection]'"
        ) from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            file = COCO(path)
        for image in file.imgs.values():
            image["file_name"]
        for category in file.cats.values():
            category["name"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    except KeyError as error:
        raise InputError(f"{path}: an entry without {error}; not COCO's format") from None
    except (AssertionError, TypeError):
        raise InputError(
            f"{path}: expected an object with images, annotations and categories, as COCO has it"
        ) from None
    if not file.imgs:
        raise InputError(f"{path}: no images; expected COCO's images, annotations, categories")
    return file


def _shape(annotation: dict[str, Any], labels: dict[int, str], path: str) -> CocoShape:
    try:
        shape = msgspec.convert(annotation, CocoShape, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: annotation {annotation['id']}: {error}") from None
    if shape.category_id not in labels:
        raise InputError(
            f"{path}: annotation {annotation['id']}: category {shape.category_id} is not in "
            f"categories; there are {', '.join(map(str, sorted(labels)))}"
        )
    return msgspec.structs.replace(shape, label=labels[shape.category_id])
