"""The README holds: its commands, its Python and its links, as they are written."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from florence_train import load_florence

PAGES, QUESTIONS = 4, 3


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


def blocks(readme: str, language: str = "") -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


def lines(readme: str, beginning: str) -> list[str]:
    """The lines of plain blocks that begin so."""
    found = [line for block in blocks(readme) for line in block.splitlines()]
    return [line for line in found if line.startswith(beginning)]


def document_vqa(directory: Path) -> None:
    """A stand-in for HuggingFaceM4/DocumentVQA: its layout and columns, a few small pages."""
    (directory / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        rows = []
        for page in range(PAGES):
            encoded = io.BytesIO()
            PIL.Image.effect_noise((120, 160), 60 + page).save(encoded, "PNG")
            for number in range(QUESTIONS):
                rows.append(
                    {
                        "questionId": f"{split}{page}{number}",
                        "question": f"What is field {number}?",
                        "question_types": ["form"],
                        "image": {"bytes": encoded.getvalue(), "path": None},
                        "docId": page,
                        "ucsf_document_id": f"{split}{page:04}",
                        "ucsf_document_page_no": "1",
                        "answers": [f"answer {page}"],
                    }
                )
        pq.write_table(pa.Table.from_pylist(rows), directory / f"data/{split}-0-of-1.parquet")


def test_the_recipe_for_real_documents_runs_as_written(
    readme: str,
    run_tool: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub's model is a directory of its name here, so that only `--source hub` is replaced."""
    monkeypatch.chdir(tmp_path)
    document_vqa(tmp_path / "DocumentVQA")
    load_florence("tiny").save(tmp_path / "florence-community/Florence-2-base-ft")
    printed = ""
    for line in lines(readme, "python tools/"):
        words = shlex.split(line.replace("--source hub", "--source DocumentVQA"))
        outcome = run_tool(words[1].removeprefix("tools/"), *words[2:])
        assert (outcome.code, outcome.err) == (0, ""), line
        printed += outcome.out

    checks = lines(readme, "check: ")
    assert "check: loss" in checks[0]
    for line in checks:  # as the README shows them, but for the numbers
        assert re.search(re.sub(r"\d+(\\.\d+)?", r"[\\d.]+", re.escape(line)), printed), line

    predictions = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == PAGES * QUESTIONS
    assert {row["split"] for row in predictions} == {"validation"}
    summary = json.loads(Path("scores/summary.json").read_text())
    assert summary["questions"] == PAGES * QUESTIONS
    assert summary["documents"] == PAGES
    assert {path.name for path in Path("scores").iterdir()} == {
        *("table.parquet", "table.csv", "summary.json"),
        *("report.html", "report_files"),
    }


def test_the_python_block_runs_as_written(
    readme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(readme, "python")
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    samples = names["samples"]
    asked = sum(len(sample.supervisions) for sample in samples)
    out = capsys.readouterr().out
    assert f"{len(samples)} {samples[0].supervisions[0].question}" in out
    assert f"[{asked} rows x 3 columns]" in out
    assert len(Path("predictions.jsonl").read_text().splitlines()) == asked

    # What the README says of the run's directory just below the block.
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    florence = load_florence("runs/invoices")
    model = Florence2ForConditionalGeneration.from_pretrained("runs/invoices/model")
    processor = AutoProcessor.from_pretrained("runs/invoices/model")
    weights = florence.model.state_dict()
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())
    question = "What is the total?"
    assert processor.tokenizer(question) == florence.processor.tokenizer(question)


def test_the_make_targets_are_there(readme: str, repository: Path) -> None:
    targets = re.findall(r"^make ([a-z]+)$", readme, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=repository, check=True)


def test_the_extras_that_it_installs_are_declared(readme: str, repository: Path) -> None:
    declared = (repository / "pyproject.toml").read_text()
    extras = {name for names in re.findall(r"'\.\[(.*?)\]'", readme) for name in names.split(",")}
    assert extras == {"train", "hub", "dev"}
    assert all(f"\n{extra} = [" in declared for extra in extras)


def test_no_block_holds_a_line_that_no_test_runs(readme: str) -> None:
    """Targets of make are run by test_main_job and by whoever runs this; pip's lines by make."""
    held = ("python tools/", "check: ", "make demo", "make test", "pip install ")
    assert [line for line in lines(readme, "") if not line.startswith(held)] == []


def test_its_links_lead_somewhere(readme: str, repository: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", readme)
    assert "docs/recipes.md" in links
    folders = re.findall(r"^\| `([a-z_]+)/` \|", readme, re.MULTILINE)
    assert "florence_data" in folders
    for path in (*links, *folders):
        assert (repository / path).exists(), path
