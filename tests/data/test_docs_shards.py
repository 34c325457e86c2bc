"""The Python of docs/shards.md runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from florence_data import SampleSet
from florence_data.sharding import shard


def test_the_page_s_examples_run(
    make_pages: Callable[..., SampleSet],
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for needed in ("torch", "webdataset", "datatrove"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    shard(make_pages(12), "shards/docvqa-train")
    page = (repository / "docs" / "shards.md").read_text()
    names: dict[str, Any] = {"__name__": "docs"}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/shards.md", "exec"), names)
    assert names["values"].shape == (3, 768, 768)
    assert names["example"].prompt == ("<DocVQA>Wie heißt Nr. 0?",)
    assert names["state"] == {"seed": 0, "epoch": 0, "position": 4}
    assert len(SampleSet.from_shards("shards/several-machines")) == 12
    assert len(SampleSet.from_shards("shards/few")) == 8
    assert names["page"].id == "page 0"
