"""Labelme's files: drawn shapes become regions."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes.labelme import labelme
from florence_data.sample import Region, Sample
from florence_data.sample_set import SampleSet


def png() -> bytes:
    target = io.BytesIO()
    PIL.Image.new("RGB", (100, 200), "white").save(target, "PNG")
    return target.getvalue()


def shape(kind: str, *points: tuple[float, float], label: str = "stamp") -> dict[str, Any]:
    """A shape as Labelme 5 saves one."""
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def save(path: Path, *shapes: dict[str, Any], image: str = "", data: bytes | None = None) -> None:
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image or f"{path.stem}.png",
        "imageData": None if data is None else base64.b64encode(data).decode(),
        "imageHeight": 200,
        "imageWidth": 100,
    }
    path.write_text(json.dumps(content))


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = []
    for page in samples.read(account):
        account.keep_page(len(page.supervisions))
        pages.append(page)
    assert all(tally.balanced for _, tally in account.ledgers())
    return pages, account


RECTANGLE = shape("rectangle", (40.0, 60.0), (10.0, 20.0))


def test_each_kind_of_shape_becomes_a_region_or_is_dropped_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    save(
        tmp_path / "a.json",
        RECTANGLE,
        shape("polygon", (1.0, 2.0), (9.0, 2.0), (5.0, 8.0), label="logo"),
        shape("circle", (50.0, 50.0), (53.0, 54.0)),
        shape("mask", (3.0, 4.0), (8.0, 9.0)),
        shape("line", (1.0, 1.0), (2.0, 2.0)),
        shape("point", (1.0, 1.0)),
        shape("polygon", (1.0, 1.0), (2.0, 2.0)),
        shape("rectangle", (1.0, 1.0), (2.0, 2.0), label=" "),
    )
    ((page,), account) = read(labelme(str(tmp_path)))
    assert page.supervisions[0].regions == (
        Region(label="stamp", box=(10, 20, 40, 60)),
        Region(label="logo", box=(1, 2, 9, 8), polygons=((1, 2, 9, 2, 5, 8),)),
        Region(label="stamp", box=(45, 45, 55, 55)),
        Region(label="stamp", box=(3, 4, 8, 9)),
    )
    assert account.rows.dropped == {
        "a line, not a region": 1,
        "a point, not a region": 1,
        "a shape of too few points": 1,
        "no label": 1,
    }


def test_the_image_is_the_embedded_one_or_the_file_named(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "b.png").write_bytes(png())
    save(tmp_path / "a.json", RECTANGLE, image="not-there.png", data=png())
    save(tmp_path / "b.json", RECTANGLE, image="images\\b.png")
    save(tmp_path / "c.json", RECTANGLE)
    pages, account = read(labelme(str(tmp_path), tasks=("od", "region_proposal")))
    assert [page.id for page in pages] == ["a", "b"]
    assert [page.image.read() for page in pages] == [png(), png()]
    assert [row.task for row in pages[0].supervisions] == ["od", "region_proposal"]
    assert account.rows.dropped == {"image missing": 1}


def test_files_in_folders_have_different_ids(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.json", RECTANGLE, data=png())
    pages, _ = read(labelme(str(tmp_path)))
    assert len({page.id for page in pages}) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a Labelme file"),
        ('{"shapes": [{"label": "a", "points": [[1]]}], "imagePath": "a.png"}', r"points"),
        ('{"shapes": []}', "imagePath"),
        ('{"shapes": [], "imagePath": "a.png", "imageData": "?"}', "not base64"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=rf"a\.json: .*{message}"):
        list(labelme(str(tmp_path)))


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no JSON file"):
        labelme(str(tmp_path))
    with pytest.raises(InputError, match="no such directory"):
        labelme(str(tmp_path / "none"))
