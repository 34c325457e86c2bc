"""The curation sub-commands of make_shards.py, on small shard sets."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from florence_data.sample import Image, Sample, Supervision
from florence_data.sample_set import SampleSet
from florence_data.sharding import shard

Command = Callable[..., int]


@pytest.fixture(scope="module")
def make_shards(repository: Path) -> Command:
    spec = importlib.util.spec_from_file_location(
        "make_shards", repository / "tools" / "make_shards.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def page(name: str, colour: str, answer: str = "x") -> Sample:
    target = io.BytesIO()
    PIL.Image.new("RGB", (60, 80), colour).save(target, "PNG")
    row = Supervision(id=f"{name}-q", question=f"what is on {name}?", answers=(answer,))
    return Sample(
        id=name,
        source="drawn",
        split="train",
        doc_id=name,
        image=Image.from_bytes(target.getvalue(), name),
        supervisions=(row,),
    )


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Three pages, one of them twice."""
    pages = [page("a", "red"), page("b", "blue"), page("c", "red"), page("d", "green")]
    shard(SampleSet.from_samples(pages), str(tmp_path / "train"))
    return tmp_path / "train"


def test_dedup_writes_each_page_once_with_all_questions(
    make_shards: Command, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "once", tmp_path / "report.json"
    assert (
        make_shards(
            *("dedup", "--source", train, "--exact-only"), *("--out", out, "--report", report)
        )
        == 0
    )
    pages = list(SampleSet.from_shards(out))
    assert [sample.id for sample in pages] == ["a", "b", "d"]
    assert [row.id for row in pages[0].supervisions] == ["a-q", "c-q"]
    assert json.loads(report.read_text())["groups"] == [
        {"kept": "a", "repeats": [{"sample_id": "c", "kind": "exact"}]}
    ]
    assert "questions: 4 read, 4 kept, 0 dropped" in capsys.readouterr().out


def test_decontaminate_writes_the_pages_that_are_not_in_the_other_set(
    make_shards: Command, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(SampleSet.from_samples([page("v", "red")]), str(tmp_path / "val"))
    code = make_shards(
        *("decontaminate", "--source", train, "--against", tmp_path / "val"),
        *("--exact-only", "--out", tmp_path / "clean"),
    )
    assert code == 0
    assert [sample.id for sample in SampleSet.from_shards(tmp_path / "clean")] == ["b", "d"]
    assert "c is v (exact" in capsys.readouterr().out


def test_validate_exits_with_1_if_something_is_wrong(
    make_shards: Command, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_shards("validate", "--source", train) == 0
    shard(SampleSet.from_samples([page("e", "red", answer=" ")]), str(tmp_path / "bad"))
    assert make_shards("validate", "--source", tmp_path / "bad") == 1
    assert "sample e, supervision e-q: answers [' ']" in capsys.readouterr().out


def test_stats_counts_the_set(make_shards: Command, train: Path, capsys) -> None:
    assert make_shards("stats", "--source", train) == 0
    assert "4 pages of 4 documents, 4 questions" in capsys.readouterr().out


def test_what_cannot_be_read_or_written_is_one_line_and_exit_code_2(
    make_shards: Command, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_shards("validate", "--source", tmp_path / "none") == 2
    assert make_shards("validate", "--source", train, "--report", tmp_path / "no" / "x.json") == 2
    assert capsys.readouterr().err.count("\n") == 2
