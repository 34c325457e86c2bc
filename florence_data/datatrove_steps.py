"""A sharding job on datatrove's executors: several machines, Slurm or Ray (extra `datatrove`).

Each task takes every so-manieth work item that is not yet done; one more task, once all are, makes
the finished set::

    job = ShardingJob(samples.source, "s3://bucket/docvqa-train")
    job.begin(resume=False)
    write = SlurmPipelineExecutor([WriteItems(job)], tasks=64, ...)
    SlurmPipelineExecutor([Finish(job)], tasks=1, depends=write, ...).run()

All tasks see the same directory: a shared file system or an object store.
"""

from __future__ import annotations

from typing import Any

from datatrove.pipeline.base import PipelineStep

from florence_data.sharding import ShardingJob


class WriteItems(PipelineStep):  # type: ignore[misc]
    """Runs a task's part of the work items."""

    name = "florence_data: write shards"
    type = "writer"

    def __init__(self, job: ShardingJob) -> None:
        super().__init__()
        self.job = job

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Run the items of this rank. Raises `InputError` as `ShardingJob.run_item` does."""
        mine = set(range(rank, len(self.job.items()), world_size))
        for item in sorted(mine.intersection(self.job.remaining())):
            self.job.run_item(item)
        return data


class Finish(PipelineStep):  # type: ignore[misc]
    """Seals the set; run it as a single task, once all of `WriteItems` are done."""

    name = "florence_data: finish the shard set"
    type = "writer"

    def __init__(self, job: ShardingJob) -> None:
        super().__init__()
        self.job = job

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Seal. Raises `InputError` if an item is not done."""
        if rank == 0:
            self.job.finish()
        return data
