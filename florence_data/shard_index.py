"""The index of a shard set: written a shard at a time, and searched for ids that come twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from florence_data.checksum import Checksum, SummedFile
from florence_data.errors import InputError
from florence_data.shard_format import DESCRIPTION, INDEX_SCHEMA, FileDescription
from florence_data.storage import Directory


def index_batch(rows: Iterable[tuple[Any, ...]]) -> pa.RecordBatch:
    """A shard's rows, in the order of `INDEX_SCHEMA`, as Arrow's record batch."""
    columns = list(zip(*rows, strict=True)) or [()] * len(INDEX_SCHEMA)
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)
    ]
    return pa.record_batch(arrays, schema=INDEX_SCHEMA)


def write_index(
    directory: Directory, name: str, batches: Iterable[pa.RecordBatch]
) -> FileDescription:
    """Write batches as they come, and describe the file."""
    with directory.create(name) as file:
        summed = SummedFile(file)
        with pa.ipc.new_file(summed, INDEX_SCHEMA) as index:
            for batch in batches:
                index.write_batch(batch)
    return FileDescription(name=name, bytes=summed.checksum.bytes, checksum=str(summed.checksum))


def read_part(directory: Directory, name: str) -> pa.RecordBatch:
    """The one batch of a shard's own part of the index."""
    return pa.ipc.open_file(directory.read(name)).get_batch(0)


def numbered(batch: pa.RecordBatch, shard: int) -> pa.RecordBatch:
    """A shard's rows, with another number of the shard."""
    column = INDEX_SCHEMA.get_field_index("shard")
    numbers = pa.array(np.full(len(batch), shard, np.int32))
    return batch.set_column(column, INDEX_SCHEMA.field(column), numbers)


def hashed_ids(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """64 bits for each id: all that is kept of it until every id is known."""
    ids = batch.column("id").cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, ids), np.uint64, len(ids))


def repeated_id(
    hashes: Sequence[npt.NDArray[np.uint64]], read: Callable[[int], pa.RecordBatch]
) -> tuple[str, tuple[int, int], tuple[int, int]] | None:
    """An id that comes twice, with (row of the set, shard) of both; None if there is none.

    `hashes` are those of each shard's ids; `read` gives a shard's rows again, where equal hashes
    make it necessary to look at the ids themselves.
    """
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    first: dict[str, tuple[int, int]] = {}
    before = 0
    for shard, of_shard in enumerate(hashes):
        suspected = np.flatnonzero(np.isin(of_shard, suspects)) if len(suspects) else ()
        if len(suspected):
            ids = read(shard).column("id")
            for row in suspected:
                found, place = ids[int(row)].as_py(), (before + int(row), shard)
                if first.setdefault(found, place) != place:
                    return found, first[found], place
        before += len(of_shard)
    return None


def read_index(directory: Directory, expected: FileDescription, samples: int) -> pa.Table:
    """The index of a finished set.

    Raises `InputError` if it is not the file that is described, if it is no Arrow file with the
    columns of `INDEX_SCHEMA`, or if it has another number of rows than the set has samples.
    """
    name = f"{directory.url}/{expected.name}"
    data = directory.read(expected.name)
    if len(data) != expected.bytes or str(Checksum(data)) != expected.checksum:
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
    if len(index) != samples:
        raise InputError(f"{name}: {len(index)} rows, expected {samples}")
    return index
