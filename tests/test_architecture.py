"""The packages import only what ARCHITECTURE.md allows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = {
    "florence_data": {"torch", "transformers", "accelerate", "florence_train", "florence_eval"},
    "florence_eval": {"torch", "transformers", "accelerate", "florence_data", "florence_train"},
    "florence_train": {"timm", "torchvision", "flash_attn"},
}
FEEDS_TORCH = {"florence_data/loader.py"}


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_only_what_the_architecture_allows(
    package: str, repository: Path
) -> None:
    modules = sorted((repository / package).rglob("*.py"))
    assert modules
    for module in modules:
        name = module.relative_to(repository).as_posix()
        allowed = {"torch"} if name in FEEDS_TORCH else set()
        assert not imported(module) & FORBIDDEN[package] - allowed, name


def test_data_and_evaluation_load_without_torch() -> None:
    code = "import florence_eval, florence_data, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_options_of_training_load_without_torch() -> None:
    code = "from florence_train import TrainConfig; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tools_stay_thin(repository: Path) -> None:
    """A tool parses, calls a package and prints: it defines no more than a page of code."""
    for tool in (repository / "tools").glob("*.py"):
        assert len(tool.read_text().splitlines()) < 250, tool.name
