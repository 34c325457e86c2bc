"""From a file or a DataFrame to predictions that can be scored: format, references, ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from florence_eval import arrow_text, frames, jsonl, lmms_eval, rrc, vlmevalkit
from florence_eval.errors import InputError, quoted
from florence_eval.predictions import (
    OPTIONAL,
    REQUIRED,
    OnBadLine,
    OnMissing,
    Predictions,
    Source,
    Unreadable,
    from_lists,
    from_records,
)

if TYPE_CHECKING:
    import pandas as pd

_TRUTH_KEY = re.compile(rb'"(?:dataset_name|data)"\s*:')


def read(
    predictions: Path | pd.DataFrame,
    references: Path | pd.DataFrame | None = None,
    *,
    columns: Sequence[str] = (),
    on_missing: OnMissing = "error",
    on_bad_line: OnBadLine = "error",
) -> Predictions:
    """Predictions of which every one has answers, and every id is there once. Raises `InputError`.

    A path's format is told by its name and beginning: RRC submission (a JSON array), lmms-eval
    sample log, VLMEvalKit table (.tsv, .csv, .xlsx), else the project's own JSONL. References are
    an RRC ground truth, own JSONL or any of the others; their answers win over those within.
    """
    truth = jsonl.read_bytes(references) if isinstance(references, Path) else b""
    known = None if references is None else _references(references, truth, columns)
    if isinstance(predictions, Path):
        content = jsonl.read_bytes(predictions)
        read = _read_file(predictions, content, columns, on_bad_line)
        if known is not None and _is_array(content) and _is_ground_truth(truth):
            rrc.check_id_types(content, truth, str(predictions))
    else:
        read = frames.parse_predictions(predictions, "predictions", columns, on_bad_line)
    _check_unique(read)
    if known is not None:
        name = str(references) if isinstance(references, Path) else "the references"
        return _joined(read, known, name, on_missing)
    answers = read.column("answers")
    if answers.null_count:
        row = answers.is_null().index(True).as_py()
        raise InputError(
            f"{read.place(row)}: question {quoted(read.column('question_id')[row].as_py())} has no "
            "answers; put them in the file or give a file of references"
        )
    return read


def _check_unique(predictions: Predictions) -> None:
    """Raises `InputError` where an id is there twice."""
    ids = predictions.column("question_id")
    if not arrow_text.all_differ(ids):
        rows: dict[str, int] = {}
        for row, identity in enumerate(ids.to_pylist()):
            if identity in rows:
                raise InputError(
                    f"{predictions.place(row)}: question_id {quoted(identity)} is there twice, "
                    f"first in {predictions.source.unit} {predictions.numbers[rows[identity]]}; "
                    "one prediction a question is accepted"
                )
            rows[identity] = row


def _read_file(
    path: Path, content: bytes, columns: Sequence[str], on_bad_line: OnBadLine
) -> Predictions:
    name = str(path)
    if vlmevalkit.is_table(path):
        found = vlmevalkit.records(path, content)
        source = Source(name, "row", vlmevalkit.KEYS)
    elif _is_array(content):
        found = rrc.submission_records(content, name)
        source = Source(name, "item", rrc.SUBMISSION_KEYS)
    elif _is_sample_log(content):
        found = lmms_eval.records(content)
        source = Source(name, "line", lmms_eval.KEYS)
    else:
        return jsonl.parse_predictions(content, name, columns=columns, on_bad_line=on_bad_line)
    return from_records(found, source, columns=columns, on_bad_line=on_bad_line)


def _is_array(content: bytes) -> bool:
    return content.lstrip()[:1] == b"["


def _is_ground_truth(content: bytes) -> bool:
    """Whether a file is one JSON object with a key of RRC's; one over several lines may be broken,
    and is meant as one all the same."""
    first = _first_record(content)
    if isinstance(first, dict):
        return "question_id" not in first and ("dataset_name" in first or "data" in first)
    return isinstance(first, Unreadable) and _TRUTH_KEY.search(content) is not None


def _is_sample_log(content: bytes) -> bool:
    return lmms_eval.is_sample(_first_record(content))


def _first_record(content: bytes) -> Any:
    start = content.lstrip()
    end = start.find(b"\n")
    first = start if end < 0 else start[:end]
    return next((record for _, record in jsonl.records(first)), None)


def _references(
    references: Path | pd.DataFrame, content: bytes, columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What the references say by question_id: a record with the keys of a prediction."""
    if isinstance(references, Path):
        found, source = _reference_records(references, content)
    else:
        source = Source("references", "row")
        found = frames.records(references, source.name, columns)
    said: dict[str, dict[str, Any]] = {}
    for number, record in found:
        problem = _reference_problem(record, source)
        if problem is None and str(record["question_id"]) in said:
            problem = f"question_id {quoted(str(record['question_id']))} is there twice"
        if problem is not None:
            raise InputError(f"{source.at(number)}: {problem}")
        keys = (*OPTIONAL, *columns)
        said[str(record["question_id"])] = {key: record.get(key) for key in keys}
    if not said:
        raise InputError(f"{source.name}: references are expected, found none")
    return said


