"""A shard set is plain ustar, and other programs read it without this project."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import PIL.Image
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from florence_data import Image, InputError, Sample, SampleSet, ShardWriter, Supervision
from florence_data.shard_format import Description, member_header, member_key
from florence_data.shard_writer import ShardOptions, parse_size
from florence_data.sharding import shard


def test_webdataset_reads_every_page_and_its_questions(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    webdataset = pytest.importorskip("webdataset")
    pages = make_pages(9)
    shard(pages, tmp_path / "set", options=ShardOptions(shard_pages=3))
    urls = str(tmp_path / "set" / "train-{000000..000002}.tar")
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"]) for sample in read] == [
        json.loads(page.to_json()) for page in pages
    ]
    assert [sample.get("png") or sample.get("jpg") or sample.get("webp") for sample in read] == [
        page.image.data for page in pages
    ]


def test_the_datasets_library_reads_every_page_and_its_questions(
    make_pages: Callable[..., SampleSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    pages = SampleSet.from_samples(page for page in make_pages(12) if page.image.format == "png")
    shard(pages, tmp_path / "set", options=ShardOptions(shard_pages=2))
    files = sorted(map(str, (tmp_path / "set").glob("*.tar")))
    read = datasets.load_dataset(
        "webdataset", data_files={"train": files}, cache_dir=str(tmp_path / "cache")
    )["train"]
    assert [row["json"]["id"] for row in read] == [page.id for page in pages]
    assert [row["json"]["supervisions"][0]["question"] for row in read] == [
        page.supervisions[0].question for page in pages
    ]
    assert [row["png"].size for row in read] == [(30, 40)] * len(pages)


def test_tar_and_pandas_read_it(make_pages: Callable[..., SampleSet], tmp_path: Path) -> None:
    pages = make_pages(4)
    shard(pages, tmp_path / "set")
    listing = subprocess.run(
        ["tar", "-tf", tmp_path / "set" / "train-000000.tar"], check=True, capture_output=True
    )
    assert listing.stdout.decode().split() == [
        f"page%20{number}.{suffix}"
        for number, image in enumerate(["png", "jpg", "webp", "png"])
        for suffix in (image, "json")
    ]
    index = pd.read_feather(tmp_path / "set" / "index.arrow")
    tar = (tmp_path / "set" / "train-000000.tar").read_bytes()
    for row, page in zip(index.itertuples(), pages, strict=True):
        assert tar[row.image_offset : row.image_offset + row.image_size] == page.image.data
        assert tar[row.json_offset : row.json_offset + row.json_size] == page.to_json()
        assert (row.id, row.width, row.height) == (page.id, 30, 40)
        assert row.sha256 == hashlib.sha256(page.image.data).hexdigest()
        assert row.supervisions == len(page.supervisions)


def test_the_description_counts_and_checks_every_file(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    pages = make_pages(10)
    shard(pages, tmp_path / "set", options=ShardOptions(shard_pages=4), made_from={"by": "test"})
    described = json.loads((tmp_path / "set" / "dataset.json").read_bytes())
    assert described["samples"] == 10
    assert described["supervisions"] == sum(len(page.supervisions) for page in pages)
    assert described["made_from"] == {"by": "test"}
    assert [shard["samples"] for shard in described["shards"]] == [4, 4, 2]
    for file in (*described["shards"], described["index"]):
        content = (tmp_path / "set" / file["name"]).read_bytes()
        assert file["bytes"] == len(content)
        assert file["checksum"] == f"xxh3-128:{xxhash.xxh3_128(content).hexdigest()}"


@given(st.text(st.characters(codec="ascii", exclude_characters="\0/"), min_size=1, max_size=100))
def test_a_header_is_what_tarfile_writes(name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(name) * 12345
    expected = info.tobuf(tarfile.USTAR_FORMAT)
    ours = member_header(name, info.size)
    assert tarfile.TarInfo.frombuf(ours, "utf-8", "strict").size == info.size
    assert ours == expected


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300), unique=True))
def test_keys_differ_as_ids_do_and_fit_a_header(ids: list[str]) -> None:
    keys = [member_key(sample_id) for sample_id in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        assert key.isascii() and len(key) <= 95 and not set(key) & set("./\\ ")


@pytest.mark.parametrize(
    "sample_id", ["a/b/../c", "größe.5", "x" * 500, "..", "/etc/passwd", "日本"]
)
def test_ids_that_a_tar_cannot_hold_come_back_whole(
    sample_id: str, make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    page = make_pages(1)[0]
    renamed = Sample(
        id=sample_id,
        source=page.source,
        split=page.split,
        doc_id=page.doc_id,
        image=page.image,
        supervisions=page.supervisions,
    )
    shard(SampleSet.from_samples([renamed]), tmp_path / "set")
    assert [sample.id for sample in SampleSet.from_shards(tmp_path / "set")] == [sample_id]
    with tarfile.open(tmp_path / "set" / "train-000000.tar") as tar:
        assert len(tar.getnames()) == 2
        assert all("/" not in name and len(name) <= 100 for name in tar.getnames())


@pytest.mark.parametrize(
    ("text", "size"),
    [("2MB", 2_000_000), ("1GiB", 2**30), ("1.5 kb", 1500), ("512", 512), ("7B", 7)],
)
def test_sizes_are_understood(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "2 parsecs", "1e3"])
def test_other_sizes_are_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="expected a number of bytes"):
        parse_size(text)


def test_shards_stay_below_the_size(make_pages: Callable[..., SampleSet], tmp_path: Path) -> None:
    described = shard(make_pages(40), tmp_path / "set", options=ShardOptions(shard_size=30_000))
    assert len(described.shards) > 3
    assert max(shard.bytes for shard in described.shards) <= 30_000


def test_a_page_larger_than_a_shard_has_its_own(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    described = shard(make_pages(3), tmp_path / "set", options=ShardOptions(shard_size=1))
    assert [shard.samples for shard in described.shards] == [1, 1, 1]


def test_each_split_has_its_own_shards(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    other = SampleSet.from_samples(
        Sample(
            id="v" + page.id,
            source=page.source,
            split="validation",
            doc_id=page.doc_id,
            image=page.image,
            supervisions=page.supervisions,
        )
        for page in make_pages(2)
    )
    described = shard(make_pages(2) + other, tmp_path / "set")
    assert [shard.name for shard in described.shards] == [
        "train-000000.tar",
        "validation-000000.tar",
    ]


def test_a_writer_takes_samples_one_by_one(
    make_pages: Callable[..., SampleSet],
    same: Callable[[SampleSet, SampleSet], bool],
    tmp_path: Path,
) -> None:
    pages = make_pages(5)
    with ShardWriter(tmp_path / "set") as writer:
        for page in pages:
            writer.write(page)
    assert same(SampleSet.from_shards(tmp_path / "set"), pages)


def test_a_writer_that_fails_leaves_nothing_that_looks_finished(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "set") as writer:
        writer.write(make_pages(1)[0])
        raise ZeroDivisionError
    with pytest.raises(InputError, match=r"no shard set|unfinished"):
        SampleSet.from_shards(tmp_path / "set")
    assert not list((tmp_path / "set").rglob("*.tar"))


@pytest.mark.parametrize("item_pages", [1, 100])
def test_two_samples_with_one_id_are_an_error_that_names_both(
    make_pages: Callable[..., SampleSet], tmp_path: Path, item_pages: int
) -> None:
    pages = make_pages(3)
    with pytest.raises(InputError, match=r"id 'page 0': number\D*0 .*3") as error:
        shard(
            pages + pages.subset(first=1),
            tmp_path / "set",
            options=ShardOptions(item_pages=item_pages),
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format 'other', expected 'florence-shards'"),
        ({"version": 99}, "version 99"),
        ({"samples": "many"}, "samples"),
        (
            {"index": {"name": "../index.arrow", "bytes": 1, "checksum": ""}},
            "not the name of a file",
        ),
    ],
)
def test_a_description_of_something_else_is_refused(
    make_pages: Callable[..., SampleSet], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    shard(make_pages(1), tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        SampleSet.from_shards(tmp_path / "set")
    assert str(path).startswith(str(tmp_path))


def test_the_same_samples_and_options_give_the_same_bytes(
    make_pages: Callable[..., SampleSet],
    files_of: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        shard(make_pages(7), tmp_path / name, options=ShardOptions(shard_pages=2))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_set_without_a_page_is_refused_and_leaves_nothing(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no page was kept of 0 rows \(none was dropped\)"):
        shard(SampleSet.from_samples([]), tmp_path / "set")
    with pytest.raises(InputError, match="no page was kept"), ShardWriter(tmp_path / "set"):
        pass
    dropped = make_pages(3).filter(is_large, "too small")
    with pytest.raises(InputError, match=r"no page was kept of 3 rows \(3 pages: too small, 6 q"):
        shard(dropped, tmp_path / "set")
    assert not [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert shard(make_pages(3), tmp_path / "set").samples == 3


def is_large(sample: Sample) -> bool:
    """Whether a page is wider than any here."""
    return sample.image.width > 10_000


def test_images_are_stored_in_the_source_s_own_bytes(tmp_path: Path) -> None:
    picture = PIL.Image.new("L", (9, 7), 128)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", comment=b"kept")
    sample = Sample(
        id="a",
        source="s",
        split="test",
        doc_id="a",
        image=Image.from_bytes(encoded.getvalue(), "a"),
        supervisions=(Supervision(id="q"),),
    )
    shard(SampleSet.from_samples([sample]), tmp_path / "set")
    assert SampleSet.from_shards(tmp_path / "set")[0].image.data == encoded.getvalue()


def test_the_description_reads_what_it_wrote(
    make_pages: Callable[..., SampleSet], tmp_path: Path
) -> None:
    described = shard(make_pages(2), tmp_path / "set")
    assert Description.from_json(described.to_json(), "here") == described
