"""Every tool says what it takes, in full and without loading what only the work needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from florence_data.recipes import RECIPES

Helps = dict[str, "subprocess.CompletedProcess[str]"]

FLAGS = {
    "make_shards.py synthetic": {"--pages", "--seed", "--split", "--limit", "--out"},
    "make_shards.py cauldron": {"--source", "--subsets", "--split", "--limit", "--out"},
    "make_shards.py docvqa": {"--source", "--split", "--limit", "--out"},
    "train.py": {
        *("--data", "--eval-data", "--model", "--out", "--config", "--epochs", "--max-steps"),
        *("--batch-size", "--lr", "--seed", "--freeze-vision"),
    },
    "predict.py": {"--model", "--data", "--out", "--num-beams"},
    "score.py": {"--references", "--metric", "--out"},
}
"""What each command takes, whatever the README shows."""


@pytest.fixture(scope="module")
def helps(repository: Path) -> Helps:
    """What each command's --help prints; on stderr, the modules that it imports."""
    return {
        command: subprocess.run(
            [
                *(sys.executable, "-X", "importtime", str(repository / "tools" / tool)),
                *(*subcommand, "--help"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        for command in ("make_shards.py", *FLAGS)
        for tool, *subcommand in [command.split()]
    }


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", text))


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag(command: str, helps: Helps, readme: str) -> None:
    lines = re.findall(rf"python tools/{re.escape(command)}(?= )([^`\n]*)", readme)
    assert FLAGS[command] | flags_in(" ".join(lines)) <= flags_in(helps[command].stdout)


@pytest.mark.parametrize("command", FLAGS)
def test_help_imports_nothing_that_only_the_work_needs(command: str, helps: Helps) -> None:
    timings = helps[command].stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in timings}
    assert "tyro" in imported
    assert not imported & {"torch", "transformers", "accelerate", "datasets"}


def test_the_readme_speaks_of_no_flag_that_is_not_there(helps: Helps, readme: str) -> None:
    assert "--freeze-vision" in readme
    known = set().union(*(flags_in(done.stdout) for done in helps.values()))
    assert flags_in(readme) - known <= {"--nproc-per-node"}  # torchrun's


def test_the_help_of_make_shards_names_every_recipe(helps: Helps) -> None:
    assert set(RECIPES) <= set(re.findall(r"• (\w+)", helps["make_shards.py"].stdout))
