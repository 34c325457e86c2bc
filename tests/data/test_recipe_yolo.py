"""YOLO's layout: data.yaml, images and label files."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes.yolo import yolo
from florence_data.sample import Region, Sample
from florence_data.sample_set import SampleSet

pytest.importorskip("yaml")

DATA = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: stamp\n  1: table\n"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "data.yaml").write_text(DATA)
    for name in ("a", "b", "c"):
        add_image(tmp_path, name)
    label(tmp_path, "a", "0 0.5 0.25 0.2 0.1", "", "1 0.1 0.1 0.9 0.1 0.5 0.5")
    label(tmp_path, "b", "1 0.5 0.5 0 0.2", "1 0.5 0.5 1 1")
    return tmp_path


def add_image(root: Path, name: str, folder: str = "images/train") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (100, 200), "white").save(root / folder / f"{name}.jpg")


def label(root: Path, name: str, *lines: str, folder: str = "labels/train") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = []
    for page in samples.read(account):
        account.keep_page(len(page.supervisions))
        pages.append(page)
    assert all(tally.balanced for _, tally in account.ledgers())
    return pages, account


def test_boxes_and_outlines_become_pixels(dataset: Path) -> None:
    pages, account = read(yolo(str(dataset)))
    box, outline = pages[0].supervisions[0].regions
    assert box.label == "stamp" and box.box == pytest.approx((40, 40, 60, 60))
    assert outline.label == "table" and outline.box == pytest.approx((10, 20, 90, 100))
    assert outline.polygons[0] == pytest.approx((10, 20, 90, 20, 50, 100))
    assert pages[1].supervisions[0].regions == (Region(label="table", box=(0, 0, 100, 200)),)
    assert account.rows.dropped == {"an empty box": 1}
    assert account.pages.dropped == {"nothing is marked": 1}


def test_the_file_itself_may_be_named_and_names_may_be_a_list(dataset: Path) -> None:
    path = dataset / "other.yaml"
    path.write_text("train: [images/train]\nnames: [stamp, table]\n")
    assert [page.id for page in yolo(str(path))] == [page.id for page in yolo(str(dataset))]


def test_exports_that_say_they_are_one_folder_up_are_found(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: [stamp]\nnc: 1\n")
    add_image(tmp_path, "a", "train/images")
    label(tmp_path, "a", "0 0.5 0.5 1 1", folder="train/labels")
    assert [page.supervisions[0].regions[0].label for page in yolo(str(tmp_path))] == ["stamp"]


def test_images_of_one_name_in_two_folders_have_different_ids(dataset: Path) -> None:
    add_image(dataset, "a", "images/train/more")
    label(dataset, "a", "0 0.5 0.5 1 1", folder="labels/train/more")
    ids = [page.id for page in yolo(str(dataset))]
    assert len(ids) == len(set(ids)) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "3 numbers after the class; a box has 4"),
        ("0 0.5 0.5 0.1 0.1 0.9", "5 numbers"),
        ("stamp 0.5 0.5 0.1 0.1", "expected numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2; there are 0, 1"),
        ("0 0.5 nan 0.1 0.1", "finite numbers"),
    ],
)
def test_a_malformed_line_is_refused_by_file_and_number(dataset, line: str, message: str) -> None:
    label(dataset, "b", "1 0.5 0.5 1 1", line)
    with pytest.raises(InputError, match=rf"b\.txt: line 2: .*{message}"):
        list(yolo(str(dataset)))


def test_a_split_or_a_file_that_is_absent_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match="no test split; it has train, validation"):
        yolo(str(dataset), split="test")
    with pytest.raises(InputError, match="no images in"):
        yolo(str(dataset), split="validation")
    with pytest.raises(InputError, match="cannot be read"):
        yolo(str(dataset / "none"))


@pytest.mark.parametrize("content", ["names: 5", "train: a", "a: [", "- a"])
def test_a_description_that_is_not_yolos_is_refused(dataset: Path, content: str) -> None:
    (dataset / "data.yaml").write_text(content)
    with pytest.raises(InputError, match=r"data\.yaml: not "):
        yolo(str(dataset))
