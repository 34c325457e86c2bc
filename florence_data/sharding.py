"""Sharding a set: independent work items, whoever runs them, and the finished set they make.

A job is a source, where to, and how. It is cut into work items, each a range of the source's
positions that becomes whole shards. Items do not know of each other and do not depend on who runs
them, so neither do the bytes. An item is done when its record is there (see
`florence_data.shard_sealing`); a job that was stopped is continued by running the other items.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import msgspec

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.operators import Source, versions
from florence_data.sample_set import SampleSet
from florence_data.shard_format import (
    DESCRIPTION,
    UNFINISHED,
    VERSION,
    Description,
)
from florence_data.shard_sealing import SEALING, ItemRecord, refuse_used, seal
from florence_data.shard_writer import DEFAULTS, ItemWriter, ShardOptions
from florence_data.sharding_progress import INTERVAL, Advance, Meter, Report, progress_bar, silent
from florence_data.storage import open_directory

JOB = f"{UNFINISHED}/job.json"


@dataclass(frozen=True)
class ShardingJob:
    """What is to be sharded, where to, and how.

    `made_from` describes the source, as JSON values, for `dataset.json`.
    """

    source: Source
    directory: str
    options: ShardOptions = DEFAULTS
    made_from: dict[str, Any] = field(default_factory=dict)

    def items(self) -> list[range]:
        """The positions of each work item: equal parts, of whole shards where pages limit them."""
        total = len(self.source)
        count = max(1, -(-total // self.options.item_pages))
        step = max(1, -(-total // count))
        if self.options.shard_pages is not None:
            step = max(1, step // self.options.shard_pages) * self.options.shard_pages
        return [range(start, min(start + step, total)) for start in range(0, total, step)]

    def identity(self) -> bytes:
        """The JSON of all that the bytes depend on.

        The source counts by its length, its first and its last sample, and what the files that it
        reads tell of themselves (`florence_data.operators.versions`).
        """
        total = len(self.source)
        ends = [
            hashlib.sha256(sample.to_json()).hexdigest()
            for position in sorted({0, total - 1} if total else ())
            for sample in self.source.read(position, position + 1, Account())
        ]
        return msgspec.json.encode(
            {
                "version": VERSION,
                "made_from": self.made_from,
                "options": self.options,
                "positions": total,
                "ends": ends,
                "versions": list(versions(self.source)),
            },
            order="deterministic",
        )

    def begin(self, resume: bool) -> None:
        """Make the directory this job's own, or with `resume` see that it is.

        Raises `InputError` if it holds another set, or this one and `resume` is false.
        """
        target = open_directory(self.directory)
        identity = self.identity()
        names = target.names() if resume else []
        if DESCRIPTION in names:
            description = Description.from_json(target.read(DESCRIPTION), self.directory)
            same = description.job == _digest(identity)
        elif JOB in names:
            same = target.read(JOB) == identity
        else:
            refuse_used(target)
            with target.create(JOB) as file:
                file.write(identity)
            return
        if not same:
            raise InputError(
                f"{self.directory}: holds shards of another source or with other options; resume "
                "with the same ones, or choose another directory"
            )

    def finished(self) -> bool:
        """Whether the set is sealed."""
        return DESCRIPTION in open_directory(self.directory).names()

    def remaining(self) -> list[int]:
        """The items that are still to be run: those without a record of files that are there."""
        target = open_directory(self.directory)
        names = set(target.names())
        if DESCRIPTION in names or SEALING in names:
            return []
        return [
            item
            for item in range(len(self.items()))
            if f"{UNFINISHED}/{item:06d}.json" not in names
            or not all(
                target.holds(file.name, file.bytes, file.checksum)
                for file in ItemRecord.read(target, item).files
            )
        ]

    def positions(self, items: Iterable[int]) -> int:
        """How many positions some items have together."""
        ranges = self.items()
        return sum(len(ranges[item]) for item in items)

    def run_item(self, item: int, report: Report = silent) -> None:
        """Write one work item's shards and its record.

        Raises `InputError` if the source or the storage fails; the items that are done stay done.
        """
        positions = self.items()[item]
        writer = ItemWriter(open_directory(self.directory), item, self.options)
        account, meter = Account(), Meter(report)
        try:
            for sample in self.source.read(positions.start, positions.stop, account):
                writer.write(sample)
                account.keep_page(len(sample.supervisions))
                meter.update(writer.bytes, account)
            writer.close(account)
            meter.finish(len(positions), writer.bytes, account)
        except BaseException as error:
            writer.abandon(error)
            if not isinstance(error, Exception):
                raise
            reason = str(error) if isinstance(error, InputError | OSError) else repr(error)
            raise InputError(
                f"{self.directory}: work item {item} (positions {positions.start} to "
                f"{positions.stop - 1}) failed: {reason}; items that are complete are kept, "
                "continue with --resume"
            ) from error

    def finish(self) -> Description:
        """Seal the set once every item is done. Raises `InputError` if one is not."""
        target = open_directory(self.directory)
        if self.finished():
            target.remove(UNFINISHED)
            return Description.from_json(target.read(DESCRIPTION), self.directory)
        records = [ItemRecord.read(target, item) for item in range(len(self.items()))]
        return seal(
            target,
            records,
            images=self.options.images,
            made_from=self.made_from,
            job=_digest(self.identity()),
        )


def _digest(identity: bytes) -> str:
    return hashlib.sha256(identity).hexdigest()


class Executor(Protocol):
    """Who runs work items."""

    def run(self, job: ShardingJob, items: Sequence[int], report: Report) -> None:
        """Run these items. Raises `InputError` with the first failure; none is left running."""
        ...


class InProcess:
    """Runs one item after the other, here."""

    def run(self, job: ShardingJob, items: Sequence[int], report: Report) -> None:
        for item in items:
            job.run_item(item, report)


@dataclass(frozen=True)
class ProcessPool:
    """Runs items in so many processes of this machine.

    They are started afresh, so a script that uses this keeps its own work under
    `if __name__ == "__main__":`, and the job's source must be picklable.
    """

    workers: int

    def run(self, job: ShardingJob, items: Sequence[int], report: Report) -> None:
        context = get_context("spawn")
        reports = context.SimpleQueue()
        pool = ProcessPoolExecutor(
            min(self.workers, max(1, len(items))), context, _start_worker, (job, reports)
        )
        try:
            pending = {pool.submit(_run_in_worker, item) for item in items}
            while pending:
                done, pending = wait(pending, timeout=INTERVAL, return_when=FIRST_EXCEPTION)
                while not reports.empty():
                    report(reports.get())
                for future in done:
                    future.result()
        except (BrokenProcessPool, pickle.PicklingError, AttributeError) as error:
            raise InputError(
                f"{job.directory}: a worker process could not start or ended early ({error}); "
                "items that are complete are kept, continue with --resume"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_job: ShardingJob
_reports: SimpleQueue[Advance]


def _start_worker(job: ShardingJob, reports: SimpleQueue[Advance]) -> None:
    """Keep the job for the items to come, and end with the process that started this one."""
    global _job, _reports
    _job, _reports = job, reports
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _run_in_worker(item: int) -> None:
    _job.run_item(item, _reports.put)


def shard(
    samples: SampleSet,
    directory: str | Path,
    *,
    options: ShardOptions = DEFAULTS,
    made_from: dict[str, Any] | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    show_progress: bool = False,
) -> Description:
    """Write a set as shards and return their description.

    `made_from` describes the source, as JSON values, for `dataset.json`. `executor` runs the work
    items, by default in this process; `resume` continues where an earlier call with the same
    arguments stopped.

    Raises `InputError` if the directory holds another set, if two samples have the same id, and if
    the source or the storage fails; in the last case what is complete is kept for `resume`.
    """
    job = ShardingJob(samples.source, str(directory), options, dict(made_from or {}))
    job.begin(resume)
    todo = job.remaining()
    total = len(job.source)
    with progress_bar(total, total - job.positions(todo), show_progress) as report:
        (executor or InProcess()).run(job, todo, report)
    return job.finish()
