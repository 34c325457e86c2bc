"""Tars that others made are read as they are, or indexed; what is unsafe in them is refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from florence_data import Account, InputError, SampleSet, ShardReader
from florence_data.plain_tars import index_tars, stream
from florence_data.sharding import shard

Members = list[tuple[str, bytes]]


def picture(number: int, format: str = "PNG") -> bytes:
    """A small encoded picture."""
    file = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(file, format)
    return file.getvalue()


def write(path: Path, members: Members, format: int = tarfile.PAX_FORMAT) -> None:
    """Write a tar with Python's tarfile."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


THEIRS: Members = [
    ("a/0.json", json.dumps({"question": "Who?", "answer": "Me", "n": 1}).encode()),
    ("a/0.png", picture(0)),
    ("a/1.jpg", picture(1, "JPEG")),
    ("a/1.txt", "a größe\n".encode()),
    ("a/2.webp", picture(2, "WEBP")),
    ("a/2.json", json.dumps({"texts": [{"user": "Q", "assistant": "A"}] * 2}).encode()),
    ("a/3.png", picture(3)),
    ("a/3.cls", b"7"),
    ("a/4.PNG", picture(4)),
    ("a/4.json", json.dumps({"caption": "a cat", "url": "x"}).encode()),
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_streamed_or_indexed_they_give_the_same_samples(tmp_path: Path, format: int) -> None:
    long = [(name.replace("a/", "größe/" * (15 if format else 1)), data) for name, data in THEIRS]
    write(tmp_path / "x.tar", THEIRS if format == tarfile.USTAR_FORMAT else long, format)
    account = Account()
    streamed = list(stream([tmp_path / "x.tar"], account))
    assert [
        [(s.task, s.question, s.answers) for s in sample.supervisions] for sample in streamed
    ] == [
        [("vqa", "Who?", ("Me",))],
        [("caption", "", ("a größe",))],
        [("vqa", "Q", ("A",))] * 2,
        [],
        [("caption", "", ("a cat",))],
    ]
    assert streamed[0].supervisions[0].metadata == {"n": 1}
    assert [sample.image.data for sample in streamed] == [
        data for name, data in THEIRS if name[-3:].lower() in ("png", "jpg", "ebp")
    ]
    assert account.rows.dropped == {"member .cls in a tar": 1} and account.rows.balanced
    before = (tmp_path / "x.tar").read_bytes()
    index_tars(tmp_path)
    assert (tmp_path / "x.tar").read_bytes() == before
    indexed = SampleSet.from_shards(tmp_path)
    assert [(s.to_json(), s.image.data) for s in indexed] == [
        (s.to_json(), s.image.data) for s in streamed
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset.json", "index.arrow", "x.tar",
    ]  # fmt: skip


def test_our_own_tars_can_be_indexed_anew(
    make_pages: Callable[..., SampleSet], tmp_path: Path, same: Callable[..., bool]
) -> None:
    pages = make_pages(5)
    shard(pages, tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(InputError, match="has an index already"):
        index_tars(tmp_path)
    (tmp_path / "index.arrow").unlink()
    with pytest.raises(InputError, match=r"tars without dataset.json; .*index"):
        ShardReader(tmp_path)
    index_tars(tmp_path)
    assert same(SampleSet.from_shards(tmp_path), pages)
    assert list(stream([tmp_path / "train-000000.tar"]))[2].id == "page 2"


def test_webdataset_s_own_writer_is_understood(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as writer:
        for number in range(3):
            writer.write(
                {
                    "__key__": f"{number:03d}",
                    "png": picture(number),
                    "json": {"question": "?", "answers": [str(number)]},
                }
            )
    index_tars(tmp_path)
    read = SampleSet.from_shards(tmp_path)
    assert [sample.supervisions[0].answers for sample in read] == [("0",), ("1",), ("2",)]
    assert read[1].image.data == picture(1)


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "a\\x.png"])
def test_names_that_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.tar", [(name, picture(0))])
    with pytest.raises(InputError, match=r"x.tar, offset \d+: member .* no safe relative name"):
        list(stream([tmp_path / "x.tar"]))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("x.png")
        info.type = kind
        info.linkname = "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=r"'x.png' is a link or a device"):
        list(stream([tmp_path / "x.tar"]))


def test_a_size_beyond_the_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x.png")
    info.size = 8**11 - 1
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
    with pytest.raises(InputError, match="8589934591 bytes goes beyond the end of the file"):
        list(stream([tmp_path / "x.tar"]))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.png", picture(0)), ("0.jpg", picture(1))], "'0.jpg' is a second jpg"),
        (
            [("0.png", picture(0)), ("1.png", picture(1)), ("0.json", b"{}")],
            "members of '0' do not follow each other",
        ),
        ([("0.png", picture(0)), ("0.json", b"[1]")], "'0.json' is no JSON object"),
        ([("0.png", picture(0)), ("0.json", b"{")], "'0.json' is no JSON object"),
        ([("0.png", picture(0)), ("0.txt", b"[1]")], "a text or a JSON object is expected"),
        ([("0.png", picture(0)), ("0.json", b'{"texts": 3}')], "texts is expected to be a list"),
        ([("0.png", picture(0)), ("0.json", b'{"question": 3}')], "expected to be strings"),
        ([("0.png", picture(0)), ("0.json", b'{"supervisions": 3}')], "not the JSON of a sample"),
    ],
)
def test_members_that_make_no_sample_are_named(
    tmp_path: Path, members: Members, message: str
) -> None:
    write(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=message):
        list(stream([tmp_path / "x.tar"]))


def test_what_has_no_usable_image_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "x.tar", [("0.json", b"{}"), ("1.png", b"no image"), ("2.png", picture(2))])
    described = index_tars(tmp_path)
    assert described.samples == 1
    assert described.account.rows.dropped == {
        "sample without an image": 1,
        "image that cannot be read": 1,
    }


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, 1500, 2048])
def test_a_tar_that_is_cut_short_anywhere_is_an_error(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "x.tar", [("0.png", picture(0)), ("1.png", picture(1))])
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:cut])
    with pytest.raises(InputError, match=r"x.tar, offset \d+"):
        list(stream([tmp_path / "x.tar"]))


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(InputError, match="not a tar header"):
        index_tars(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    (tmp_path / "x.tar").unlink()
    with pytest.raises(InputError, match=r"no .tar files"):
        index_tars(tmp_path)
