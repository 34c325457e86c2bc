"""The Robust Reading Competition's pair of files: a submission and its ground truth.

Submission: a JSON array of `{"questionId": 1, "answer": "text"}`. Ground truth: a JSON object
`{"dataset_name": …, "data": [{"questionId": 1, "question": …, "answers": […], …}]}`. The
competition's evaluator matches ids of one type only, so within such a pair the types must agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from florence_eval.errors import InputError, quoted
from florence_eval.jsonl import with_each_key_once
from florence_eval.predictions import Source, json_kind

SUBMISSION_KEYS = {"question_id": "questionId", "prediction": "answer"}
TRUTH_KEYS = {"question_id": "questionId", "doc_id": "docId"}


def submission_records(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """Each item of a submission, numbered from 1, with our keys. Raises `InputError`."""
    root = _load(content, name)
    if not isinstance(root, list):
        raise InputError(f"{name}: an array is expected at the root, found {json_kind(root)}")
    yield from ((number, _renamed(item, SUBMISSION_KEYS)) for number, item in enumerate(root, 1))


def truth_records(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """Each item of a ground truth, numbered from 1, with our keys. Raises `InputError`."""
    root = _load(content, name)
    if not isinstance(root, dict):
        raise InputError(f"{name}: an object is expected at the root, found {json_kind(root)}")
    for key in ("dataset_name", "data"):
        if key not in root:
            raise InputError(f"{name}: no {key!r}; dataset_name and data are required")
    if not isinstance(root["data"], list):
        raise InputError(f"{name}: data: an array is expected, found {json_kind(root['data'])}")
    for number, item in enumerate(root["data"], 1):
        record = _renamed(item, TRUTH_KEYS)
        if isinstance(record, dict):
            record.setdefault("source", _text_or_none(root["dataset_name"]))
        yield number, record


def check_id_types(submission: bytes, truth: bytes, name: str) -> None:
    """Raises `InputError` where a submission's id equals one of the ground truth's as a string
    only."""
    expected = {str(item.get("questionId")): item.get("questionId") for item in _items(truth)}
    for number, item in enumerate(_items(submission), 1):
        found = item.get("questionId")
        wanted = expected.get(str(found), found)
        if type(found) is not type(wanted):
            raise InputError(
                f"{Source(name, 'item').at(number)}: questionId: the ground truth has "
                f"{quoted(wanted)}, found {quoted(found)}; the competition's evaluator does not "
                "match the two"
            )


def _items(content: bytes) -> list[dict[str, Any]]:
    root = json.loads(content)
    found = root["data"] if isinstance(root, dict) else root
    return [item for item in found if isinstance(item, dict)]


def _load(content: bytes, name: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=with_each_key_once)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: invalid UTF-8; UTF-8 text is accepted") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{name}:{error.lineno}: invalid JSON: {error.msg}") from None
    except ValueError as error:  # a key twice, a number of over 4300 digits
        raise InputError(f"{name}: invalid JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{name}: invalid JSON: nested too deeply") from None


def _renamed(item: Any, keys: dict[str, str]) -> Any:
    """The item with the competition's key for ours; a key of ours that it has is not meant."""
    if not isinstance(item, dict):
        return item
    record = {key: value for key, value in item.items() if key not in keys}
    record.update({ours: item[theirs] for ours, theirs in keys.items() if theirs in item})
    return record


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
