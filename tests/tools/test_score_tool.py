"""tools/score.py prints, writes and exits as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "tools" / "score.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rows = [
        {"question_id": 1, "prediction": "Paris", "answers": ["paris"], "question_types": ["a"]},
        {"question_id": 2, "prediction": "abcx", "answers": ["abcd"], "question_types": ["b"]},
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_it_prints_plain_text_when_piped_and_writes_three_files(
    predictions: Path, tmp_path: Path
) -> None:
    done = run(predictions, "--by", "question_types", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:3] == ["anls", "(official)", "0.8750"]
    assert "\x1b" not in done.stdout
    assert "anls (official) by question_types" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.parquet", "table.csv", "summary.json",
    }  # fmt: skip


def test_json_is_the_summary_with_slices_and_comparison(predictions: Path) -> None:
    done = run(predictions, "--format", "json", "--by", "question_types", "--compare", predictions)
    found = json.loads(done.stdout)
    assert found["score"]["mean"] == 0.875
    assert found["by"]["question_types"]["b"]["mean"] == 0.75
    assert found["comparison"]["ties"] == 2


def test_markdown_is_a_table(predictions: Path) -> None:
    done = run(predictions, "--format", "markdown", "--variant", "paper")
    assert done.stdout.splitlines()[0].startswith("| metric | mean |")
    assert "| anls (paper) | 0.8750 |" in done.stdout


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--fail-under", "0.8"], 0),
        (["--fail-under", "0.9"], 1),
        (["--metric", "cer", "--fail-under", "0.9"], 0),
        (["--metric", "cer", "--fail-under", "0.1"], 1),
        (["--fail-under", "87"], 2),
        (["--metric", "nonsense"], 2),
        (["--by", "nonsense"], 2),
        (["--by", "category"], 0),
        (["--references", "nothing.json"], 2),
    ],
)
def test_the_exit_code_says_how_it_went(predictions: Path, options: list[str], code: int) -> None:
    done = run(predictions, *options)
    assert done.returncode == code
    if code == 2:
        assert done.stdout == ""
        assert done.stderr.startswith("score.py: ")
        assert done.stderr.count("\n") == 1


def test_skipped_lines_are_printed_last(predictions: Path) -> None:
    predictions.write_text(predictions.read_text() + "\nnonsense\n")
    assert run(predictions).returncode == 2
    done = run(predictions, "--on-bad-line", "skip")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].strip().startswith("line 3: invalid JSON")
