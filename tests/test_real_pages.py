"""The whole way on real scans: receipts and report pages with human questions."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.shared


@pytest.mark.parametrize(
    ("subset", "pages", "questions"), [("sroie", 50, 200), ("mmlongbench_doc", 90, 111)]
)
def test_real_pages_go_the_whole_way(
    subset: str,
    pages: int,
    questions: int,
    shared_data: Path,
    run_tool: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = shared_data / "documents"

    def run(*arguments: object) -> str:
        outcome = run_tool(*arguments)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    made = run(
        *("make_shards.py", "cauldron", "--source", source, "--subsets", subset),
        *("--out", "shards"),
    )
    assert f"pages: {pages} read, {pages} kept, 0 dropped" in made
    assert f"questions: {questions} read, {questions} kept, 0 dropped" in made

    # The tar holds what the parquet holds: images byte for byte, questions and answers as text.
    rows = pq.read_table(source / subset).to_pylist()
    asked = []
    with tarfile.open("shards/train-000000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert len(members) == 2 * pages
    for image, description, row in zip(
        [name for name in members if not name.endswith(".json")],
        [name for name in members if name.endswith(".json")],
        rows,
        strict=True,
    ):
        assert members[image] == row["images"][0]["bytes"]
        supervisions = json.loads(members[description])["supervisions"]
        texts = [(text["user"].strip(), [text["assistant"].strip()]) for text in row["texts"]]
        assert [(each["question"], each["answers"]) for each in supervisions] == texts
        asked += texts

    trained = run(
        *("train.py", "--data", "shards", "--model", "tiny", "--out", "run"),
        *("--max-steps", 3, "--lr", "1e-3", "--log-every", 1),
    )
    assert "equals plain cross-entropy" in trained
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 3
    assert losses[-1] < losses[0]

    run("predict.py", "--model", "run", "--data", "shards", "--out", "predictions.jsonl")
    predictions = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert [(row["question"], row["answers"]) for row in predictions] == asked
    assert len({row["question_id"] for row in predictions}) == questions

    run("score.py", "predictions.jsonl", "--out", "scores")
    table = pd.read_parquet("scores/table.parquet")
    assert table["question_id"].tolist() == [row["question_id"] for row in predictions]
    assert table["doc_id"].nunique() == pages
    assert table["anls"].between(0, 1).all()
    summary = json.loads(Path("scores/summary.json").read_text())
    assert summary["metrics"]["anls"]["mean"] == pytest.approx(table["anls"].mean())
