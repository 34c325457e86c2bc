"""Which samples come when: the order of an epoch, cut into equal numbers of batches for all ranks.

An epoch is a permutation of all positions, drawn by (seed, epoch). A step takes the next
`world_size * batch_size` of it, in turn for rank 0, 1, …; so where an epoch stands is one number,
how many of its samples all ranks together have used, and it means the same to any number of ranks
and workers.

At the end of an epoch less than a full step remains. With `ending="short"` all ranks share it, in
batches that are smaller by up to all but one sample; only if there are fewer samples left than
ranks, the epoch's first samples come a second time, one for each rank left without (`repeated`).
With `ending="drop"` it is left out (`dropped`). Either way every rank has the same number of
batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from florence_data.errors import InputError
from florence_data.permutation import Permutation

Ending = Literal["short", "drop"]


@dataclass(frozen=True)
class Position:
    """Where training stands: in this epoch, so many samples used by all ranks together."""

    seed: int
    epoch: int = 0
    used: int = 0

    def to_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.used}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Position:
        """From a checkpoint. Raises `InputError` if it holds anything else."""
        try:
            values = [state[key] for key in ("seed", "epoch", "position")]
        except (KeyError, TypeError):
            values = []
        if not values or not all(isinstance(value, int) for value in values) or min(values[1:]) < 0:
            raise InputError(
                f"loader state {state!r}: expected whole numbers for seed, epoch and position"
            )
        return cls(*values)


@dataclass(frozen=True)
class EpochOrder:
    """The batches of one epoch for one rank, from where the epoch stands.

    `size` is the number of positions of the set; `start` comes before the first batch. Raises
    `InputError` for a rank outside its world or sizes below 1.
    """

    size: int
    start: Position
    batch_size: int
    rank: int = 0
    world_size: int = 1
    shuffle: bool = True
    ending: Ending = "short"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size or self.batch_size < 1:
            raise InputError(
                f"rank {self.rank} of {self.world_size}, batch size {self.batch_size}: expected a "
                "rank below the number of ranks, and 1 or more samples a batch"
            )
        if self.start.used > self.size:
            raise InputError(
                f"position {self.start.used} of a set of {self.size}: the state is of another set"
            )

    @property
    def _step(self) -> int:
        return self.world_size * self.batch_size

    @property
    def _rest(self) -> int:
        """Samples behind the last full step."""
        return (self.size - self.start.used) % self._step

    @property
    def repeated(self) -> int:
        """Samples that come a second time in this epoch, so that no rank is without."""
        if self.ending == "drop" or not self._rest:
            return 0
        return max(0, self.world_size - self._rest)

    @property
    def dropped(self) -> int:
        """Samples that this epoch leaves out."""
        return self._rest if self.ending == "drop" else 0

    def __len__(self) -> int:
        """Batches of this rank, the same of every rank."""
        full = (self.size - self.start.used) // self._step
        return full + (1 if self._rest and self.ending == "short" else 0)

    def used_after(self, batches: int) -> int:
        """How many samples all ranks have used after so many batches each."""
        if batches >= len(self):
            return self.size
        return self.start.used + batches * self._step

    def batches(self, worker: int = 0, workers: int = 1) -> Iterator[list[int]]:
        """The positions of each batch; of several workers, each takes every so-manieth batch."""
        order: Sequence[int] = range(self.size)
        if self.shuffle:
            order = Permutation(self.size, "epoch", self.start.seed, self.start.epoch)
        for number in range(worker, len(self), workers):
            begin = self.start.used + number * self._step
            left = min(self._step, self.size - begin)
            shared = max(left, self.world_size)
            low, high = (shared * rank // self.world_size for rank in (self.rank, self.rank + 1))
            yield [
                order[begin + i if i < left else (i - left) % self.size] for i in range(low, high)
            ]
