"""Feeding torch: batches of prepared samples in a seeded order that can be continued anywhere.

The only module of this package that imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from florence_data.account import Account
from florence_data.batch_order import Ending, EpochOrder, Position
from florence_data.errors import InputError
from florence_data.images import MEAN, MODEL_SIZE, STD, upright
from florence_data.operators import at_epoch
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

T = TypeVar("T")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be prepared: its id, and the reason with its shard."""

    sample_id: str
    reason: str


@dataclass(frozen=True)
class OnCorrupt:
    """What to do with a sample that cannot be prepared, such as a corrupt image.

    By default it is an error. With `skip`, its batch is one smaller, and it is an error only if
    more than `most` samples are skipped in all, or `run` of them one after the other in a worker.
    """

    skip: bool = False
    most: int = 100
    run: int = 10


FAIL = OnCorrupt()


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """One batch as a worker makes it."""

    items: list[T]
    skipped: tuple[Skipped, ...]


class SampleStream(IterableDataset[Prepared[T]], Generic[T]):
    """One epoch of one rank as an iterable dataset of whole batches; use `batch_size=None`.

    Several workers take turns, so that a `DataLoader` with any number of them gives the same
    batches in the same order. `prepare` turns a sample into what training needs, in the worker; it
    is picklable, and raises `InputError` for a sample that cannot be used.
    """

    def __init__(
        self,
        samples: SampleSet,
        order: EpochOrder,
        prepare: Callable[[Sample], T],
        on_corrupt: OnCorrupt = FAIL,
    ) -> None:
        self._source = at_epoch(samples.source, order.start.epoch)
        self._order = order
        self._prepare = prepare
        self._on_corrupt = on_corrupt

    def __iter__(self) -> Iterator[Prepared[T]]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        run = 0
        for positions in self._order.batches(number, workers):
            items: list[T] = []
            skipped: list[Skipped] = []
            for position in positions:
                for sample in self._source.read(position, position + 1, Account()):
                    try:
                        items.append(self._prepare(sample))
                        run = 0
                    except InputError as error:
                        if not self._on_corrupt.skip:
                            raise InputError(_where(sample, error)) from error
                        skipped.append(Skipped(sample.id, _where(sample, error)))
                        run += 1
                        if run == self._on_corrupt.run:
                            raise InputError(
                                f"{run} samples in a row cannot be prepared; the last: "
                                f"{skipped[-1].reason}"
                            ) from error
            yield Prepared(items, tuple(skipped))


def _where(sample: Sample, error: InputError) -> str:
    location = sample.image.location
    return f"{location.path if location else 'in memory'}, sample {sample.id}: {error}"


class Loader(Generic[T, Batch]):
    """Epochs of batches for a training loop, which can be stopped and continued anywhere.

    Each iteration gives the rest of the current epoch, then the next epoch begins. Every rank gets
    the same number of batches (`florence_data.batch_order` says how an epoch ends; `repeated` and
    `dropped` how many samples that took). `collate` makes a batch of the prepared samples, in this
    process; it gets an empty list only if all samples of a batch were skipped or dropped.
    """

    def __init__(
        self,
        samples: SampleSet,
        prepare: Callable[[Sample], T],
        collate: Callable[[list[T]], Batch],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        ending: Ending = "short",
        on_corrupt: OnCorrupt = FAIL,
    ) -> None:
        self._samples = samples
        self._prepare = prepare
        self._collate = collate
        self._workers = workers
        self._on_corrupt = on_corrupt
        self._order = EpochOrder(
            len(samples), Position(seed), batch_size, rank, world_size, shuffle, ending
        )
        self.skipped: list[Skipped] = []
        """What was skipped so far, on this rank."""

    def __len__(self) -> int:
        """Batches that are left of the current epoch."""
        return len(self._order)

    @property
    def repeated(self) -> int:
        """Samples that come twice at the end of the current epoch, over all ranks."""
        return self._order.repeated

    @property
    def dropped(self) -> int:
        """Samples that the current epoch leaves out at its end, over all ranks."""
        return self._order.dropped

    def __iter__(self) -> Iterator[Batch]:
        order = self._order
        stream = SampleStream(self._samples, order, self._prepare, self._on_corrupt)
        batches = DataLoader(stream, batch_size=None, num_workers=self._workers)
        for number, prepared in enumerate(batches, 1):
            self.skipped += prepared.skipped
            if len(self.skipped) > self._on_corrupt.most:
                raise InputError(
                    f"{len(self.skipped)} samples were skipped, more than {self._on_corrupt.most}; "
                    f"the last: {self.skipped[-1].reason}"
                )
            used = order.used_after(number)
            self._order = replace(order, start=replace(order.start, used=used))
            yield self._collate(prepared.items)
        seed, epoch = order.start.seed, order.start.epoch
        self._order = replace(order, start=Position(seed, epoch + 1))

    def state_dict(self) -> dict[str, int]:
        """Where training stands, after the batch that was handed out last; the same on any rank."""
        return self._order.start.to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state, also one of another number of ranks, workers, or batch size.

        Raises `InputError` if it is no state, or one of a longer set.
        """
        self._order = replace(self._order, start=Position.from_dict(state))


_SCALE = torch.from_numpy(1 / (255 * STD))[:, None, None]
_SHIFT = torch.from_numpy(-MEAN / STD)[:, None, None]


def pixels(data: bytes, size: tuple[int, int] = MODEL_SIZE, name: str = "image") -> torch.Tensor:
    """Like `florence_data.images.pixels`, resized by torch: float32 [3, height, width].

    Torch's antialiased bicubic filter on 8-bit values is some four times as fast as Pillow's and
    differs from it by at most one of 255 levels (`bench/results/shards.md` has the measurements).
    """
    values = torch.from_numpy(np.array(upright(data, name, at_least=size)))
    planes = values.permute(2, 0, 1) if values.ndim == 3 else values[None]
    if planes.shape[1:] != size[::-1]:
        planes = interpolate(planes[None], size[::-1], mode="bicubic", antialias=True)[0]
    return torch.addcmul(_SHIFT, planes.float(), _SCALE)
