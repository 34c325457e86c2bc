"""VLMEvalKit's tables of results: TSV, CSV or XLSX with `index`, `question`, `answer`,
`prediction`.

Further columns used: `A`, `B`, `C` … are the choices of a multiple-choice question, and are added
to the question's text, one a line; `image_path` names the picture; `category` is the question's
type. `answer` may be a list written as a Python literal.
"""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from florence_eval.errors import InputError
from florence_eval.lmms_eval import literal_answers
from florence_eval.predictions import Unreadable

KEYS = {"question_id": "index", "answers": "answer"}
SUFFIXES = (".tsv", ".csv", ".xlsx")


def records(path: Path, content: bytes) -> Iterator[tuple[int, Any]]:
    """Each row, numbered as in a spreadsheet (the header is row 1), with our keys. Raises
    `InputError`."""
    rows = _spreadsheet(path) if path.suffix == ".xlsx" else _delimited(path, content)
    for number, row in enumerate(rows, 2):
        if number == 2:
            absent = [key for key in ("index", "answer", "prediction") if key not in row]
            if absent:
                raise InputError(
                    f"{path}: no column {', '.join(absent)}; index, answer and prediction are "
                    "required"
                )
        if None in row or None in row.values():
            yield number, Unreadable("another number of cells than the header has")
        else:
            yield number, _record(row)


def _record(row: dict[str, Any]) -> dict[str, Any]:
    choices = [f"{letter}. {row[letter]}" for letter in string.ascii_uppercase if row.get(letter)]
    question = row.get("question")
    return {
        **row,
        "question_id": row["index"],
        "prediction": row["prediction"],
        "answers": literal_answers(row["answer"]),
        "question": "\n".join([str(question or ""), *choices]) if choices else question,
        "image": row.get("image_path"),
        "question_types": row.get("category"),
    }


def _delimited(path: Path, content: bytes) -> Iterator[dict[Any, Any]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: invalid UTF-8; UTF-8 text is accepted") from None
    # Pictures are sometimes kept in a column, as base64.
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ","
    )
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not a table: {error}") from None


def _spreadsheet(path: Path) -> Iterator[dict[Any, Any]]:
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
        header = [str(cell) for cell in next(rows)]
    except Exception as error:
        raise InputError(f"{path}: not an XLSX table: {error}") from None
    for row in rows:
        yield dict(zip(header, ("" if cell is None else cell for cell in row), strict=False))
