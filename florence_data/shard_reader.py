"""Reading a shard set: any sample by position or id with one read, or all of them in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from florence_data.account import Account
from florence_data.checksum import Checksum
from florence_data.errors import InputError
from florence_data.plain_tars import sample_of
from florence_data.sample import Image, Location, Sample
from florence_data.shard_format import (
    DESCRIPTION,
    UNFINISHED,
    Description,
)
from florence_data.shard_index import read_index
from florence_data.storage import Directory, open_directory


class ShardReader:
    """A finished shard set as a source of samples, by position in the order of writing.

    Opening reads `dataset.json` and the index, checks them against each other and the sizes of the
    tars, and raises `InputError` where they do not fit. Pickled, it is the directory's name:
    another process opens it anew.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = open_directory(directory)
        self.description = _read_description(self.directory)
        self.index = read_index(self.directory, self.description.index, self.description.samples)
        """The index, an Arrow table; `.to_pandas()` gives a data frame."""
        self._check_ranges()
        self._positions: dict[str, int] | None = None

    def _check_ranges(self) -> None:
        """Take the ranges from the index and hold them to the sizes of the tars."""
        url, index = self.directory.url, self.index
        self._shards = index["shard"].to_numpy()
        self._image_offsets = index["image_offset"].to_numpy()
        self._image_sizes = index["image_size"].to_numpy()
        self._json_offsets = index["json_offset"].to_numpy()
        self._json_sizes = index["json_size"].to_numpy()
        shards = self.description.shards
        for shard in shards:
            size = self.directory.size(shard.name)
            if size != shard.bytes:
                raise InputError(f"{url}/{shard.name}: {size} bytes, expected {shard.bytes}")
        sizes = np.array([shard.bytes for shard in shards], np.int64)
        known = (self._shards >= 0) & (self._shards < len(shards))
        ends = sizes[np.where(known, self._shards, 0)] if len(shards) else np.zeros(len(index))
        fits = known
        for offsets, lengths in (
            (self._image_offsets, self._image_sizes),
            (self._json_offsets, self._json_sizes),
        ):
            fits &= (offsets >= 0) & (lengths >= 0) & (lengths <= ends - offsets)
        if not fits.all():
            row = int(np.argmin(fits))
            raise InputError(
                f"{url}/{self.description.index.name}: row {row} lies outside its shard"
            )

    def __getstate__(self) -> str:
        return self.directory.url

    def __setstate__(self, url: str) -> None:
        self.__init__(url)  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, which: int | str) -> Sample:
        """The sample at a position or with an id; `IndexError` or `KeyError` if there is none."""
        if isinstance(which, str):
            return self._sample(self.position(which))
        position = range(len(self))[which]
        return self._sample(position)

    def position(self, sample_id: str) -> int:
        """Where the sample with this id is. Raises `KeyError` if there is none."""
        if self._positions is None:
            ids = self.index["id"].to_pylist()
            self._positions = dict(zip(ids, range(len(ids)), strict=True))
        return self._positions[sample_id]

    def check(self) -> None:
        """Read every shard whole, and compare its checksum and its images' SHA-256.

        Raises `InputError` for the first file or image that differs.
        """
        for shard in self.description.shards:
            if self.directory.checksum(shard.name) != (shard.bytes, shard.checksum):
                raise InputError(
                    f"{self.directory.url}/{shard.name}: its checksum differs from the one in "
                    f"{DESCRIPTION}; the shard was changed or damaged after it was written"
                )
        for position, expected in enumerate(self.index["sha256"].to_pylist()):
            where = self._where(position)
            image = Image.from_bytes(self._bytes(position, self._image_range(position)), where)
            if image.sha256 != expected:
                raise InputError(
                    f"{where}: the image's SHA-256 is {image.sha256}, "
                    f"{self.description.index.name} says {expected}"
                )

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples at positions `start` to `stop - 1`, each one row of the source."""
        return _counted(map(self._sample, range(start, min(stop, len(self)))), account)

    def without_images(self) -> ShardTexts:
        """The set as a source of samples whose images are not read."""
        return ShardTexts(self)

    def text(self, position: int) -> Sample:
        """The sample at a position; its image has its location, but no bytes."""
        return self._sample_of(position, b"", self._bytes(position, self._json_range(position)))

    def version(self) -> str:
        """A text that is another one for another set."""
        return str(Checksum(self.description.to_json()))

    def _sample(self, position: int) -> Sample:
        """The sample at a position, in one read."""
        image, description = self._image_range(position), self._json_range(position)
        begin = min(image.start, description.start)
        data = self._bytes(position, range(begin, max(image.stop, description.stop)))
        return self._sample_of(
            position,
            data[image.start - begin : image.stop - begin],
            data[description.start - begin : description.stop - begin],
        )

    def _sample_of(self, position: int, picture: bytes, description: bytes) -> Sample:
        """A sample from its members; `picture` is empty where the image stays in the shard."""
        where, places = self._where(position), self._image_range(position)
        location = Location(self._url(position), places.start, len(places))
        if self.description.members == "own":
            sample = Sample.from_json(description, where)
            return replace(sample, image=replace(sample.image, data=picture, location=location))
        row = self.index.slice(position, 1).to_pylist()[0]
        if picture:
            image = Image.from_bytes(picture, where)
        else:
            facts = {name: row[name] for name in ("width", "height", "format", "sha256")}
            image = Image(**facts)
        image = replace(image, location=location)
        return sample_of(row["key"], image, description, row["source"], where)

    def _image_range(self, position: int) -> range:
        offset = int(self._image_offsets[position])
        return range(offset, offset + int(self._image_sizes[position]))

    def _json_range(self, position: int) -> range:
        offset = int(self._json_offsets[position])
        return range(offset, offset + int(self._json_sizes[position]))

    def _bytes(self, position: int, places: range) -> bytes:
        """A range of the sample's shard. Raises `InputError` if the file is shorter."""
        name = self.description.shards[self._shards[position]].name
        data = self.directory.read_range(name, places.start, len(places))
        if len(data) != len(places):
            raise InputError(
                f"{self._where(position)}: {len(data)} bytes at offset {places.start}, "
                f"expected {len(places)}"
            )
        return data

    def _url(self, position: int) -> str:
        return f"{self.directory.url}/{self.description.shards[self._shards[position]].name}"

    def _where(self, position: int) -> str:
        return f"{self._url(position)}, position {position}"


