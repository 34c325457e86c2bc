"""Reading a shard set: any sample by position or id with one read, or all of them in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.plain_tars import sample_of
from florence_data.sample import Image, Location, Sample
from florence_data.shard_format import (
    DESCRIPTION,
    INDEX_SCHEMA,
    UNFINISHED,
    Description,
)
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
        self.index = _read_index(self.directory, self.description)
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
        """Read every shard whole. Raises `InputError` for the first whose checksum differs."""
        for shard in self.description.shards:
            if self.directory.checksum(shard.name) != (shard.bytes, shard.sha256):
                raise InputError(
                    f"{self.directory.url}/{shard.name}: its checksum differs from the one in "
                    f"{DESCRIPTION}; the shard was changed or damaged after it was written"
                )

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples at positions `start` to `stop - 1`, each one row of the source."""
        for position in range(start, min(stop, len(self))):
            sample = self._sample(position)
            account.rows.read += 1
            account.rows.kept += 1
            account.questions.read += len(sample.supervisions)
            yield sample

    def _sample(self, position: int) -> Sample:
        name = self.description.shards[self._shards[position]].name
        where = f"{self.directory.url}/{name}, position {position}"
        image_offset = int(self._image_offsets[position])
        image_size = int(self._image_sizes[position])
        json_offset = int(self._json_offsets[position])
        json_size = int(self._json_sizes[position])
        begin = min(image_offset, json_offset)
        size = max(image_offset + image_size, json_offset + json_size) - begin
        data = self.directory.read_range(name, begin, size)
        if len(data) != size:
            raise InputError(f"{where}: {len(data)} bytes at offset {begin}, expected {size}")
        picture = data[image_offset - begin : image_offset - begin + image_size]
        description = data[json_offset - begin : json_offset - begin + json_size]
        location = Location(f"{self.directory.url}/{name}", image_offset, image_size)
        if self.description.members == "own":
            sample = Sample.from_json(description, where)
            image = replace(sample.image, data=picture, location=location)
            return replace(sample, image=image)
        key, source = (str(self.index[column][position]) for column in ("key", "source"))
        image = replace(Image.from_bytes(picture, where), location=location)
        return sample_of(key, image, description, source, where)


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


def _read_index(directory: Directory, description: Description) -> pa.Table:
    """The index, checked for its size, checksum, columns, and number of rows."""
    expected = description.index
    name = f"{directory.url}/{expected.name}"
    data = directory.read(expected.name)
    if len(data) != expected.bytes or hashlib.sha256(data).hexdigest() != expected.sha256:
        raise InputError(f"{name}: not the file that {DESCRIPTION} describes (checksum differs)")
    try:
        index = pa.ipc.open_file(data).read_all()
        index.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name}: not an Arrow file: {reason}") from None
    if index.schema != INDEX_SCHEMA:
        raise InputError(
            f"{name}: columns {', '.join(index.column_names)}; "
            f"expected {', '.join(INDEX_SCHEMA.names)}"
        )
    if len(index) != description.samples:
        raise InputError(f"{name}: {len(index)} rows, expected {description.samples}")
    return index
