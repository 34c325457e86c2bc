"""How far a sharding job is: what work items report, and a bar that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from florence_data.account import Account

INTERVAL = 0.25
"""Seconds between two reports of a work item."""


@dataclass(frozen=True)
class Advance:
    """What was done since the last report.

    `positions` are the source's, `bytes` those written; `dropped` counts rows that the source
    dropped and pages that an operator dropped.
    """

    positions: int
    bytes: int
    dropped: int


Report = Callable[[Advance], None]


def silent(advance: Advance) -> None:
    """Takes a report and shows nothing."""


class Meter:
    """Turns the state of a work item into reports, a few a second."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._due = time.monotonic() + INTERVAL
        self._positions = self._bytes = self._dropped = 0

    def update(self, bytes_written: int, account: Account) -> None:
        """Report the state if it is time to."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL
            self._send(account.pages.read, bytes_written, account)

    def finish(self, positions: int, bytes_written: int, account: Account) -> None:
        """Report that the item, of so many positions, is complete."""
        self._send(positions, bytes_written, account)

    def _send(self, positions: int, bytes_written: int, account: Account) -> None:
        dropped = account.rows.dropped.total() + account.pages.dropped.total()
        self._report(
            Advance(
                positions - self._positions,
                bytes_written - self._bytes,
                dropped - self._dropped,
            )
        )
        self._positions, self._bytes, self._dropped = positions, bytes_written, dropped


@contextmanager
def progress_bar(total: int, already: int, show: bool) -> Iterator[Report]:
    """A bar on the standard error, as a function that takes reports.

    `total` counts positions, `already` those that an earlier run did. Nothing is shown without
    `show`, or where the standard error is no terminal.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("pages"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Rates(),
        TimeRemainingColumn(),
        console=console,
        disable=not (show and console.is_terminal),
    ) as progress:
        task = progress.add_task("pages", total=total, completed=already, bytes=0, dropped=0)

        def report(advance: Advance) -> None:
            fields = progress.tasks[0].fields
            progress.update(
                task,
                advance=advance.positions,
                bytes=fields["bytes"] + advance.bytes,
                dropped=fields["dropped"] + advance.dropped,
            )

        yield report


class _Rates(ProgressColumn):
    """Pages and megabytes a second since the beginning, and what was dropped."""

    def render(self, task: Task) -> Text:
        seconds = max(task.elapsed or 0.0, 1e-9)
        return Text(
            f"{task.speed or 0:,.0f} pages/s  {task.fields['bytes'] / seconds / 1e6:,.1f} MB/s  "
            f"{task.fields['dropped']:,} dropped",
            no_wrap=True,
        )
