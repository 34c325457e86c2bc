"""tools/score.py writes an error report where it is asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from florence_data import Sample, ShardWriter
from florence_data.sample import Image


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two pages, `one` and `two`."""
    with ShardWriter(tmp_path / "shards") as writer:
        for name in ("one", "two"):
            encoded = io.BytesIO()
            PIL.Image.new("RGB", (60, 80), "white").save(encoded, "PNG")
            image = Image.from_bytes(encoded.getvalue(), name)
            writer.write(
                Sample(id=name, source="s", split="t", doc_id=name, image=image, supervisions=())
            )
    return tmp_path / "shards"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rows = [
        {"question_id": 1, "prediction": "a", "answers": ["a"], "image": "one", "size": 10**20 + 1},
        {"question_id": 2, "prediction": "b", "answers": ["a"], "image": "two", "exact_match": 7},
        {"question_id": 3, "prediction": "b", "answers": ["a"], "image": "lost", "metadata": {}},
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_images_come_from_shards(
    run_tool: Callable[..., Any], shards: Path, predictions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_tool("score.py", predictions, "--images", shards, "--out", out)
    assert done.code == 0
    assert done.err == ""
    assert done.out.endswith(f"{out}/report.html: 2 page images; 1 not among the images\n")
    assert {path.name for path in out.iterdir()} == {
        "report.html", "report_files", "table.parquet", "table.csv", "summary.json",
    }  # fmt: skip
    assert len(list((out / "report_files/pages").iterdir())) == 2
    # Numbers that JavaScript would round are shown as they are written.
    texts = (out / "report_files/questions/0.js").read_text(encoding="utf-8")
    assert '"facts":{"size":"100000000000000000001"}' in texts


def test_a_comparison_in_a_single_file(
    run_tool: Callable[..., Any], shards: Path, predictions: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"question_id": 1, "prediction": "b", "answers": ["a"], "image": "one"}\n')
    out = tmp_path / "out"
    done = run_tool(
        "score.py", predictions, "--compare", other, "--images", shards, "--single-file",
        "--out", out,
    )  # fmt: skip
    assert done.code == 0
    assert not (out / "report_files").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "predictions.jsonl compared with other.jsonl" in page
    assert page.count("data:image/webp") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--report"], "--out names the folder"),
        (["--images", "nowhere", "--out", "out"], "no shard set"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(
    run_tool: Callable[..., Any],
    predictions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_tool("score.py", predictions, *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("score.py: ") and done.err.count("\n") == 1 and said in done.err
    assert not (tmp_path / "out").exists()


def test_other_formats_are_reported_on_too(run_tool: Callable[..., Any], tmp_path: Path) -> None:
    truth, submission = tmp_path / "truth.json", tmp_path / "submission.json"
    question = {"questionId": 1, "question": "what?", "answers": ["a"], "image": "one"}
    truth.write_text(json.dumps({"dataset_name": "d", "data": [question]}))
    submission.write_text(json.dumps([{"questionId": 1, "answer": "a"}]))
    out = tmp_path / "out"
    done = run_tool("score.py", submission, "--references", truth, "--report", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"{out}/report.html: 0 page images\n")


def test_what_is_printed_as_json_stays_json(
    run_tool: Callable[..., Any], predictions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_tool("score.py", predictions, "--report", "--format", "json", "--out", out)
    assert json.loads(done.out)["questions"] == 3
    assert done.err == f"{out}/report.html: 0 page images\n"
