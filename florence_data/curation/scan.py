"""Looking at every sample of a set once, on several processor cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from florence_data.account import Account
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet, Source

T = TypeVar("T")

RANGE = 64
"""How many positions of the source a worker process reads at a time."""


def scan(samples: SampleSet, look: Callable[[Sample], T], workers: int = 1) -> Iterator[T]:
    """What `look` returns for each sample, in order.

    With more than one worker, processes read ranges of the source, so `look` and what it returns
    have to be picklable.
    """
    if workers <= 1:
        yield from map(look, samples)
        return
    starts = range(0, len(samples), RANGE)
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_set_source, initargs=(samples.source,)
    ) as pool:
        for seen in pool.map(partial(_look_at_range, look), starts):
            yield from seen


def _set_source(source: Source) -> None:
    global _source
    _source = source


def _look_at_range(look: Callable[[Sample], T], start: int) -> list[T]:
    stop = min(start + RANGE, len(_source))
    return [look(sample) for sample in _source.read(start, stop, Account())]


_source: Source
