"""Pages with marked regions, as tools for annotation write them: what can be asked about them.

One annotation file can teach several tasks: all boxes with their labels (`od`), the boxes of one
label (`open_vocabulary_detection`), what a box shows (`region_to_category`), and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from florence_data.account import Account
from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.image_check import whole_image
from florence_data.question_table import page_id
from florence_data.sample import Location, Region, Sample, Supervision

RegionTask = Literal[
    "od",
    "dense_region_caption",
    "region_proposal",
    "ocr_with_region",
    "open_vocabulary_detection",
    "referring_expression_segmentation",
    "region_to_category",
    "region_to_description",
    "region_to_ocr",
    "region_to_segmentation",
]
"""The Florence-2 tasks that labelled regions can teach."""


class Shape(Protocol):
    """One annotation as its format has it."""

    def region(self, width: int, height: int) -> Region:
        """The region in pixels of a picture of that size. Raises `DropError` if it is of no use."""
        ...


@dataclass(frozen=True)
class MarkedPage:
    """One image and its annotations; `data` is the image where the annotation file embeds it."""

    name: str
    path: str
    shapes: Sequence[Shape]
    data: bytes | None = None


class MarkedPages(Protocol):
    """The pages of an annotation format. Picklable."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> MarkedPage:
        """One page. Raises `InputError` for an annotation file that is malformed."""
        ...


@dataclass(frozen=True)
class RegionPages:
    """Marked pages as a source of samples, with one or more supervisions a task.

    The account's rows are annotations. A page without a usable one is dropped.
    """

    pages: MarkedPages
    tasks: tuple[RegionTask, ...]
    source: str
    split: str

    def __len__(self) -> int:
        return len(self.pages)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for position in range(start, stop):
            sample = self._sample(self.pages[position], account)
            if sample is not None:
                yield sample

    def _sample(self, page: MarkedPage, account: Account) -> Sample | None:
        account.rows.read += len(page.shapes)
        try:
            image = whole_image(_image_bytes(page), page.path)
        except DropError as reason:
            account.rows.dropped.update([str(reason)] * len(page.shapes))
            _drop_page(account, str(reason))
            return None
        regions = []
        for shape in page.shapes:
            try:
                region = shape.region(image.width, image.height)
                if not region.label.strip():
                    raise DropError("no label")
                regions.append(region)
            except DropError as reason:
                account.rows.drop(str(reason))
        account.rows.kept += len(regions)
        sample_id = page_id(page.name)
        supervisions = tuple(
            row
            for task in self.tasks
            for row in _supervisions(task, regions, sample_id)
            if _is_taught(row, account)
        )
        if not supervisions:
            _drop_page(account, "nothing is marked")
            return None
        return Sample(
            id=sample_id,
            source=self.source,
            split=self.split,
            doc_id=sample_id,
            image=image,
            supervisions=supervisions,
        )


def _drop_page(account: Account, reason: str) -> None:
    """Count a page of which no question was made."""
    account.pages.read += 1
    account.pages.drop(reason)


def image_directory(path: str) -> Path:
    """The directory of images at a path. Raises `InputError` if there is none."""
    directory = Path(path)
    if not directory.is_dir():
        raise InputError(f"{path}: no such directory; expected the folder of the images")
    return directory


def _image_bytes(page: MarkedPage) -> bytes | None:
    if page.data is not None:
        return page.data
    try:
        return Location(page.path).read()
    except (InputError, OSError):
        return None


def _supervisions(
    task: RegionTask, regions: Sequence[Region], sample_id: str
) -> Iterator[Supervision]:
    """The questions that a task makes of a page's regions, with ids `SAMPLE_TASK_NUMBER`."""
    if not regions:
        return
    if task in ("od", "dense_region_caption", "region_proposal", "ocr_with_region"):
        yield Supervision(id=f"{sample_id}_{task}", task=task, regions=tuple(regions))
    elif task in ("open_vocabulary_detection", "referring_expression_segmentation"):
        for number, label in enumerate(dict.fromkeys(region.label for region in regions)):
            yield Supervision(
                id=f"{sample_id}_{task}_{number}",
                task=task,
                question=label,
                regions=tuple(region for region in regions if region.label == label),
            )
    else:
        for number, region in enumerate(regions):
            yield Supervision(
                id=f"{sample_id}_{task}_{number}",
                task=task,
                answers=() if task == "region_to_segmentation" else (region.label,),
                regions=(region,),
            )


def _is_taught(row: Supervision, account: Account) -> bool:
    """Count a question, and whether the task can use its regions."""
    account.questions.read += 1
    if row.task.endswith("_segmentation") and not all(region.polygons for region in row.regions):
        account.questions.drop("a region without an outline")
        return False
    return True
