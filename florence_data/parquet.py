"""Rows of parquet files, a few at a time, so that images never pile up in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from florence_data import storage
from florence_data.errors import InputError

Positions = Sequence[int] | npt.NDArray[np.int64]

ROWS_AT_ONCE = 16
"""How many rows are decoded at a time: with an image a row, this bounds the memory."""

STREAM_BUFFER = 1 << 20
"""Bytes read ahead of the decoder; without it a row group's whole column is held in memory."""


@dataclass(frozen=True)
class RowGroup:
    """Some rows of one file that parquet stores together."""

    url: str
    index: int
    rows: int


@dataclass(frozen=True)
class ParquetRows:
    """The rows of several parquet files as one sequence. Picklable: files are opened to read."""

    groups: tuple[RowGroup, ...]

    @classmethod
    def open(cls, urls: Sequence[str], required: Sequence[str]) -> ParquetRows:
        """Read the footers of the files.

        Raises `InputError` for a file that is not parquet or lacks a required column.
        """
        groups = []
        for url in urls:
            with _open_file(url) as file:
                names = file.schema_arrow.names
                if missing := [name for name in required if name not in names]:
                    raise InputError(
                        f"{url}: columns missing: {', '.join(missing)}; found: "
                        f"{', '.join(names)}; needed: {', '.join(required)}"
                    )
                for index in range(file.num_row_groups):
                    rows = file.metadata.row_group(index).num_rows
                    groups.append(RowGroup(url, index, rows))
        if not any(group.rows for group in groups):
            raise InputError(f"{urls[0]}: no rows in {len(urls)} parquet files; expected some")
        return cls(tuple(groups))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(group.rows for group in self.groups))

    def __len__(self) -> int:
        return self._ends[-1]

    def version(self) -> str:
        """A text that is another one where a file was changed."""
        return "; ".join(map(storage.version, dict.fromkeys(group.url for group in self.groups)))

    def take(self, positions: Positions, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows at ascending positions, with the given columns as Python values.

        Row groups without any of them are not read; of the others, only the given columns are, and
        `ROWS_AT_ONCE` rows are held at a time. A column that a file lacks is absent from its rows.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        ends = np.array(self._ends)
        stops = np.searchsorted(wanted, ends)
        starts = np.concatenate(([0], stops[:-1]))
        touched = np.flatnonzero(stops > starts)
        for url, indices in groupby(touched, lambda index: self.groups[index].url):
            with _open_file(url) as file:
                present = [name for name in columns if name in file.schema_arrow.names]
                for index in indices:
                    group = self.groups[index]
                    offsets = wanted[starts[index] : stops[index]] - (ends[index] - group.rows)
                    yield from _take_from_group(file, group, offsets, present)

    def column_texts(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns as text, empty for null; for planning, so light ones only."""
        tables = []
        for url in dict.fromkeys(group.url for group in self.groups):
            with _open_file(url) as file:
                table = _readable(url, lambda file=file: file.read(columns=list(columns)))
            texts = [pc.fill_null(table[name].cast(pa.string()), "") for name in columns]
            tables.append(pa.table(texts, names=list(columns)))
        return pa.concat_tables(tables)


def _take_from_group(
    file: pq.ParquetFile, group: RowGroup, offsets: npt.NDArray[np.int64], columns: list[str]
) -> Iterator[dict[str, Any]]:
    batches = file.iter_batches(
        ROWS_AT_ONCE, row_groups=[group.index], columns=columns, use_threads=False
    )
    first = 0
    while first <= offsets[-1]:
        batch = _readable(group.url, lambda: next(batches))
        begin, end = np.searchsorted(offsets, [first, first + batch.num_rows])
        yield from batch.take(pa.array(offsets[begin:end] - first)).to_pylist()
        first += batch.num_rows


def _open_file(url: str) -> pq.ParquetFile:
    filesystem, path = fsspec.core.url_to_fs(url)
    return _readable(url, lambda: pq.ParquetFile(filesystem.open(path), buffer_size=STREAM_BUFFER))


def _readable(url: str, read: Any) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{url}: not a parquet file that can be read ({reason})") from None
