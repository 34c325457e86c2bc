"""Every tool says what it takes, in full and without loading what only the work needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from florence_data.recipes import RECIPES

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


def flags_in_readme(readme: str, command: str) -> set[str]:
    """The flags that the README gives to a command."""
    lines = re.findall(rf"python tools/{re.escape(command)}(?= )([^`\n]*)", readme)
    return {flag for line in lines for flag in re.findall(r"--[a-z-]+", line)}


def show_help(repository: Path, command: str) -> subprocess.CompletedProcess[str]:
    """The command's help on stdout; on stderr, each module that it imported."""
    tool, *subcommand = command.split()
    script = str(repository / "tools" / tool)
    return subprocess.run(
        [sys.executable, "-X", "importtime", script, *subcommand, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag_and_imports_no_torch(command: str, repository: Path) -> None:
    done = show_help(repository, command)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tyro" in imported
    assert not imported & {"torch", "transformers", "accelerate", "datasets"}
    named = set(re.findall(r"--[a-z-]+", done.stdout))
    readme = (repository / "README.md").read_text()
    assert FLAGS[command] | flags_in_readme(readme, command) <= named


def test_the_help_of_make_shards_names_every_recipe(repository: Path) -> None:
    shown = show_help(repository, "make_shards.py").stdout
    assert set(RECIPES) <= set(re.findall(r"• (\w+)", shown))


def test_the_flags_of_the_readme_are_found(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    assert flags_in_readme(readme, "make_shards.py docvqa") == {"--source", "--split", "--out"}
    assert flags_in_readme(readme, "score.py") == {"--out"}
