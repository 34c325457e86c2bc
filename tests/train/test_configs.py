"""Every run file is complete, and runs: here with the tiny model on small shards."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from florence_data import Sample
from florence_train import TrainConfig
from florence_train.config import flags_from_yaml

FILES = sorted(
    path
    for path in (Path(__file__).parents[2] / "configs").glob("*.yaml")
    if not path.stem.startswith("accelerate-")  # how to launch, not what to train
)

DOCVQA = ("docvqa-a100", "docvqa-t4", "docvqa-8xh100")
"""The well-known recipe in its three sizes."""


def read(name: str) -> TrainConfig:
    (path,) = (file for file in FILES if file.stem == name)
    return tyro.cli(TrainConfig, args=flags_from_yaml(path))


def commands(path: Path) -> list[list[str]]:
    """The commands in the comment that a run file begins with."""
    return [shlex.split(line) for line in re.findall(r"^#   (.+)$", path.read_text(), re.M)]


def out_of(command: list[str]) -> str:
    return command[command.index("--out") + 1]


@pytest.fixture(scope="module")
def two_sets(
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    folder = tmp_path_factory.mktemp("sets")
    return [write_shards(folder / "train", pages[:6]), write_shards(folder / "val", pages[6:])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_run_file_rehearses_and_writes_nothing(
    path: Path, two_sets: list[Path], tmp_path: Path, run_tool: Callable[..., Any]
) -> None:
    train, val = two_sets
    config = read(path.stem)
    out = tmp_path / "run"
    done = run_tool(
        "train.py",
        *("--config", path, "--model", "tiny", "--out", out, "--workers", 0, "--dry-run"),
        *("--data", *[train] * len(config.data)),
        *(("--eval-data", val) if config.eval_data else ()),
    )
    assert done.code == 0, done.err
    # The six pages have 1, 2, 3, 4, 1 and 2 questions.
    asked = config.epochs * 13 * len(config.data)
    questions, steps = map(int, re.search(r"(\d+) questions in (\d+) steps", done.out).groups())
    assert questions == asked or config.weights
    assert questions / config.batch_size <= steps <= questions
    assert f"would write to {out}" in done.out
    assert not out.exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_commands_above_a_run_file_make_what_it_reads(path: Path) -> None:
    *before, last = commands(path)
    config = read(path.stem)
    assert {out_of(command) for command in before} == {*config.data, *config.eval_data}
    assert last[-2:] == ["--config", f"configs/{path.name}"]


def test_shards_of_one_name_are_made_alike_everywhere() -> None:
    made: dict[str, set[tuple[str, ...]]] = {}
    for path in FILES:
        for command in commands(path)[:-1]:
            made.setdefault(out_of(command), set()).add(tuple(command))
    assert all(len(ways) == 1 for ways in made.values()), made


@pytest.mark.parametrize("name", DOCVQA)
def test_the_recipe_keeps_its_rate_its_epochs_and_its_model(name: str) -> None:
    config = read(name)
    assert (config.lr, config.epochs) == (1e-6, 7)
    assert config.model == "florence-community/Florence-2-base-ft"
    assert config.batch_size == (64 if name == "docvqa-8xh100" else 6)
    assert config.freeze_vision == (name != "docvqa-8xh100")


def test_the_second_cauldron_run_goes_on_from_the_first() -> None:
    first, second = read("cauldron-1-mix"), read("cauldron-2-docvqa")
    assert second.model == first.out
    assert len(first.weights) == len(first.data) > 1


def test_the_cpu_run_goes_as_it_stands(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_tool: Callable[..., Any]
) -> None:
    """Its own commands, one after the other; only the number of steps is less."""
    (tmp_path / "configs").symlink_to(repository / "configs")
    monkeypatch.chdir(tmp_path)
    for _, tool, *arguments in commands(repository / "configs" / "tiny-cpu.yaml"):
        short = ("--max-steps", 2) if tool.endswith("train.py") else ()
        done = run_tool(Path(tool).name, *arguments, *short)
        assert done.code == 0, done.err
    assert (tmp_path / "runs/tiny-cpu/model/model.safetensors").is_file()
