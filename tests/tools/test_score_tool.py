"""tools/score.py prints, writes and exits as it says."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(REPOSITORY / "tools" / "score.py"), *map(str, arguments)]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
        env={**os.environ, **environment},
    )


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


def test_a_comparison_is_stored_and_printed_with_its_slices(
    predictions: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(predictions.read_text().replace("abcx", "abcd") + "\nnonsense\n")
    options = ["--compare", other, "--on-bad-line", "skip", "--by", "question_types"]
    done = run(predictions, *options, "--format", "json", "--out", tmp_path / "out")
    found = json.loads(done.stdout)["comparison"]
    assert found["by"]["question_types"]["b"]["mean"] == -0.25
    assert found["skipped_lines_b"][0]["line"] == 3
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == found
    assert "line 3: invalid JSON" in run(predictions, *options).stdout


def test_what_an_earlier_run_left_in_the_folder_is_told(predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(predictions, "--compare", predictions, "--report", "--out", out)
    assert first.stderr == ""
    assert run(predictions, "--out", out).stderr.splitlines() == [
        f"note: {out / name} is of an earlier run" for name in ("comparison.json", "report.html")
    ]


def test_a_closed_output_is_no_traceback(predictions: Path) -> None:
    for options, code in ([], 0), (["--fail-under", "0.9"], 1):
        done = subprocess.run(
            ["bash", "-c", '"$@" >&-', "bash", *command(predictions, *options)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, "")


def test_on_a_terminal_it_prints_tables_with_every_number(predictions: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(
        command(predictions, "--by", "question_types"), stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        printed = b""
        try:
            while some := os.read(ours, 4096):
                printed += some
        except OSError:  # what Linux says when the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    text = printed.decode()
    assert "\x1b[" in text and "┃" in text
    for cell in ("anls (official)", "0.8750", "question_types", "0.7500", "near_miss", "50.0%"):
        assert cell in text


def test_the_reader_of_a_pipe_may_go(predictions: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(predictions, "--out", tmp_path / "out"), stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert (tmp_path / "out" / "summary.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_line(predictions: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(predictions), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"score.py: the output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_labels_that_the_terminal_cannot_show_are_escapes(predictions: Path, encoding: str) -> None:
    label = "漢 😀"
    predictions.write_text(predictions.read_text().replace('["a"]', json.dumps([label])))
    options = [predictions, "--by", "question_types"]
    plain = run(*options, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert plain.returncode == 0
    as_json = run(*options, "--format", "json", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert label in json.loads(as_json.stdout)["by"]["question_types"]


def test_a_file_name_that_is_no_text_is_an_escape_in_the_output(
    predictions: Path, tmp_path: Path
) -> None:
    strange = tmp_path / os.fsdecode(b"strange\xff.jsonl")
    predictions.rename(strange)
    done = run(os.fsdecode(os.fsencode(strange)), "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["predictions"].endswith("strange\\udcff.jsonl")


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_printed(
    predictions: Path,
) -> None:
    done = run(predictions, "--out", predictions)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("a folder is expected, found a file\n")


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
        (["--fail-under", "nan"], 2),
        (["--metric", "cer", "--fail-under", "5"], 2),
        (["--metric", "auto", "cer"], 2),
        (["--metric", "exact_match", "--by", "exact_match"], 0),
        (["--by", "cer"], 2),
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
