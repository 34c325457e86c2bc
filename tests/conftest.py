"""Fixtures that every test may use."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a program did: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that holds these tests."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's real pages, predictions and official scores; the test is skipped without them."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real data in ../shared/data is not on this machine")
    return path


@pytest.fixture
def run_tool(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """A function that runs `python tools/NAME ARGUMENTS…` in the current directory.

    It runs as the main program, but in this process: a new one takes seconds to import torch.
    """

    def run(name: str, *arguments: object) -> Outcome:
        script = str(repository / "tools" / name)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run
