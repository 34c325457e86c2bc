"""COCO's JSON: boxes and outlines become detection and region tasks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.prompts import decode, prompt_template
from florence_data.recipes.coco import coco
from florence_data.sample import Region, Sample
from florence_data.sample_set import SampleSet

pytest.importorskip("pycocotools")

OUTLINE = [10.0, 20.0, 40.0, 20.0, 40.0, 60.0, 10.0, 60.0]


def annotation(number: int, image: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 7,
        "bbox": [10, 20, 30, 40],
        "segmentation": [OUTLINE],
        "area": 1200,
        "iscrowd": 0,
    } | fields


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    for name in ("a.png", "b.png", "empty.png"):
        PIL.Image.new("RGB", (100, 200), "white").save(directory / name)
    return directory


def annotated(images: Path, *annotations: dict[str, Any]) -> str:
    path = images.parent / "instances.json"
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 100, "height": 200},
            {"id": 2, "file_name": "b.png", "width": 100, "height": 200},
            {"id": 3, "file_name": "empty.png", "width": 100, "height": 200},
            {"id": 4, "file_name": "gone.png", "width": 100, "height": 200},
        ],
        "categories": [{"id": 7, "name": "table"}, {"id": 9, "name": "figure"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return str(path)


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = []
    for page in samples.read(account):
        account.keep_page(len(page.supervisions))
        pages.append(page)
    assert all(tally.balanced for _, tally in account.ledgers())
    return pages, account


def test_the_boxes_of_an_image_become_one_detection(images: Path) -> None:
    path = annotated(
        images,
        annotation(1),
        annotation(2, category_id=9, bbox=[0.5, 0.5, 1, 1], segmentation=[]),
        annotation(3, image=2),
    )
    pages, account = read(coco(path, str(images)))
    assert [page.id for page in pages] == ["a-" + pages[0].id[2:], "b-" + pages[1].id[2:]]
    (row,) = pages[0].supervisions
    assert row.task == "od"
    assert row.regions == (
        Region(label="table", box=(10, 20, 40, 60), polygons=(tuple(OUTLINE),)),
        Region(label="figure", box=(0.5, 0.5, 1.5, 1.5)),
    )
    assert (account.rows.read, account.rows.kept) == (3, 3)
    assert account.pages.dropped == {"nothing is marked": 1, "image missing": 1}


def test_what_is_of_no_use_is_dropped_and_counted(images: Path) -> None:
    mask = {"counts": [0, 5, 20000 - 5], "size": [200, 100]}
    path = annotated(
        images,
        annotation(1, iscrowd=1, segmentation=mask),
        annotation(2, bbox=[1, 1, 0, 5]),
        annotation(3, segmentation=mask),
        annotation(4, image=4),
    )
    ((page,), account) = read(coco(path, str(images)))
    assert page.supervisions[0].regions == (Region(label="table", box=(10, 20, 40, 60)),)
    assert account.rows.dropped == {
        "a crowd, not an object": 1,
        "an empty box": 1,
        "image missing": 1,
    }


def test_every_region_task_makes_a_supervision_that_its_template_accepts(images: Path) -> None:
    path = annotated(
        images, annotation(1), annotation(2, bbox=[50, 50, 9, 9]), annotation(3, category_id=9)
    )
    tasks = (
        *("od", "dense_region_caption", "region_proposal", "ocr_with_region"),
        *("open_vocabulary_detection", "referring_expression_segmentation"),
        *("region_to_category", "region_to_description", "region_to_ocr"),
        "region_to_segmentation",
    )
    ((page,), account) = read(coco(path, str(images), tasks=tasks))
    examples = {row.id: prompt_template("docvqa").example(page, row) for row in page.supervisions}
    assert len(examples) == 4 * 1 + 2 * 2 + 4 * 3 == account.questions.kept
    assert all(example.target for example in examples.values())
    (category, *_) = [e for e in examples.values() if e.supervision.task == "region_to_category"]
    assert category.target == ("table",)
    asked = [e for e in examples.values() if e.supervision.task == "open_vocabulary_detection"]
    assert [e.prompt for e in asked] == [
        ("Locate table in the image.",),
        ("Locate figure in the image.",),
    ]
    answer = decode("open_vocabulary_detection", asked[0].target, (100, 200))
    assert [region.label for region in answer.regions] == ["table", "table"]


def test_a_region_without_an_outline_is_dropped_from_segmentation(images: Path) -> None:
    path = annotated(images, annotation(1), annotation(2, segmentation=[]))
    ((page,), account) = read(coco(path, str(images), tasks=("region_to_segmentation",)))
    assert len(page.supervisions) == 1
    assert account.questions.dropped == {"a region without an outline": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 8}, r"annotation 1: category 8 is not in categories; there are 7, 9"),
        ({"bbox": [1, 2, 3]}, r"annotation 1: .*length 4.*bbox"),
        ({"bbox": "wide"}, r"annotation 1: .*bbox"),
        ({"image_id": 99}, "image 99 has annotations"),
    ],
)
def test_a_malformed_annotation_is_refused_by_its_id(images: Path, change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        coco(annotated(images, annotation(1, **change)), str(images))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object with images"),
        ("{}", "no images"),
        ('{"images": [{"id": 1}]}', "without 'file_name'"),
        ('{"images": [{"file_name": "a"}]}', "without 'id'"),
    ],
)
def test_a_file_that_is_not_cocos_is_refused(images: Path, content: str, message: str) -> None:
    path = images.parent / "wrong.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        coco(str(path), str(images))


def test_missing_files_are_named(images: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        coco(str(images / "none.json"), str(images))
    with pytest.raises(InputError, match="no such directory"):
        coco(annotated(images), str(images / "none"))


def test_nothing_is_printed_and_the_source_travels_to_workers(images: Path, capsys) -> None:
    samples = coco(annotated(images, annotation(1)), str(images))
    assert capsys.readouterr().out == ""
    assert list(SampleSet(pickle.loads(pickle.dumps(samples.source)))) == list(samples)
