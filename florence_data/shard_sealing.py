"""From complete work items to a finished shard set.

While a set is being made, everything lies in its folder `unfinished`: `job.json` says what is being
made; `000003-train-0001.tar` is the second shard of `train` from work item 3, `000003.arrow` that
item's part of the index, and `000003.json` the record that it is complete. `seal` checks what can
only be checked over all items, then gives the shards their final names, and last moves
`dataset.json` to its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.shard_format import (
    DESCRIPTION,
    INDEX,
    INDEX_SCHEMA,
    UNFINISHED,
    Description,
    FileDescription,
    ImageDescription,
    ShardDescription,
    read_counter,
    shard_name,
)
from florence_data.storage import Directory

SEALING = f"{UNFINISHED}/sealing"
"""Says that shards are being given their final names, so that some are no longer here."""


class ItemRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A work item is complete: its shards, its part of the index, and its account."""

    item: int
    shards: tuple[ShardDescription, ...]
    index: FileDescription
    account: Account

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


def index_table(rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    """Rows, in the order of `INDEX_SCHEMA`, as an Arrow table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(INDEX_SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)],
        schema=INDEX_SCHEMA,
    )


def write_index(directory: Directory, name: str, index: pa.Table) -> FileDescription:
    """Write an index as one record batch, and describe the file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, INDEX_SCHEMA) as file:
        file.write_table(index.combine_chunks())
    content = sink.getvalue()
    with directory.create(name) as file:
        file.write(content)
    return FileDescription(
        name=name, bytes=content.size, sha256=hashlib.sha256(content).hexdigest()
    )


def seal(
    directory: Directory,
    records: Sequence[ItemRecord],
    *,
    images: ImageDescription,
    made_from: dict[str, Any],
    job: str = "",
) -> Description:
    """Turn complete work items into a finished set. A seal that was interrupted can be repeated.

    Raises `InputError` if two samples of different items have the same id, or if the account does
    not add up.
    """
    account = sum((record.account for record in records), Account())
    _refuse_imbalance(directory, account)
    parts = sorted(
        ((shard, record) for record in records for shard in record.shards),
        key=lambda part: (part[0].split, part[1].item, part[0].name),
    )
    shards = _named([shard for shard, _ in parts])
    index = _joined_index(directory, parts)
    _refuse_repeated_ids(directory, index, shards)

    names = set(directory.names())
    if SEALING not in names:
        with directory.create(SEALING):
            pass
    for (shard, _), final in zip(parts, shards, strict=True):
        if shard.name in names:
            directory.rename(shard.name, final.name)
    return publish(
        directory, index, shards, account=account, images=images, made_from=made_from, job=job
    )


def publish(
    directory: Directory,
    index: pa.Table,
    shards: Sequence[ShardDescription],
    *,
    account: Account,
    images: ImageDescription,
    made_from: dict[str, Any],
    job: str = "",
    members: Literal["own", "any"] = "own",
) -> Description:
    """Write the index and, last, the description of shards that are in their place."""
    written = write_index(directory, f"{UNFINISHED}/{INDEX}", index)
    directory.rename(written.name, INDEX)
    description = Description(
        samples=len(index),
        supervisions=pc.sum(index["supervisions"]).as_py() or 0,
        shards=tuple(shards),
        index=replace(written, name=INDEX),
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


def _joined_index(
    directory: Directory, parts: Sequence[tuple[ShardDescription, ItemRecord]]
) -> pa.Table:
    """The index of the whole set; an item's part counts its shards from 0."""
    column = INDEX_SCHEMA.get_field_index("shard")
    tables = [index_table(())]
    of_items = {
        record.item: pa.ipc.open_file(directory.read(record.index.name)).read_all()
        for _, record in parts
    }
    for number, (shard, record) in enumerate(parts):
        before = record.shards[: record.shards.index(shard)]
        table = of_items[record.item].slice(sum(s.samples for s in before), shard.samples)
        numbers = pa.array([number] * len(table), INDEX_SCHEMA.field(column).type)
        tables.append(table.set_column(column, INDEX_SCHEMA.field(column), numbers))
    return pa.concat_tables(tables)


def _refuse_imbalance(directory: Directory, account: Account) -> None:
    for unit, tally in account.ledgers():
        if not tally.balanced:
            raise InputError(
                f"{directory.url}: the account of the {unit} does not add up: {tally.read} read, "
                f"{tally.kept} kept, {tally.dropped.total()} dropped"
            )


def _refuse_repeated_ids(
    directory: Directory, index: pa.Table, shards: Sequence[ShardDescription]
) -> None:
    counts = pc.value_counts(index["id"])
    if len(counts) == len(index):
        return
    repeated = next(count["values"].as_py() for count in counts if count["counts"].as_py() > 1)
    rows = pc.indices_nonzero(pc.equal(index["id"], repeated)).to_pylist()
    places = [f"number {row} (in {shards[index['shard'][row].as_py()].name})" for row in rows]
    raise InputError(
        f"{directory.url}: two samples have the id {repeated!r}: {places[0]} and {places[1]}; "
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
