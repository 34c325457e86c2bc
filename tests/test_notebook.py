"""The notebook runs from its first cell to its last, and what it shows came of such a run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat")

SIZE, SMALL = "PAGES, STEPS = 16, 150", "PAGES, STEPS = 4, 2"


@pytest.fixture
def notebook(repository: Path) -> Any:
    return nbformat.read(repository / "notebooks" / "finetune_docvqa.ipynb", as_version=4)


def shown(cell: Any) -> str:
    """All the text of a cell's outputs."""
    texts = []
    for output in cell.get("outputs", []):
        texts += [output.get("text", ""), *output.get("traceback", [])]
        texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)


def test_it_runs_from_the_first_cell_to_the_last(
    notebook: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = next(cell for cell in notebook.cells if SIZE in cell.source)
    settings.source = settings.source.replace(SIZE, SMALL)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()

    run = tmp_path / "finetuned"
    assert (run / "run" / "model" / "model.safetensors").is_file()
    for when in ("before", "after"):
        for split in ("train", "validation"):
            rows = (run / f"{when}-{split}.jsonl").read_text().splitlines()
            assert len(rows) == 16
            assert {json.loads(row)["split"] for row in rows} == {split}
    assert "anls (official)" in "".join(map(shown, notebook.cells))


def test_its_outputs_are_of_one_run_from_top_to_bottom(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(SIZE in cell.source for cell in code)
    text = "\n".join(map(shown, code))
    assert "150 steps" in text
    assert "equals plain cross-entropy" in text
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


def test_its_outputs_show_nothing_of_the_machine_they_were_made_on(notebook: Any) -> None:
    for cell in notebook.cells:
        assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|usr|opt|var)/", shown(cell))
        assert "Warning" not in shown(cell)


def test_one_cell_switches_to_the_real_model_and_data(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is `train.py`'s default, the options are the recipe's."""
    from florence_data import recipes
    from florence_train import TrainConfig

    [cell] = [cell for cell in notebook.cells if "REAL = False" in cell.source]
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(recipes, "docvqa", lambda source, split: asked.append((source, split)))
    names: dict[str, Any] = {"recipes": recipes}
    exec(cell.source.replace("REAL = False", "REAL = True"), names)
    assert asked == [("hub", "train"), ("hub", "validation")]
    assert names["model"] == TrainConfig(data=("x",), out="y").model
    config = TrainConfig(model=names["model"], data=("x",), out="y", **names["options"])
    assert (config.epochs, config.batch_size, config.lr) == (7, 6, 1e-6)
