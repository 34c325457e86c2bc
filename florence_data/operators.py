"""The sources that a `SampleSet`'s operators build: each wraps others and reads them lazily."""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

from msgspec.structs import replace as replace_struct

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.permutation import Permutation
from florence_data.sample import Sample


class Source(Protocol):
    """A planned sequence of pages. Picklable, so that a worker process can read a range of it."""

    def __len__(self) -> int:
        """How many positions there are; reading one gives one sample, or none if it is dropped."""
        ...

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples at positions `start` to `stop - 1`; drops are counted in `account`."""
        ...


@dataclass(frozen=True)
class SamplesInMemory:
    """A source over samples that are already there."""

    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for sample in self.samples[start:stop]:
            account.rows.read += 1
            account.rows.kept += 1
            account.questions.read += len(sample.supervisions)
            yield sample


@dataclass(frozen=True)
class Mapped:
    """Each sample passed through a function."""

    source: Source
    function: Callable[[Sample], Sample]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for before in self.source.read(start, stop, account):
            after = self.function(before)
            change = len(after.supervisions) - len(before.supervisions)
            if change < 0:
                account.questions.drop(f"removed by {_name(self.function)}", -change)
            else:
                account.questions.read += change
            yield after


@dataclass(frozen=True)
class Filtered:
    """The samples for which a predicate holds; the others are counted under `reason`."""

    source: Source
    predicate: Callable[[Sample], bool]
    reason: str

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for sample in self.source.read(start, stop, account):
            if self.predicate(sample):
                yield sample
            else:
                account.drop_page(self.reason, len(sample.supervisions))


@dataclass(frozen=True)
class Selected:
    """The positions that a sequence lists, in its order: a part of a source, or a shuffled one."""

    source: Source
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for begin, end in _runs(self.positions, start, min(stop, len(self.positions))):
            yield from self.source.read(begin, end, account)


@dataclass(frozen=True)
class Concatenated:
    """Several sources, one after the other."""

    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for source in self.sources:
            size = len(source)
            if start < size and stop > 0:
                yield from source.read(max(start, 0), min(stop, size), account)
            start, stop = start - size, stop - size


@dataclass(frozen=True)
class Repeated:
    """A source so many times, one pass after the other; ids get `~1`, `~2` … from the second on."""

    source: Source
    times: int

    def __len__(self) -> int:
        return len(self.source) * self.times

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        size = len(self.source)
        while start < min(stop, len(self)):
            turn, begin = divmod(start, size)
            end = min(size, begin + stop - start)
            for sample in self.source.read(begin, end, account):
                yield replace_struct(sample, id=f"{sample.id}~{turn}") if turn else sample
            start += end - begin


@dataclass(frozen=True)
class Mixed:
    """Several sources interleaved, each with a share of the positions.

    An epoch takes `shares[k]` samples from source k and puts them in an order that the seed and the
    epoch determine. A source goes through its own samples in a shuffled order, all of them before
    one comes again; the next epoch goes on where the last one stopped. So a source with a small
    share is seen whole over several epochs, and one with a large share several times in one.
    """

    sources: tuple[Source, ...]
    shares: tuple[int, ...]
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return sum(self.shares)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        order = Permutation(len(self), "mix", self.seed, self.epoch)
        ends = list(accumulate(self.shares))
        passes: dict[tuple[int, int], Permutation] = {}
        for position in range(start, min(stop, len(self))):
            draw = order[position]
            part = bisect_right(ends, draw)
            source = self.sources[part]
            size, share = len(source), self.shares[part]
            turn, within = divmod(self.epoch * share + draw - (ends[part] - share), size)
            if (part, turn) not in passes:
                passes[part, turn] = Permutation(size, "mixed", self.seed, part, turn)
            chosen = passes[part, turn][within]
            yield from source.read(chosen, chosen + 1, account)


def shares(weights: Sequence[float], total: int) -> tuple[int, ...]:
    """Whole shares of `total` in proportion to weights, by the method of the largest remainder."""
    exact = [total * weight / sum(weights) for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: whole[k] - exact[k])
    for k in by_remainder[: total - sum(whole)]:
        whole[k] += 1
    return tuple(whole)


def at_epoch(source: Source, epoch: int) -> Source:
    """The source as it is in a later epoch; only a mix in it changes with the epoch."""
    source = _rebuilt(source, lambda inner: at_epoch(inner, epoch))
    return replace(source, epoch=epoch) if isinstance(source, Mixed) else source


def without_images(source: Source) -> Source:
    """The source with images left where they are, if it or what it is built on can do that.

    A source that can has a method `without_images`, which returns another source: of the same
    samples, their images without bytes but with a location.
    """
    leave: Callable[[], Source] | None = getattr(source, "without_images", None)
    return _rebuilt(source, without_images) if leave is None else leave()


def _rebuilt(source: Source, change: Callable[[Source], Source]) -> Source:
    """An operator over changed sources; any other source as it is."""
    if isinstance(source, Mapped | Filtered | Selected | Repeated):
        return replace(source, source=change(source.source))
    if isinstance(source, Concatenated | Mixed):
        return replace(source, sources=tuple(map(change, source.sources)))
    return source


def versions(part: object) -> Iterator[str]:
    """What tells whether a source gives other samples than before, from all it is built on.

    A part that can tell has a method `version`, which returns a text that is another one where what
    it reads has changed; parts are the fields of dataclasses, and the members of tuples.
    """
    version: Callable[[], str] | None = getattr(part, "version", None)
    if version is not None:
        yield version()
    elif is_dataclass(part):
        for field in fields(part):
            yield from versions(getattr(part, field.name))
    elif isinstance(part, tuple):
        for member in part:
            yield from versions(member)


def _runs(positions: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The listed positions `start` to `stop - 1`, neighbours joined into (begin, end)."""
    if isinstance(positions, range) and positions.step == 1:
        if start < stop:
            yield positions[start], positions[stop - 1] + 1
        return
    begin = end = -1
    for index in range(start, stop):
        position = positions[index]
        if position != end:
            if begin >= 0:
                yield begin, end
            begin = position
        end = position + 1
    if begin >= 0:
        yield begin, end


def require_picklable(function: Callable[..., Any], operator: str) -> None:
    """Raise `InputError` for a function that could not be sent to another process."""
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"{operator}: {_name(function)} cannot be sent to another process ({error}); "
            "define it at the top level of a module, or use functools.partial of one there"
        ) from None


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
