"""lmms-eval's sample logs (`--log_samples`): JSON, one sample a line.

A sample has `doc_id` (its position), `doc` (the data set's row without pictures), `target`, and
`filtered_resps`, the model's answer: one string, or in logs before lmms-eval 0.7 a list of one. The
id is the row's `questionId`, `question_id` or `id`, else the position; the references are the row's
`answers` or `answer`, else the target, which lmms-eval writes as a Python literal. The row's
`image` and `source` are used where they are text, and a `metric` of its own is none of ours.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from florence_eval import jsonl
from florence_eval.predictions import OPTIONAL, Unreadable

KEYS = {"prediction": "filtered_resps", "question_id": "doc_id"}


def is_sample(record: object) -> bool:
    """Whether a line is one of lmms-eval's."""
    return isinstance(record, dict) and "filtered_resps" in record and "doc_id" in record


def records(content: bytes) -> Iterator[tuple[int, Any]]:
    """Each sample, with its line's number and our keys."""
    for number, sample in jsonl.records(content):
        if isinstance(sample, Unreadable) or not isinstance(sample, dict):
            yield number, sample
        elif not is_sample(sample):
            yield number, Unreadable("no 'filtered_resps'; doc_id and filtered_resps are required")
        else:
            yield number, _record(sample)


def literal_answers(value: Any) -> Any:
    """Answers as a list of strings, where they are one: a Python list written as text, a list of
    `{"answer": text}`, numbers, or one string."""
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [value]
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return [value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return [str(value)]
    if isinstance(value, list):
        return [_answer(each) for each in value]
    return value


def _record(sample: dict[str, Any]) -> dict[str, Any]:
    row = sample["doc"] if isinstance(sample.get("doc"), dict) else {}
    response = sample["filtered_resps"]
    while isinstance(response, list) and len(response) == 1:
        response = response[0]
    answers = next(
        (row[key] for key in ("answers", "answer") if row.get(key) is not None),
        sample.get("target"),
    )
    identity = next(
        (row[key] for key in ("questionId", "question_id", "id") if row.get(key) is not None),
        sample["doc_id"],
    )
    further = {key: value for key, value in row.items() if key not in OPTIONAL}
    return {
        **further,
        "question_id": identity,
        "prediction": response,
        "answers": literal_answers(answers),
        "question": row.get("question"),
        "doc_id": next((row[key] for key in ("docId", "image_id") if row.get(key)), None),
        "question_types": row.get("question_types"),
        "image": _text_or_none(row.get("image")),
        "source": _text_or_none(row.get("source")),
    }


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _answer(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("answer")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value
