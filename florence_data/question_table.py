"""Tables of one question a row, grouped into one sample a page.

Document question sets are published so: the page's image is repeated, or named again, in the row of
each of its questions. The pages are planned from the columns that name them, without touching an
image; then each image is read once, from the row that comes first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from florence_data.account import Account
from florence_data.drop import DropError
from florence_data.page_image import PageImage
from florence_data.parquet import Positions
from florence_data.sample import Sample, Supervision

Row = Mapping[str, Any]

PAGES_AT_ONCE = 1024
"""How many pages' questions are held at a time."""


class Table(Protocol):
    """Rows that can be read by position; `ParquetRows` is one. Picklable."""

    def __len__(self) -> int: ...

    def take(self, positions: Positions, columns: Sequence[str]) -> Iterator[Row]:
        """The rows at ascending positions, with the given columns where there are such."""
        ...

    def column_texts(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns as text, empty for null."""
        ...


@dataclass(frozen=True)
class Records:
    """A table that is already in memory."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def version(self) -> str:
        """A text that is another one where a row is another one."""
        return hashlib.sha256(repr(self.rows).encode()).hexdigest()

    def take(self, positions: Positions, columns: Sequence[str]) -> Iterator[Row]:
        for position in positions:
            row = self.rows[position]
            yield {name: row[name] for name in columns if name in row}

    def column_texts(self, columns: Sequence[str]) -> pa.Table:
        return pa.table({name: [text(row.get(name)) for row in self.rows] for name in columns})


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; the cells of `page` together name a page.

    An `answers` cell is a list, one value, several with `answer_separator` between them, or empty.
    Without a `document` column every page is its own document, and without `question_id` questions
    are numbered within the page.
    """

    page: tuple[str, ...]
    question: str
    answers: str | None
    question_id: str | None = None
    question_types: str | None = None
    document: str | None = None
    metadata: tuple[str, ...] = ()
    answer_separator: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """All of them, each once."""
        optional = (self.answers, self.question_id, self.question_types, self.document)
        named = (*self.page, self.question, *optional, *self.metadata)
        return tuple(dict.fromkeys(name for name in named if name is not None))


@dataclass(frozen=True)
class QuestionPages:
    """The pages of a table as a source of samples.

    `order` holds the table's positions page after page, and page i has
    `order[starts[i]:starts[i + 1]]`. A question without an answer is dropped if `needs_answers`.
    """

    table: Table
    columns: Columns
    image: PageImage
    source: str
    split: str
    needs_answers: bool
    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    @classmethod
    def plan(
        cls,
        table: Table,
        columns: Columns,
        image: PageImage,
        source: str,
        split: str,
        needs_answers: bool,
    ) -> QuestionPages:
        """Group the rows by page, in the order in which the pages first appear."""
        names = table.column_texts(columns.page).columns
        encoded = pc.binary_join_element_wise(*names, "\x1f").dictionary_encode().combine_chunks()
        page_of_row = encoded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(page_of_row, kind="stable")
        starts = np.searchsorted(page_of_row[order], np.arange(len(encoded.dictionary) + 1))
        return cls(table, columns, image, source, split, needs_answers, order, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples of pages `start` to `stop - 1`, each image read once."""
        first_rows = self.order[self.starts[start:stop]]
        image_rows = self.table.take(first_rows, self.image.columns)
        for page in range(start, stop, PAGES_AT_ONCE):
            for rows in self._questions(page, min(page + PAGES_AT_ONCE, stop)):
                sample = self._sample(rows, next(image_rows), account)
                if sample is not None:
                    yield sample

    def _questions(self, start: int, stop: int) -> Iterator[list[Row]]:
        """The rows of each page, without its image."""
        bounds = self.starts[start : stop + 1]
        wanted = self.order[bounds[0] : bounds[-1]]
        ascending = np.sort(wanted)
        rows = dict(
            zip(ascending.tolist(), self.table.take(ascending, self.columns.named), strict=True)
        )
        for begin, end in pairwise((bounds - bounds[0]).tolist()):
            yield [rows[position] for position in wanted[begin:end].tolist()]

    def _sample(self, rows: list[Row], image_row: Row, account: Account) -> Sample | None:
        columns = self.columns
        account.rows.read += len(rows)
        account.questions.read += len(rows)
        page = "_".join(filter(None, (text(rows[0].get(name)) for name in columns.page)))
        sample_id = page_id(page)
        supervisions = []
        for number, row in enumerate(rows):
            supervision = self._supervision(row, f"{sample_id}_{number}")
            if not supervision.question:
                _drop(account, "empty question")
            elif not supervision.answers and self.needs_answers:
                _drop(account, "empty answer")
            else:
                supervisions.append(supervision)
        if not supervisions:
            return None
        try:
            image = self.image.read(image_row, f"{self.source} {page}")
        except DropError as reason:
            _drop(account, str(reason), len(supervisions))
            return None
        account.rows.kept += len(supervisions)
        return Sample(
            id=sample_id,
            source=self.source,
            split=self.split,
            doc_id=text(rows[0].get(columns.document)) if columns.document else sample_id,
            image=image,
            supervisions=tuple(supervisions),
        )

    def _supervision(self, row: Row, number: str) -> Supervision:
        columns = self.columns
        metadata = {name: row[name] for name in columns.metadata if row.get(name) is not None}
        if columns.question_types:
            metadata["question_types"] = texts(row.get(columns.question_types))
        answers = row.get(columns.answers) if columns.answers else None
        if columns.answer_separator and isinstance(answers, str):
            answers = answers.split(columns.answer_separator)
        return Supervision(
            id=text(row.get(columns.question_id)) if columns.question_id else number,
            question=text(row.get(columns.question)),
            answers=tuple(texts(answers)),
            metadata=metadata,
        )


def page_id(name: str) -> str:
    """A short ASCII id for a page of that name: the name itself where it is one already.

    What is not, is made readable and told apart by eight digits of the name's SHA-256.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:64]
    if readable == name and name:
        return name
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def text(cell: Any) -> str:
    """A cell as stripped text; an empty one is the empty string."""
    return "" if cell is None else str(cell).strip()


def texts(cell: Any) -> list[str]:
    """A cell as texts: a list's values, or the one value there is, without empty ones."""
    values = cell if isinstance(cell, list | tuple) else [cell]
    return [value for value in map(text, values) if value]


def _drop(account: Account, reason: str, count: int = 1) -> None:
    account.rows.drop(reason, count)
    account.questions.drop(reason, count)
