"""A person's own pages: scans, photographs or PDF files in a folder, and a table of questions.

The table is CSV, JSON lines or parquet, in one of two forms. Long: one question a row, with columns
for the file, the question and its answers. Wide, as spreadsheets of scans usually are: one page a
row and one fact a column, each with the question that asks for it. A spreadsheet's own format is
not read: there a cell shown as 33.90 is the number 33.9, and a CSV has what is shown.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from florence_data.errors import InputError
from florence_data.page_image import PageImage
from florence_data.parquet import ParquetRows
from florence_data.question_table import Columns, QuestionPages, Records, Table, text
from florence_data.sample_set import SampleSet


def folder(
    source: str,
    table: str | None = None,
    image_column: str = "image",
    page_column: str | None = None,
    question_column: str = "question",
    answer_column: str | None = "answer",
    answer_separator: str | None = None,
    ask: tuple[str, ...] = (),
    id_column: str | None = None,
    document_column: str | None = None,
    type_column: str | None = None,
    pdf_dpi: int = 150,
    name: str = "folder",
    split: Literal["train", "validation", "test"] = "train",
) -> SampleSet:
    """A person's own pages: a folder of images or PDFs and a table of questions; one sample a page.

    Args:
        source: The folder of the images; the table names them relative to it.
        table: The table: .csv, .tsv, .jsonl or .parquet; the only such file in the folder if not
            given.
        image_column: The column with the file of the page.
        page_column: The column with the page of a PDF, from 1.
        question_column: The column with the question.
        answer_column: The column with the answer, or a list of accepted answers; None if there are
            none, to predict only. A row without an answer is dropped.
        answer_separator: What separates several accepted answers in one cell, such as `|`.
        ask: For a table of one page a row: COLUMN=QUESTION for each column whose cells answer a
            question, instead of the question and answer columns.
        id_column: The column with the question's id; numbered within the page if not given.
        document_column: The column with the document that the page belongs to; a page's file if not
            given. Scores resample whole documents.
        type_column: The column with the question's type, or a list of them.
        pdf_dpi: Pixels an inch for rendering PDF pages.
        name: What the samples give as their source.
        split: What the samples give as their split.
    """
    directory = Path(source)
    if not directory.is_dir():
        raise InputError(f"{source}: no such directory; expected the folder of the images")
    path = Path(table) if table else _only_table(directory)
    page = (image_column,) if page_column is None else (image_column, page_column)
    document = document_column or image_column
    questions = dict(map(_parse_question, ask))
    rows: Table
    if questions:
        if id_column or type_column:
            raise InputError(
                "ask makes several questions of a row; it takes no id column and no type column"
            )
        wide = _read_table(path, (*page, document, *questions))
        rows = _one_question_a_row(wide, (*page, document), questions)
        columns = Columns(page, "question", "answer", None, "asked", document)
    else:
        columns = Columns(page, question_column, answer_column, id_column, type_column, document)
        rows = _read_table(path, columns.named)
    columns = replace(columns, answer_separator=answer_separator)
    image = PageImage(image_column, source, page_column, pdf_dpi)
    _check_files(rows, image, path)
    return SampleSet(
        QuestionPages.plan(rows, columns, image, name, split, columns.answers is not None)
    )


def _only_table(directory: Path) -> Path:
    found = sorted(path for path in directory.iterdir() if path.suffix.lower() in READERS)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{directory}: one table of questions is expected here, or one given with --table; "
            f"found {names}; accepted are {', '.join(READERS)}"
        )
    return found[0]


def _read_table(path: Path, required: tuple[str, ...]) -> Table:
    """The table; raises `InputError` if it cannot be read or lacks a column."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: a table in {', '.join(READERS)} is accepted; save a spreadsheet as CSV"
        )
    try:
        table = reader(path, required)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    if not len(table):
        raise InputError(f"{path}: no rows; expected one a question, or one a page with --ask")
    if isinstance(table, Records):
        found = dict.fromkeys(name for row in table.rows for name in row)
        if missing := [name for name in required if name not in found]:
            raise InputError(
                f"{path}: no column {', '.join(dict.fromkeys(missing))}; found {', '.join(found)}; "
                "say what yours are called with --image-column, --question-column and so on"
            )
    return table


def _read_csv(path: Path, _: tuple[str, ...]) -> Records:
    """Commas, or what the header line shows: semicolons (Excel in much of Europe) or tabs."""
    content = path.read_text(encoding="utf-8-sig")
    header = content.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    records = []
    try:
        for row in rows:
            if None in row:
                raise csv.Error(f"more cells than the header's {len(rows.fieldnames or ())}")
            records.append(row)
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}") from None
    return Records(records)


def _read_jsonl(path: Path, _: tuple[str, ...]) -> Records:
    records = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}: line {number}: not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number}: expected an object, found {line[:40]!r}")
            records.append(row)
    return Records(records)


def _read_parquet(path: Path, required: tuple[str, ...]) -> ParquetRows:
    return ParquetRows.open([str(path)], required)


READERS: dict[str, Callable[[Path, tuple[str, ...]], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _parse_question(specification: str) -> tuple[str, str]:
    column, equals, question = specification.partition("=")
    if not equals or not column.strip() or not question.strip():
        raise InputError(
            f"ask: {specification!r}; expected COLUMN=QUESTION, such as "
            "'total=What is the total amount?'"
        )
    return column.strip(), question.strip()


def _one_question_a_row(
    table: Table, kept: tuple[str, ...], questions: Mapping[str, str]
) -> Records:
    """A long table of a wide one: for each of its rows, one row a question."""
    rows = table.take(range(len(table)), (*kept, *questions))
    return Records(
        [
            {
                **{name: row.get(name) for name in kept},
                "question": question,
                "answer": row.get(column),
                "asked": column,
            }
            for row in rows
            for column, question in questions.items()
        ]
    )


def _check_files(table: Table, image: PageImage, path: Path) -> None:
    """Raise `InputError` if none of the named files is there: the column or folder is wrong."""
    cells = []
    for row in table.take(range(len(table)), (image.column,)):
        cell = row[image.column]
        if isinstance(cell, bytes | Mapping):
            raise InputError(
                f"{path}: column {image.column} holds images; this recipe reads tables that name "
                "files"
            )
        if text(cell) and Path(image.path(text(cell))).is_file():
            return
        cells.append(text(cell))
    raise InputError(
        f"{path}: none of the files in column {image.column} is in {image.directory}, for example "
        f"{cells[0]!r}; expected names relative to it"
    )