def _reference_records(path: Path, content: bytes) -> tuple[Iterator[tuple[int, Any]], Source]:
    name = str(path)
    if vlmevalkit.is_table(path):
        return vlmevalkit.records(path, content), Source(name, "row", vlmevalkit.KEYS)
    if _is_array(content):
        raise InputError(
            f"{name}: an array at the root is a submission; a ground truth (an object with "
            "dataset_name and data) or one object a line is accepted as references"
        )
    if _is_sample_log(content):
        return lmms_eval.records(content), Source(name, "line", lmms_eval.KEYS)
    if _is_ground_truth(content):
        return rrc.truth_records(content, name), Source(name, "item", rrc.TRUTH_KEYS)
    return jsonl.records(content), Source(name)


def _reference_problem(record: Any, source: Source) -> str | None:
    if isinstance(record, Unreadable):
        return record
    problem = source.problem(record, ("question_id", "answers"))
    if problem is None and record["answers"] is None:
        return "answers: an array of strings is expected, found null"
    return problem


def _joined(
    read: Predictions,
    references: dict[str, dict[str, Any]],
    references_name: str,
    on_missing: OnMissing,
) -> Predictions:
    """The predictions with the references' answers, and what else only the references say."""
    cells = {key: read.column(key).to_pylist() for key in read.rows.column_names}
    ids = cells["question_id"]
    extra = [row for row, identity in enumerate(ids) if identity not in references]
    if extra:
        raise InputError(
            f"{read.place(extra[0])}: {_some([ids[row] for row in extra])} not in "
            f"{references_name}; predictions for exactly its {len(references)} questions are "
            "accepted"
        )
    answered = set(ids)
    absent = [identity for identity in references if identity not in answered]
    if absent and on_missing == "error":
        raise InputError(
            f"{read.source.name}: no prediction for {_some(absent)} of {references_name}; predict "
            "them, or score them 0 with on_missing zero"
        )
    missing = tuple(range(len(ids), len(ids) + len(absent)))
    unsaid = {"question_id": absent, "prediction": [""] * len(absent)}
    for key, found in cells.items():
        found += unsaid.get(key, [None] * len(absent))
    said = [references[identity] for identity in ids]
    for key, mine in cells.items():
        if key == "answers":
            cells[key] = [record[key] for record in said]
        elif key not in REQUIRED:
            theirs = (record[key] for record in said)
            cells[key] = [own or other for own, other in zip(mine, theirs, strict=True)]
    return from_lists(cells, read.source, read.numbers, missing, read.skipped)


def _some(ids: list[str]) -> str:
    """Some ids in words, at most three of them by name."""
    named = ", ".join(map(quoted, ids[:3]))
    return f"question {named}" if len(ids) <= 3 else f"question {named} and {len(ids) - 3} more"
