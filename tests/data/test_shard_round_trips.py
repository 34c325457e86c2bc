"""Real pages come back byte for byte, through every storage and every executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from florence_data import SampleSet
from florence_data.recipes import RECIPES
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import InProcess, ProcessPool, ShardingJob, shard
from florence_data.storage import open_directory

OPTIONS = ShardOptions(item_pages=40, shard_size=8_000_000)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> SampleSet:
    """The real pages, by the recipe."""
    folder = str(shared_data / "documents")
    return RECIPES["cauldron"](source=folder, subsets="sroie,mmlongbench_doc")


@pytest.fixture(scope="module")
def images(shared_data: Path) -> list[bytes]:
    """The images as the parquet files hold them, read without this project."""
    return [
        row[0]["bytes"]
        for subset in ("sroie", "mmlongbench_doc")
        for file in sorted((shared_data / "documents" / subset).glob("*.parquet"))
        for row in pd.read_parquet(file)["images"]
    ]


class Datatrove:
    """Runs a job's items as datatrove's tasks."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def run(self, job: ShardingJob, items: Any, report: Any) -> None:
        executor = pytest.importorskip("datatrove.executor")
        from florence_data.datatrove_steps import WriteItems

        executor.LocalPipelineExecutor(
            [WriteItems(job)], tasks=2, logging_dir=str(self.logs), start_method="spawn"
        ).run()


@pytest.mark.parametrize(
    ("storage", "executor"),
    [
        ("local", "one"), ("local", "pool"), ("local", "datatrove"), ("memory", "one"),
        ("s3", "one"), ("s3", "pool"),
        pytest.param("s3", "datatrove", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_documents_go_round(
    documents: SampleSet,
    images: list[bytes],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    storage: str,
    executor: str,
) -> None:
    runner = {"one": InProcess(), "pool": ProcessPool(2), "datatrove": Datatrove(tmp_path / "logs")}
    if storage == "s3":
        url = f"{request.getfixturevalue('s3')}/documents-{executor}"
    else:
        url = {"local": str(tmp_path / "set"), "memory": "memory://documents"}[storage]
    shard(documents, url, options=OPTIONS, executor=runner[executor])
    read = SampleSet.from_shards(url)
    assert [sample.image.data for sample in read] == images
    assert [sample.to_json() for sample in read] == [sample.to_json() for sample in documents]
    shard(documents, tmp_path / "reference", options=OPTIONS)
    there, reference = open_directory(url), open_directory(tmp_path / "reference")
    assert there.names() == reference.names()
    assert all(there.read(name) == reference.read(name) for name in reference.names())
