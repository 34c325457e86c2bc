"""A lazy sequence of samples.

Everything is built on a `Source`: a planned sequence of pages that knows how many there are
without reading an image, and reads any range of them. Recipes and shard sets are sources; an
operator wraps a source in another (`florence_data.operators`). Nothing is read before it is asked
for, except by the three operators that need to see every sample first: `sort_by`,
`group_by_image` and `to_eager`. Names follow Lhotse's `CutSet` where the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.operators import (
    Concatenated,
    Filtered,
    Mapped,
    Mixed,
    Repeated,
    SamplesInMemory,
    Selected,
    Source,
    require_picklable,
    shares,
    without_images,
)
from florence_data.permutation import Permutation
from florence_data.sample import Sample
from florence_data.sample_lines import SampleLines, light, write_lines
from florence_data.set_description import SetDescription, describe

__all__ = ["SampleSet", "SamplesInMemory", "Source"]


class SampleSet:
    """A lazy, re-iterable sequence of `Sample`, with operators that return another one.

    Its length is the number of its source's positions; where a source or a filter drops samples
    while it is read, iteration gives fewer.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @classmethod
    def from_samples(cls, samples: Iterable[Sample]) -> SampleSet:
        """A set of samples in memory."""
        return cls(SamplesInMemory(tuple(samples)))

    @classmethod
    def from_shards(cls, directory: str | Path) -> SampleSet:
        """The samples of a shard set, in the order in which they were written.

        Raises `InputError` if the directory holds no finished set.
        """
        from florence_data.shard_reader import ShardReader

        return cls(ShardReader(directory))

    @classmethod
    def from_jsonl(cls, path: str | Path, anywhere: bool = False) -> SampleSet:
        """The samples of `to_jsonl`'s file, each read when it is asked for.

        Raises `InputError` if it cannot be read; and when a sample is read, with the line that does
        not fit, or, without `anywhere`, whose image is not below the file's own directory.
        """
        return cls(SampleLines(path, anywhere))

    @classmethod
    def mix(
        cls,
        *sets: SampleSet,
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> SampleSet:
        """Several sets interleaved at random, as long as all of them together.

        Each has a share of the positions in proportion to its weight; without weights, to its
        length to the power of 1 / `temperature`: 1 keeps the proportions, larger values even them
        out. `operators.Mixed` says what an epoch of it holds. A sample that comes twice in an epoch
        has the same id both times.

        Raises `InputError` for no set, an empty one, or weights that do not fit them.
        """
        sizes = [len(samples) for samples in sets]
        if not sets or 0 in sizes:
            raise InputError(f"mix: sets of {sizes} positions; expected one or more, not empty")
        if weights is None:
            if temperature <= 0:
                raise InputError(f"mix: temperature {temperature}; expected more than 0")
            weights = [size ** (1 / temperature) for size in sizes]
        if len(weights) != len(sets) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise InputError(
                f"mix: weights {list(weights)}; expected {len(sets)}, none negative, not all 0"
            )
        sources = tuple(samples.source for samples in sets)
        return cls(Mixed(sources, shares(weights, sum(sizes)), seed))

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Sample]:
        return self.read(Account())

    def read(self, account: Account) -> Iterator[Sample]:
        """The samples, with everything that is read and dropped counted in `account`."""
        return self.source.read(0, len(self.source), account)

    def texts(self) -> Iterator[Sample]:
        """The samples for a pass that needs no image's bytes, such as planning.

        From shards only the descriptions are read, and an image has its location but no data;
        elsewhere this is plain iteration.
        """
        return SampleSet(without_images(self.source)).read(Account())

    def __getitem__(self, which: int | str) -> Sample:
        """The sample at a position, negative ones from the end; or the one with an id.

        A shard set finds an id by its index; elsewhere the samples are gone through. Raises
        `IndexError` or `KeyError` if there is none, and `InputError` where the one at the position
        is dropped.
        """
        position = self._position(which) if isinstance(which, str) else range(len(self))[which]
        account = Account()
        for sample in self.source.read(position, position + 1, account):
            return sample
        reasons = ", ".join(account.rows.dropped | account.pages.dropped)
        raise InputError(f"position {position} gives no sample ({reasons or 'dropped'})")

    def __add__(self, other: SampleSet) -> SampleSet:
        """This set and then the other."""
        return SampleSet(Concatenated((self.source, other.source)))

    def map(self, function: Callable[[Sample], Sample]) -> SampleSet:
        """Each sample passed through a picklable function, when it is read.

        A function that looks at the image asks for `image.read()`: `data` is empty where the bytes
        are still in a file.
        """
        require_picklable(function, "map")
        return SampleSet(Mapped(self.source, function))

    def filter(self, predicate: Callable[[Sample], bool], reason: str = "") -> SampleSet:
        """The samples for which a picklable predicate holds; `map` says how it gets at the image.

        The others are counted as dropped for `reason`, by default the predicate's name.
        """
        require_picklable(predicate, "filter")
        named = reason or f"filtered by {getattr(predicate, '__qualname__', predicate)}"
        return SampleSet(Filtered(self.source, predicate, named))

    def subset(
        self,
        *,
        first: int | None = None,
        last: int | None = None,
        ids: Iterable[str] | None = None,
    ) -> SampleSet:
        """The first or the last positions, as many as there are; or the samples with these ids.

        Exactly one is given. Raises `InputError` otherwise, and for ids that are not there.
        """
        if sum(choice is not None for choice in (first, last, ids)) != 1:
            raise InputError(f"subset: first={first}, last={last}, ids={ids}; give one of them")
        if (first or 0) < 0 or (last or 0) < 0:
            raise InputError(f"subset: first={first}, last={last}; expected 0 or more")
        size = len(self)
        if ids is not None:
            return SampleSet(Selected(self.source, self._positions(ids)))
        start = 0 if last is None else max(0, size - last)
        stop = size if first is None else min(first, size)
        return SampleSet(Selected(self.source, range(start, stop)))

    def _position(self, sample_id: str) -> int:
        find: Callable[[str], int] | None = getattr(self.source, "position", None)
        if find is not None:
            return find(sample_id)
        for position, sample in self._positioned():
            if sample.id == sample_id:
                return position
        raise KeyError(sample_id)

    def _positions(self, ids: Iterable[str]) -> list[int]:
        wanted = dict.fromkeys(ids, -1)
        for position, sample in self._positioned():
            if sample.id in wanted:
                wanted[sample.id] = position
        if missing := [sample_id for sample_id, position in wanted.items() if position < 0]:
            raise InputError(f"subset: no sample has the id {missing[0]!r}")
        return list(wanted.values())

    def _positioned(self) -> Iterator[tuple[int, Sample]]:
        """Every sample that is not dropped, without its image if possible, and its position."""
        source = without_images(self.source)
        for position in range(len(self)):
            for sample in source.read(position, position + 1, Account()):
                yield position, sample

    def split(self, parts: int, *, shuffle: bool = False, seed: int = 0) -> list[SampleSet]:
        """So many sets of neighbouring positions, whose lengths differ by at most one."""
        if not 1 <= parts <= max(1, len(self)):
            raise InputError(f"split: {parts} parts of {len(self)} positions")
        whole = self.shuffle(seed) if shuffle else self
        bounds = [len(self) * part // parts for part in range(parts + 1)]
        return [
            SampleSet(Selected(whole.source, range(start, stop)))
            for start, stop in pairwise(bounds)
        ]

    def shuffle(self, seed: int = 0) -> SampleSet:
        """All samples in an order that the seed determines; takes no memory at any length.

        Each is read on its own, so shuffle shards rather than a source that reads by row groups.
        """
        return SampleSet(Selected(self.source, Permutation(len(self), "shuffle", seed)))

    def repeat(self, times: int) -> SampleSet:
        """The set so many times; from the second pass on, ids get `~1`, `~2` … behind them."""
        if times < 1:
            raise InputError(f"repeat: {times} times; expected 1 or more")
        return SampleSet(Repeated(self.source, times))

    def sort_by(self, key: Callable[[Sample], Any], *, reverse: bool = False) -> SampleSet:
        """All samples in the order of a key, equal ones as they were. Reads every sample once."""
        keyed = [(key(sample), position) for position, sample in self._positioned()]
        order = sorted(keyed, key=lambda pair: pair[0], reverse=reverse)
        return SampleSet(Selected(self.source, [position for _, position in order]))

    def group_by_image(self) -> SampleSet:
        """Samples of the same bytes become one, with all their supervisions, where the first was.

        The result is in memory; images that have a location are left there.
        """
        groups: dict[str, Sample] = {}
        for sample in self.texts():
            first = groups.get(sample.image.sha256)
            if first is None:
                groups[sample.image.sha256] = light(sample)
            else:
                groups[sample.image.sha256] = replace(
                    first, supervisions=first.supervisions + sample.supervisions
                )
        return SampleSet.from_samples(groups.values())

    def to_eager(self) -> SampleSet:
        """The same samples in memory, images included: what drops did is done."""
        return SampleSet.from_samples(self)

    def to_jsonl(self, path: str | Path) -> None:
        """Write one JSON object a line, compressed if the name ends with `.gz`.

        An image that has a location is referred to, by a path from the file's own directory where
        it is below it; another one's bytes are embedded. Nothing is left under the name on failure.
        """
        write_lines(self, path)

    def describe(self, count_tokens: Callable[[str], int] | None = None) -> SetDescription:
        """What a person wants to know of the set; reads every sample once.

        `count_tokens` gives the length of a text; without it, lengths are estimated.
        """
        return describe(self.texts(), count_tokens)
