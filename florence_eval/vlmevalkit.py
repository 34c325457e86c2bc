"""VLMEvalKit's tables of results: TSV, CSV or XLSX with `index`, `question`, `answer`,
`prediction`.

Further columns used: `A`, `B`, `C` … are the choices of a multiple-choice question, and are added
to the question's text, one a line; `image_path` names the picture; `category` is the question's
type. `answer` may be a list written as a Python literal. Empty rows are no questions.
"""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from florence_eval.errors import InputError, quoted
from florence_eval.lmms_eval import literal_answers
from florence_eval.predictions import OPTIONAL, Unreadable

KEYS = {"question_id": "index", "answers": "answer"}
SUFFIXES = (".tsv", ".csv", ".xlsx")


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.suffix.lower() in SUFFIXES


def records(path: Path, content: bytes) -> Iterator[tuple[int, Any]]:
    """Each row, numbered as in a spreadsheet (the header is row 1), with our keys. Raises
    `InputError`."""
    rows = _spreadsheet(path) if path.suffix.lower() == ".xlsx" else _delimited(path, content)
    header = [str(cell) for cell in next(rows, ())]
    absent = [key for key in ("index", "answer", "prediction") if key not in header]
    if absent:
        raise InputError(
            f"{path}: no column {', '.join(absent)}; index, answer and prediction are required"
        )
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise InputError(f"{path}: the column {quoted(repeated[0])} is there twice")
    for number, cells in enumerate(rows, 2):
        if not any(str(cell).strip() for cell in cells):
            continue
        if len(cells) != len(header):
            yield number, Unreadable("another number of cells than the header has")
        else:
            yield number, _record(dict(zip(header, cells, strict=True)))


def _record(row: dict[str, Any]) -> dict[str, Any]:
    choices = [f"{letter}. {row[letter]}" for letter in string.ascii_uppercase if row.get(letter)]
    question = _text(row.get("question"))
    further = {key: value for key, value in row.items() if key not in OPTIONAL}
    return {
        **further,
        "question_id": row["index"],
        "prediction": row["prediction"],
        "answers": literal_answers(row["answer"]),
        "question": "\n".join([question or "", *choices]) if choices else question,
        "image": _text(row.get("image_path")),
        "doc_id": _text(row.get("doc_id")),
        "source": _text(row.get("source")),
        "question_types": _text(row.get("category")),
    }


def _text(cell: Any) -> str | None:
    """A cell as text; None for an empty one, and where the table has no such column."""
    return None if cell is None or cell == "" else str(cell)


def _delimited(path: Path, content: bytes) -> Iterator[Sequence[Any]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: invalid UTF-8; UTF-8 text is accepted") from None
    # Pictures are sometimes kept in a column, as base64.
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a table: {error}") from None


def _spreadsheet(path: Path) -> Iterator[Sequence[Any]]:
    try:
        load_workbook = import_module("openpyxl").load_workbook
    except ImportError:
        raise InputError(
            f"{path}: reading XLSX needs the package openpyxl; install florence-docs[metrics], or "
            "save the table as TSV"
        ) from None
    try:
        sheet = load_workbook(path, read_only=True, data_only=True).active
        rows = sheet.iter_rows(values_only=True)
        header = [_text(cell) or "" for cell in next(rows)]
    except Exception as error:
        raise InputError(f"{path}: not an XLSX table: {error}") from None
    yield header
    for row in rows:
        # A row may lack its last cells, or have some beyond the header's: formats, notes.
        cells = [*row, *[None] * len(header)][: len(header)]
        yield ["" if cell is None else cell for cell in cells]
