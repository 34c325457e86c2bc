"""The main job of `make demo`, as a stranger runs it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def main_job(repository: Path, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = repository / "examples" / "main_job.py"
    return subprocess.run(
        [sys.executable, str(script), *options], cwd=directory, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def shown(repository: Path, place: Path) -> str:
    """What the job printed, with its defaults."""
    done = main_job(repository, place)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_tiny_model_learns_its_pages_and_both_scores_stand_beside_each_other(
    shown: str, place: Path
) -> None:
    number = r"\s*│\s*(\d+\.\d)"
    rows = {
        split: tuple(map(float, re.search(f"{meaning}{number}{number}", shown).groups()))
        for split, meaning in {"train": "trained on", "validation": "held-out pages"}.items()
    }
    before, after = rows["train"]
    assert before < 5
    assert after >= 95
    for split, scores in rows.items():
        for when, printed in zip(("untrained", "trained"), scores, strict=True):
            written = json.loads((place / f"demo/scores-{when}-{split}/summary.json").read_text())
            assert written["questions"] == 64
            assert printed == pytest.approx(100 * written["metrics"]["anls"]["mean"], abs=0.05)


def test_the_commands_that_it_shows_do_the_same(
    shown: str, place: Path, run_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    commands = [shlex.split(line) for line in re.findall(r"^\$ python tools/(.*)", shown, re.M)]
    assert [words[0] for words in commands].count("train.py") == 1
    results = {"make_shards.py": "train-000000.tar", "predict.py": "", "score.py": "table.csv"}
    for tool, name in results.items():
        command = [words for words in commands if words[0] == tool][-1]
        out = command.index("--out") + 1
        made, again = place / command[out], place / "again" / tool
        assert run_tool(*command[:out], again, *command[out + 1 :]).code == 0
        file = name.replace("train", "validation")
        assert (again / file).read_bytes() == (made / file).read_bytes()


def test_a_directory_that_holds_something_is_left_as_it_is(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "shards").mkdir(parents=True)
    done = main_job(repository, tmp_path, "--out", "mine")
    assert done.returncode == 2
    assert done.stderr == (
        "main_job.py: mine: there already; a new or an empty directory is accepted\n"
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "shards"]
