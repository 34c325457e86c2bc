"""`make_shards.py` from the command line: what it prints, refuses, and leaves on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from florence_data import SampleSet
from florence_data.sharding import shard


@pytest.fixture
def make_shards(run_tool: Callable[..., Any]) -> Callable[..., tuple[int, str, str]]:
    """A function that runs the tool and returns (exit code, output, errors)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        done = run_tool("make_shards.py", *arguments)
        return done.code, done.out, done.err

    return run


def test_synthetic_pages_become_a_set_with_an_account(make_shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "set"
    code, printed, errors = make_shards(
        "synthetic", "--pages", "6", "--seed", "3", "--out", out, "--shard-pages", "4"
    )
    assert (code, errors) == (0, "")
    assert "pages: 6 read, 6 kept, 0 dropped" in printed
    assert f"6 pages in 2 shards: {out}" in printed
    described = json.loads((out / "dataset.json").read_text())
    assert described["made_from"]["recipe"] == "synthetic"
    assert described["made_from"]["seed"] == 3
    assert make_shards("check", out)[0] == 0
    assert "6 pages" in make_shards("stats", "--source", out)[1]
    code, _, errors = make_shards("synthetic", "--pages", "6", "--out", out)
    assert code == 2 and "already holds a shard set" in errors and errors.count("\n") == 1


def test_workers_resume_and_sizes_are_flags(make_shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    flags = ["synthetic", "--pages", "5", "--image-size", "64x32", "--image-format", "png"]
    assert make_shards(*flags, "--out", tmp_path / "one")[0] == 0
    assert make_shards(*flags, "--out", tmp_path / "two", "--workers", "2", "--limit", "5")[0] == 0
    image = SampleSet.from_shards(tmp_path / "one")[4].image
    assert (image.width, image.height, image.format) == (64, 32, "png")
    for name in ("train-000000.tar", "index.arrow"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert make_shards(*flags, "--out", tmp_path / "one", "--resume")[0] == 0
    code, _, errors = make_shards(*flags, "--out", tmp_path / "one", "--resume", "--limit", "4")
    assert code == 2 and "another source or with other options" in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard-size", "2 parsecs"], "expected a number of bytes"),
        (["--shard-pages", "0"], "shard_pages is 0; expected 1 or more"),
        (["--image-size", "big"], "expected none, 768, or WIDTHxHEIGHT"),
        (["--quality", "101"], "quality 101; expected 1 to 100"),
        (["--limit", "-1"], "expected 0 or more"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(  # type: ignore[no-untyped-def]
    make_shards, tmp_path: Path, flags: list[str], message: str
) -> None:
    code, _, errors = make_shards("synthetic", "--pages", "1", "--out", tmp_path / "set", *flags)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_pipes_are_refused(make_shards) -> None:  # type: ignore[no-untyped-def]
    code, _, errors = make_shards("synthetic", "--pages", "1", "--out", "pipe:cat > x")
    assert code == 2 and "pipe: is refused" in errors


def test_tars_are_indexed_and_damage_is_found(make_shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from_recipe = tmp_path / "set"
    assert make_shards("synthetic", "--pages", "2", "--out", from_recipe)[0] == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    tar = theirs / "x.tar"
    tar.write_bytes((from_recipe / "train-000000.tar").read_bytes())
    code, printed, _ = make_shards("index", theirs)
    assert code == 0 and "2 pages in 1 shards" in printed
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    tar.write_bytes(content)
    code, _, errors = make_shards("check", theirs)
    assert code == 2 and "x.tar: its checksum differs" in errors


def test_real_pages_go_round_byte_for_byte(shared_data: Path, make_shards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, printed, _ = make_shards(
        "cauldron", "--source", shared_data / "documents", "--subsets", "sroie,mmlongbench_doc",
        "--out", tmp_path / "real", "--shard-size", "5MB", "--workers", "2",
    )  # fmt: skip
    assert code == 0 and "rows: 140 read, 140 kept, 0 dropped" in printed
    read = SampleSet.from_shards(tmp_path / "real")
    shard(read, "memory://real")
    again = SampleSet.from_shards("memory://real")
    assert [(s.to_json(), s.image.data) for s in again] == [
        (s.to_json(), s.image.data) for s in read
    ]
