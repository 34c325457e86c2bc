"""The example of docs/recipes.md is a recipe that works."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from florence_data.recipes.cauldron_formatting import GROUPS


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_the_example_of_a_recipe_passes_its_own_test(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, test = re.findall(r"```python\n(\"\"\".*?)```", page, re.DOTALL)
    module = types.ModuleType("florence_data.recipes.sroie")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(recipe, "docs/recipes.md", "exec"), module.__dict__)
    scope: dict[str, object] = {}
    exec(compile(test, "docs/recipes.md", "exec"), scope)
    [run] = [value for name, value in scope.items() if name.startswith("test_")]
    assert callable(run)
    run(tmp_path)


def test_the_groups_of_the_cauldron_are_those_of_the_code(page: str) -> None:
    stated = dict(re.findall(r"^\| `([\w-]+)` \| ([a-z0-9_, ]+) \|$", page, re.MULTILINE))
    assert {group: sorted(names.split(", ")) for group, names in stated.items()} == {
        group: sorted(names) for group, names in GROUPS.items()
    }
