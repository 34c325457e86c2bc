"""Where a step's time goes, without making the device wait for the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from florence_train.batches import Batch

_Moment: TypeAlias = Any
"""A CUDA event or seconds."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one step: waiting for pages, forward and backward, optimiser."""

    data: float
    compute: float
    optimizer: float

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return self.data + self.compute + self.optimizer


class Stopwatch:
    """Marks the phases of one step. On CUDA the marks are events, read when the step has run.

    `mark` is called before the first batch is asked for, after the last backward pass, and after
    the optimiser's step.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[_Moment] = []
        self._waits: list[tuple[_Moment, _Moment]] = []

    def wait(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, with the time until it is there counted as data.

        On CUDA that is the device's time: one that still computes while the host waits passes both
        events at once, and has lost nothing.
        """
        began = self._now()
        batch = next(batches)
        self._waits.append((began, self._now()))
        return batch

    def mark(self) -> None:
        """A phase begins or ends here."""
        self._marks.append(self._now())

    def read(self) -> StepTimes:
        """The times; on CUDA this waits until the step has run."""
        begin, middle, end = self._marks
        if self._cuda:
            end.synchronize()
        data = sum(_seconds(*wait) for wait in self._waits)
        return StepTimes(data, _seconds(begin, middle) - data, _seconds(middle, end))

    def _now(self) -> _Moment:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _seconds(begin: _Moment, end: _Moment) -> float:
    if isinstance(begin, torch.cuda.Event):
        return float(begin.elapsed_time(end)) / 1e3
    return float(end - begin)
