"""Any sample is there by position and id; a damaged set is refused in one clear line."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from florence_data import InputError, SampleSet, ShardReader
from florence_data.prompts import prompt_template
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import shard
from florence_data.webdataset_stages import to_examples, to_samples, with_pixels

MakePages = Callable[..., SampleSet]


@pytest.fixture
def directory(make_pages: MakePages, tmp_path: Path) -> Path:
    """Twelve pages in three shards."""
    shard(make_pages(12), tmp_path / "set", options=ShardOptions(shard_pages=4))
    return tmp_path / "set"


def test_samples_are_there_by_position_and_by_id(directory: Path, make_pages: MakePages) -> None:
    reader = ShardReader(directory)
    for position, page in enumerate(make_pages(12)):
        for found in (reader[position], reader[page.id], reader[position - 12]):
            assert (found.to_json(), found.image.data) == (page.to_json(), page.image.data)
    with pytest.raises(IndexError):
        reader[12]
    with pytest.raises(KeyError):
        reader["page 12"]


def test_a_sample_says_where_its_image_is(directory: Path) -> None:
    image = ShardReader(directory)[5].image
    assert image.location is not None
    assert image.location.path == str(directory / "train-000001.tar")
    assert image.location.read() == image.data


def read_ids(reader: ShardReader, positions: list[int]) -> list[str]:
    """What a worker process does."""
    return [reader[position].id for position in positions]


def test_forked_workers_read_at_the_same_time(directory: Path) -> None:
    reader = ShardReader(directory)
    assert reader[0].id == "page 0"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        orders = [list(range(12))[shift:] + list(range(12))[:shift] for shift in range(8)]
        read = pool.map(partial(read_ids, reader), orders * 5)
    assert read == [[f"page {n}" for n in order] for order in orders] * 5


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file's content."""
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-000001.tar", lambda data: data[:-512], r"train-000001.tar: \d+ bytes, expected"),
        ("index.arrow", lambda data: data[:-1], r"index.arrow: not the file that dataset.json"),
        ("index.arrow", lambda data: b"x" + data[1:], r"checksum differs"),
        ("dataset.json", lambda data: data[:-9], r"dataset.json: not the description of a shard"),
        ("dataset.json", lambda data: b"\xff" + data, r"dataset.json: not the description"),
    ],
)
def test_a_damaged_file_is_named(
    directory: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    damage(directory / name, change)
    with pytest.raises(InputError, match=message):
        ShardReader(directory)


def test_a_missing_shard_is_named(directory: Path) -> None:
    (directory / "train-000002.tar").unlink()
    with pytest.raises(InputError, match=r"train-000002.tar: No such file"):
        ShardReader(directory)


@pytest.mark.parametrize(
    ("column", "value"),
    [("shard", 3), ("shard", -1), ("image_offset", -1), ("image_size", 2**40), ("json_size", -5),
     ("json_offset", 2**62), ("image_size", 2**62)],
)  # fmt: skip
def test_an_index_that_points_outside_its_shard_is_refused(
    directory: Path, column: str, value: int
) -> None:
    from florence_data.shard_format import INDEX_SCHEMA

    table = pa.ipc.open_file((directory / "index.arrow").read_bytes()).read_all()
    values = table[column].to_pylist()
    values[7] = value
    position = INDEX_SCHEMA.get_field_index(column)
    field = INDEX_SCHEMA.field(column)
    rewrite_index(directory, table.set_column(position, field, pa.array(values, field.type)))
    with pytest.raises(InputError, match=r"index.arrow: row 7 lies outside its shard"):
        ShardReader(directory)


def rewrite_index(directory: Path, table: pa.Table) -> None:
    """Replace the index and make its checksum fit again."""
    with pa.ipc.new_file(directory / "index.arrow", table.schema) as file:
        file.write_table(table)
    content = (directory / "index.arrow").read_bytes()
    described = json.loads((directory / "dataset.json").read_text())
    described["index"] |= {
        "bytes": len(content),
        "checksum": f"xxh3-128:{xxhash.xxh3_128(content).hexdigest()}",
    }
    (directory / "dataset.json").write_text(json.dumps(described))


def test_an_index_with_other_columns_or_rows_is_refused(directory: Path) -> None:
    table = pa.ipc.open_file((directory / "index.arrow").read_bytes()).read_all()
    rewrite_index(directory, table.slice(0, 5))
    with pytest.raises(InputError, match="5 rows, expected 12"):
        ShardReader(directory)
    rewrite_index(directory, table.drop_columns(["width"]))
    with pytest.raises(InputError, match=r"columns id, key, .*; expected .*width"):
        ShardReader(directory)


def test_a_description_that_was_overwritten_is_named(directory: Path) -> None:
    reader = ShardReader(directory)
    row = reader.index.slice(5, 1).to_pylist()[0]
    tar = bytearray((directory / "train-000001.tar").read_bytes())
    tar[row["json_offset"]] = ord("x")
    (directory / "train-000001.tar").write_bytes(tar)
    with pytest.raises(InputError, match=r"train-000001.tar, position 5: not the JSON of a sample"):
        ShardReader(directory)[5]


def test_checking_finds_a_single_changed_bit_in_an_image(directory: Path) -> None:
    ShardReader(directory).check()
    row = ShardReader(directory).index.slice(9, 1).to_pylist()[0]
    tar = bytearray((directory / "train-000002.tar").read_bytes())
    tar[row["image_offset"] + row["image_size"] // 2] ^= 1
    (directory / "train-000002.tar").write_bytes(tar)
    with pytest.raises(InputError, match=r"train-000002.tar: its checksum differs"):
        ShardReader(directory).check()


def test_checking_finds_an_image_that_is_not_the_one_in_the_index(directory: Path) -> None:
    table = pa.ipc.open_file((directory / "index.arrow").read_bytes()).read_all()
    column = table.schema.get_field_index("sha256")
    hashes = table["sha256"].to_pylist()
    hashes[5] = hashes[4]
    rewrite_index(
        directory, table.set_column(column, "sha256", pa.array(hashes, pa.large_string()))
    )
    with pytest.raises(InputError, match=r"000001.tar, position 5: the image's SHA-256 is .*says"):
        ShardReader(directory).check()


def test_stages_make_examples_with_pixels_in_a_webdataset_pipeline(directory: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = str(directory / "train-{000000..000002}.tar")
    pipeline = (
        webdataset.WebDataset(urls, shardshuffle=False)
        .compose(to_samples)
        .compose(partial(to_examples, template=prompt_template("docvqa")))
        .compose(partial(with_pixels, size=(8, 16)))
    )
    read = list(pipeline)
    assert len(read) == 24
    values, example = read[3]
    assert values.shape == (3, 16, 8)
    assert example.references == ("“2”", "two") and example.sample.id == "page 2"
    assert read[4][0] is values, "a page is decoded once for all of its questions"
    with pytest.raises(InputError, match="members txt; expected json and one of jpg"):
        next(to_samples([{"__key__": "a", "txt": b""}]))