@dataclass(frozen=True)
class ShardTexts:
    """A shard set as a source of samples whose images stay in the shards."""

    reader: ShardReader

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples at positions `start` to `stop - 1`; only their JSON is read."""
        return _counted(map(self.reader.text, range(start, min(stop, len(self)))), account)


def _counted(samples: Iterable[Sample], account: Account) -> Iterator[Sample]:
    for sample in samples:
        account.rows.read += 1
        account.rows.kept += 1
        account.questions.read += len(sample.supervisions)
        yield sample


def _read_description(directory: Directory) -> Description:
    try:
        data = directory.read(DESCRIPTION)
    except InputError:
        names = directory.names()
        if any(name.startswith(UNFINISHED + "/") for name in names):
            raise InputError(
                f"{directory.url}: an unfinished shard set (no {DESCRIPTION}); "
                "finish it with make_shards.py … --resume"
            ) from None
        if any(name.endswith(".tar") for name in names):
            raise InputError(
                f"{directory.url}: tars without {DESCRIPTION}; "
                "index them with make_shards.py index, or read them with florence_data.plain_tars"
            ) from None
        raise InputError(
            f"{directory.url}: no shard set ({DESCRIPTION} is missing; {len(names)} other files); "
            "a directory that make_shards.py or ShardWriter wrote is accepted"
        ) from None
    return Description.from_json(data, f"{directory.url}/{DESCRIPTION}")
