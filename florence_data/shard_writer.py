"""Writing shards: ustar members, index and checksums in one pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from florence_data.account import Account
from florence_data.checksum import SummedFile
from florence_data.conversion import convert
from florence_data.errors import InputError
from florence_data.sample import Sample
from florence_data.shard_format import (
    BLOCK,
    END,
    SUFFIXES,
    UNFINISHED,
    ImageDescription,
    ShardDescription,
    member_header,
    member_key,
    padding,
)
from florence_data.shard_index import index_batch, write_index
from florence_data.shard_sealing import ItemRecord, WrittenShard, refuse_used, seal
from florence_data.storage import Directory, open_directory

BUFFER = 1 << 20
"""Bytes that are collected before they are summed and written."""


class ShardOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How shards are made.

    One is closed before it would exceed `shard_size` bytes or `shard_pages` samples, and at the end
    of a work item, which is about `item_pages` positions of the source. A single page larger than
    `shard_size` makes a shard of its own. `images` says how pages are stored.
    """

    shard_size: int = 512_000_000
    shard_pages: int | None = None
    item_pages: int = 1024
    images: ImageDescription = ImageDescription()

    def __post_init__(self) -> None:
        for name in ("shard_size", "shard_pages", "item_pages"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected 1 or more")


DEFAULTS = ShardOptions()

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def parse_size(text: str) -> int:
    """Bytes from `2MB`, `1.5GiB` or a plain number. Raises `InputError` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match and match[2].upper() in _UNITS:
        size = int(float(match[1]) * _UNITS[match[2].upper()])
        if size > 0:
            return size
    raise InputError(f"size {text!r}: expected a number of bytes such as 2MB, 1GiB or 512000000")


class OpenShard:
    """One tar that is being written. It appears under `name` when it is closed.

    `thread`, of one worker, sums and writes what was added while the next samples are made.
    """

    def __init__(
        self, directory: Directory, name: str, split: str, thread: ThreadPoolExecutor
    ) -> None:
        self.name = name
        self.split = split
        self.size = 0
        self.rows: list[tuple[Any, ...]] = []
        self._parts: list[bytes] = []
        self._unwritten = 0
        self._thread = thread
        self._writing: Future[None] | None = None
        self._stack = ExitStack()
        self._file = SummedFile(self._stack.enter_context(directory.create(name)))

    def add(self, sample: Sample, key: str, description: bytes) -> None:
        """Append a sample whose image is in memory; `description` is its JSON."""
        image = sample.image
        image_offset = self._append(f"{key}.{SUFFIXES[image.format]}", image.data)
        json_offset = self._append(f"{key}.json", description)
        self.rows.append(
            (
                sample.id,
                key,
                0,
                image_offset,
                len(image.data),
                json_offset,
                len(description),
                image.width,
                image.height,
                image.format,
                image.sha256,
                len(sample.supervisions),
                sample.source,
                sample.split,
                sample.doc_id,
            )
        )
        if self._unwritten >= BUFFER:
            self._finish_writing()
            self._writing = self._thread.submit(self._write, self._parts)
            self._parts, self._unwritten = [], 0

    def _append(self, name: str, content: bytes) -> int:
        """Put a member behind the others; returns the offset of its content."""
        header, zeros = member_header(name, len(content)), padding(len(content))
        offset = self.size + len(header)
        self._parts += (header, content, zeros)
        size = len(header) + len(content) + len(zeros)
        self.size += size
        self._unwritten += size
        return offset

    def _write(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            self._file.write(part)

    def _finish_writing(self) -> None:
        """Wait for what the thread writes, and raise what went wrong there."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> ShardDescription:
        """End the archive and make it durable."""
        self._finish_writing()
        self._write([*self._parts, END])
        self._stack.close()
        return ShardDescription(
            name=self.name,
            split=self.split,
            samples=len(self.rows),
            bytes=self._file.checksum.bytes,
            checksum=str(self._file.checksum),
        )

    def abandon(self, error: BaseException) -> None:
        """Leave nothing behind."""
        if self._writing is not None:
            self._writing.exception()
        with suppress(OSError):  # a full disk refuses what is still in the file's buffer
            self._stack.__exit__(type(error), error, error.__traceback__)


class ItemWriter:
    """Writes the samples of one work item into whole shards, in a set's folder `unfinished`."""

    def __init__(self, directory: Directory, item: int, options: ShardOptions) -> None:
        self._directory = directory
        self._item = item
        self._options = options
        self._open: dict[str, OpenShard] = {}
        self._thread = ThreadPoolExecutor(1)
        self._shards: list[WrittenShard] = []
        self._positions: dict[str, int] = {}
        self.bytes = 0

    def write(self, sample: Sample) -> None:
        """Append a sample to the shard of its split.

        Raises `InputError` for an empty id, for one that was written before, and for an image that
        cannot be read or converted.
        """
        position = len(self._positions)
        if not sample.id:
            raise InputError(f"the sample after {position} others has an empty id")
        first = self._positions.setdefault(sample.id, position)
        if first != position:
            raise InputError(
                f"two samples have the id {sample.id!r}: numbers {first} and {position} "
                f"of work item {self._item}, counted from 0; an id is unique in its set"
            )
        stored = convert(sample, self._options.images)
        key, description = member_key(stored.id), stored.to_json()
        size = _space(len(stored.image.data)) + _space(len(description))
        shard = self._shard(stored.split, size)
        shard.add(stored, key, description)
        self.bytes += size

    def _shard(self, split: str, size: int) -> OpenShard:
        """The open shard of a split, with room for `size` more bytes."""
        shard = self._open.get(split)
        if shard is not None and (
            shard.size + size + len(END) > self._options.shard_size
            or len(shard.rows) == self._options.shard_pages
        ):
            self._close(split)
            shard = None
        if shard is None:
            number = sum(written.shard.split == split for written in self._shards)
            stem = f"{UNFINISHED}/{self._item:06d}-{member_key(split)}-{number:04d}"
            shard = self._open[split] = OpenShard(
                self._directory, f"{stem}.tar", split, self._thread
            )
        return shard

    def _close(self, split: str) -> None:
        """Complete a split's open shard and write its part of the index."""
        shard = self._open[split]
        described = shard.close()
        name = described.name.removesuffix(".tar") + ".arrow"
        index = write_index(self._directory, name, [index_batch(shard.rows)])
        self._shards.append(WrittenShard(shard=described, index=index))
        del self._open[split]

    def close(self, account: Account) -> ItemRecord:
        """Complete the shards, then write the record."""
        for split in sorted(self._open):
            self._close(split)
        self._thread.shutdown()
        record = ItemRecord(item=self._item, shards=tuple(self._shards), account=account)
        record.write(self._directory)
        return record

    def abandon(self, error: BaseException) -> None:
        """Leave no open shard behind; those already closed are written again by another try."""
        for shard in self._open.values():
            shard.abandon(error)
        self._thread.shutdown()


def _space(size: int) -> int:
    """Bytes that a member with so much content takes."""
    return BLOCK + size + len(padding(size))


class ShardWriter:
    """Writes a shard set from samples that are handed over one by one.

    Use it in a `with` block; the set is finished when the block ends without an error. To shard a
    `SampleSet`, in parallel and so that it can be resumed, use `florence_data.sharding.shard`.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        options: ShardOptions = DEFAULTS,
        made_from: dict[str, Any] | None = None,
    ) -> None:
        self._directory = open_directory(directory)
        refuse_used(self._directory)
        self._images = options.images
        self._made_from = made_from or {}
        self._item = ItemWriter(self._directory, 0, options)
        self._account = Account()

    def write(self, sample: Sample) -> None:
        """Append a sample. Raises what `ItemWriter.write` raises."""
        self._item.write(sample)
        questions = len(sample.supervisions)
        self._account.rows.read += 1
        self._account.rows.kept += 1
        self._account.questions.read += questions
        self._account.keep_page(questions)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._item.abandon(error)
            return
        record = self._item.close(self._account)
        seal(self._directory, [record], images=self._images, made_from=self._made_from)
