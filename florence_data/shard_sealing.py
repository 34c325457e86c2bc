"""From complete work items to a finished shard set.

While a set is being made, everything lies in its folder `unfinished`: `job.json` says what is being
made; `000003-train-0001.tar` is the second shard of `train` from work item 3,
`000003-train-0001.arrow` its part of the index, and `000003.json` the record that the item is
complete. `seal` joins the index, checks what can only be checked over all items, then gives the
shards their final names, and last moves `dataset.json` to its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.shard_format import (
    DESCRIPTION,
    INDEX,
    UNFINISHED,
    Description,
    FileDescription,
    ImageDescription,
    ShardDescription,
    read_counter,
    shard_name,
)
from florence_data.shard_index import hashed_ids, numbered, read_part, repeated_id, write_index
from florence_data.storage import Directory

SEALING = f"{UNFINISHED}/sealing"
"""Says that shards are being given their final names, so that some are no longer here."""


class WrittenShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that is complete, and its part of the index."""

    shard: ShardDescription
    index: FileDescription


class ItemRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A work item is complete: its shards and its account."""

    item: int
    shards: tuple[WrittenShard, ...]
    account: Account

    @property
    def files(self) -> list[FileDescription]:
        """Every file of the item but the record itself."""
        return [file for written in self.shards for file in (written.shard, written.index)]

    def write(self, directory: Directory) -> None:
        """Write the record into the set's folder `unfinished`."""
        with directory.create(f"{UNFINISHED}/{self.item:06d}.json") as file:
            file.write(msgspec.json.encode(self))

    @classmethod
    def read(cls, directory: Directory, item: int) -> ItemRecord:
        """Read an item's record. Raises `InputError` if there is none that can be read."""
        name = f"{UNFINISHED}/{item:06d}.json"
        try:
            return msgspec.json.decode(directory.read(name), type=cls, dec_hook=read_counter)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{directory.url}/{name}: not an item's record: {error}") from None


def seal(
    directory: Directory,
    records: Sequence[ItemRecord],
    *,
    images: ImageDescription,
    made_from: dict[str, Any],
    job: str = "",
) -> Description:
    """Turn complete work items into a finished set. A seal that was interrupted can be repeated.

    Raises `InputError` if no sample was kept, if two samples of different items have the same id,
    or if the account does not add up.
    """
    account = sum((record.account for record in records), Account())
    _refuse_imbalance(directory, account)
    parts = sorted(
        ((written, record.item) for record in records for written in record.shards),
        key=lambda part: (part[0].shard.split, part[1], part[0].shard.name),
    )
    if not parts:
        directory.remove(UNFINISHED)
        raise InputError(f"{directory.url}: {_why_empty(account)}")
    shards = _named([written.shard for written, _ in parts])
    hashes: list[npt.NDArray[np.uint64]] = []

    def part(number: int) -> pa.RecordBatch:
        return read_part(directory, parts[number][0].index.name)

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(len(parts)):
            rows = part(number)
            hashes.append(hashed_ids(rows))
            yield numbered(rows, number)

    index = write_index(directory, f"{UNFINISHED}/{INDEX}", batches())
    if repeated := repeated_id(hashes, part):
        _refuse_repeated(directory, shards, *repeated)

    names = set(directory.names())
    if SEALING not in names:
        with directory.create(SEALING):
            pass
    for (written, _), final in zip(parts, shards, strict=True):
        if written.shard.name in names:
            directory.rename(written.shard.name, final.name)
    return publish(
        directory, index, shards, account=account, images=images, made_from=made_from, job=job
    )


def publish(
    directory: Directory,
    index: FileDescription,
    shards: Sequence[ShardDescription],
    *,
    account: Account,
    images: ImageDescription,
    made_from: dict[str, Any],
    job: str = "",
    members: Literal["own", "any"] = "own",
) -> Description:
    """Move the index to its place beside the shards, and last write the description."""
    directory.rename(index.name, INDEX)
    description = Description(
        samples=account.pages.kept,
        supervisions=account.questions.kept,
        shards=tuple(shards),
        index=replace(index, name=INDEX),
        images=images,
        account=account,
        made_from=made_from,
        job=job,
        members=members,
    )
    with directory.create(f"{UNFINISHED}/{DESCRIPTION}") as file:
        file.write(description.to_json())
    directory.rename(f"{UNFINISHED}/{DESCRIPTION}", DESCRIPTION)
    directory.remove(UNFINISHED)
    return description


def _named(shards: Sequence[ShardDescription]) -> list[ShardDescription]:
    """The shards, which are sorted by split, under their final names."""
    first: dict[str, int] = {}
    return [
        replace(shard, name=shard_name(shard.split, number - first.setdefault(shard.split, number)))
        for number, shard in enumerate(shards)
    ]


def _why_empty(account: Account) -> str:
    """One line on where all the pages are."""
    reasons = ", ".join(
        f"{count:,} {unit}: {reason}"
        for unit, tally in account.ledgers()
        for reason, count in sorted(tally.dropped.items())
    )
    return (
        f"no page was kept of {account.rows.read:,} rows ({reasons or 'none was dropped'}); "
        "a set holds one or more"
    )


def _refuse_imbalance(directory: Directory, account: Account) -> None:
    for unit, tally in account.ledgers():
        if not tally.balanced:
            raise InputError(
                f"{directory.url}: the account of the {unit} does not add up: {tally.read} read, "
                f"{tally.kept} kept, {tally.dropped.total()} dropped"
            )


def _refuse_repeated(
    directory: Directory,
    shards: Sequence[ShardDescription],
    sample_id: str,
    *places: tuple[int, int],
) -> None:
    one, other = (f"number {row} (in {shards[shard].name})" for row, shard in places)
    raise InputError(
        f"{directory.url}: two samples have the id {sample_id!r}: {one} and {other}; "
        "an id is unique in its set"
    )


def refuse_used(directory: Directory) -> None:
    """Raise `InputError` if a directory holds a shard set already, finished or not."""
    names = directory.names()
    if DESCRIPTION in names:
        raise InputError(
            f"{directory.url}: already holds a shard set ({DESCRIPTION}); choose another directory"
        )
    if any(name.startswith(UNFINISHED + "/") for name in names):
        raise InputError(
            f"{directory.url}: holds an unfinished shard set; continue it with --resume, "
            "or remove the directory"
        )
    for name in names:
        if name.endswith(".tar") or name == INDEX:
            raise InputError(f"{directory.url}: holds {name} already; choose an empty directory")
