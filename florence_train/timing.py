"""Where a step's time goes, without making the device wait for the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from florence_train.batches import Batch


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
        self._waited = 0.0
        self._events: list[torch.cuda.Event] = []
        self._clock: list[float] = []

    def wait(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, with the time until it is there counted as data."""
        began = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - began
        return batch

    def mark(self) -> None:
        """A phase begins or ends here."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._events.append(event)
        else:
            self._clock.append(time.perf_counter())

    def read(self) -> StepTimes:
        """The times; on CUDA this waits until the step has run.

        Pages are waited for within the first phase. A device that still computes while the host
        waits loses nothing, so the wait counts at most as long as the phase is.
        """
        if self._cuda:
            begin, middle, end = self._events
            end.synchronize()
            first, optimizer = begin.elapsed_time(middle) / 1e3, middle.elapsed_time(end) / 1e3
        else:
            first = self._clock[1] - self._clock[0]
            optimizer = self._clock[2] - self._clock[1]
        data = min(self._waited, first)
        return StepTimes(data, first - data, optimizer)
