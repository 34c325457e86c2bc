"""From a file or a DataFrame to predictions that can be scored: format, references, ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from florence_eval import frames, jsonl, lmms_eval, rrc, vlmevalkit
from florence_eval.errors import InputError
from florence_eval.predictions import (
    OnBadLine,
    OnMissing,
    Predictions,
    Source,
    Unreadable,
    from_lists,
    from_records,
    labels,
    optional_id,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Reference:
    """What a file of references says about one question."""

    answers: list[str]
    question: str | None
    image: str | None
    doc_id: str | None
    source: str | None
    question_types: list[str]


def read(
    predictions: Path | pd.DataFrame,
    references: Path | None = None,
    *,
    columns: Sequence[str] = (),
    on_missing: OnMissing = "error",
    on_bad_line: OnBadLine = "error",
) -> Predictions:
    """Predictions of which every one has answers, and every id is there once. Raises `InputError`.

    A path's format is told by its name and beginning: RRC submission (a JSON array), lmms-eval
    sample log, VLMEvalKit table (.tsv, .csv, .xlsx), else the project's own JSONL. References are
    an RRC ground truth, own JSONL or any of the others; those of the file win over those within.
    """
    truth = b"" if references is None else jsonl.read_bytes(references)
    known = None if references is None else _references(references, truth)
    if isinstance(predictions, Path):
        content = jsonl.read_bytes(predictions)
        name = str(predictions)
        read = _read_file(predictions, content, columns, on_bad_line)
        if known is not None and _is_array(content) and _is_ground_truth(truth):
            rrc.check_id_types(content, truth, name)
    else:
        name = "predictions"
        read = frames.parse_predictions(predictions, name, columns, on_bad_line)
    check_unique(read.column("question_id"), name)
    if known is not None:
        return _joined(read, name, known, str(references), on_missing)
    answers = read.column("answers")
    if answers.null_count:
        row = answers.is_null().index(True).as_py()
        raise InputError(
            f"{name}: question {read.column('question_id')[row].as_py()!r} has no answers; put "
            "them in the file or give a file of references"
        )
    return read


def check_unique(ids: pa.Array, name: str) -> None:
    """Raises `InputError` where an id is there twice."""
    if len(ids.unique()) < len(ids):
        places: dict[str, int] = {}
        for place, identity in enumerate(ids.to_pylist(), 1):
            if identity in places:
                raise InputError(
                    f"{name}: question_id {identity!r} is there twice, as prediction "
                    f"{places[identity]} and {place}; one prediction a question is accepted"
                )
            places[identity] = place


def _read_file(
    path: Path, content: bytes, columns: Sequence[str], on_bad_line: OnBadLine
) -> Predictions:
    name = str(path)
    if path.suffix in vlmevalkit.SUFFIXES:
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
    """Whether a file is one JSON object over several lines, or one with RRC's keys."""
    first = _first_record(content)
    return isinstance(first, Unreadable) or (
        isinstance(first, dict) and "question_id" not in first and "filtered_resps" not in first
    )


def _is_sample_log(content: bytes) -> bool:
    return lmms_eval.is_sample(_first_record(content))


def _first_record(content: bytes) -> Any:
    start = content.lstrip()
    line, _, _ = start.partition(b"\n")
    return next((record for _, record in jsonl.records(line)), None)


def _references(path: Path, content: bytes) -> dict[str, Reference]:
    name = str(path)
    if path.suffix in vlmevalkit.SUFFIXES:
        found, source = vlmevalkit.records(path, content), Source(name, "row", vlmevalkit.KEYS)
    elif _is_array(content):
        raise InputError(
            f"{name}: an array at the root is a submission; a ground truth (an object with "
            "dataset_name and data) or one object a line is accepted as references"
        )
    elif _is_sample_log(content):
        found, source = lmms_eval.records(content), Source(name, "line", lmms_eval.KEYS)
    elif _is_ground_truth(content):
        found, source = rrc.truth_records(content, name), Source(name, "item", rrc.TRUTH_KEYS)
    else:
        found, source = jsonl.records(content), Source(name)
    references: dict[str, Reference] = {}
    for number, record in found:
        problem = _reference_problem(record, source)
        if problem is None and str(record["question_id"]) in references:
            problem = f"question_id {str(record['question_id'])!r} is there twice"
        if problem is not None:
            raise InputError(f"{source.at(number)}: {problem}")
        references[str(record["question_id"])] = Reference(
            record["answers"],
            record.get("question"),
            record.get("image"),
            optional_id(record.get("doc_id")),
            record.get("source"),
            labels(record.get("question_types")),
        )
    if not references:
        raise InputError(f"{name}: references are expected, found none")
    return references


def _reference_problem(record: Any, source: Source) -> str | None:
    if isinstance(record, Unreadable):
        return record
    problem = source.problem(record, ("question_id", "answers"))
    if problem is None and record["answers"] is None:
        return "answers: an array of strings is expected, found null"
    return problem


def _joined(
    read: Predictions,
    name: str,
    references: dict[str, Reference],
    references_name: str,
    on_missing: OnMissing,
) -> Predictions:
    """The predictions with the references' answers, and what else only the references say."""
    cells = {key: read.column(key).to_pylist() for key in read.rows.column_names}
    ids = cells["question_id"]
    extra = [identity for identity in ids if identity not in references]
    if extra:
        raise InputError(
            f"{name}: {_some(extra)} not in {references_name}; predictions for exactly its "
            f"{len(references)} questions are accepted"
        )
    answered = set(ids)
    absent = [identity for identity in references if identity not in answered]
    if absent and on_missing == "error":
        raise InputError(
            f"{name}: no prediction for {_some(absent)} of {references_name}; predict them, or "
            "score them 0 with on_missing zero"
        )
    missing = tuple(range(len(ids), len(ids) + len(absent)))
    unsaid = {"question_id": absent, "prediction": [""] * len(absent)}
    for key, found in cells.items():
        found += unsaid.get(key, [None] * len(absent))
    said = [references[identity] for identity in ids]
    cells["answers"] = [reference.answers for reference in said]
    for key in ("question", "image", "doc_id", "source", "question_types"):
        theirs = (getattr(reference, key) for reference in said)
        cells[key] = [mine or other for mine, other in zip(cells[key], theirs, strict=True)]
    return from_lists(cells, missing, read.skipped)


def _some(ids: list[str]) -> str:
    """Some ids in words, at most three of them by name."""
    named = ", ".join(map(repr, ids[:3]))
    return f"question {named}" if len(ids) <= 3 else f"question {named} and {len(ids) - 3} more"
