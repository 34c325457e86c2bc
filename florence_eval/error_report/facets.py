"""The labels of questions: what an error report slices the score by and filters with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from florence_eval.categories import CATEGORIES
from florence_eval.error_report.kinds import answered_with, asked_with
from florence_eval.scores import Scores
from florence_eval.slices import NO_LABEL
from florence_eval.tabulation import COLUMNS

MOST_LABELS = 60
"""A column with more labels tells questions apart, not kinds of question."""


@dataclass(frozen=True)
class Facet:
    """One kind of label of N questions.

    key: its name in the address of a question or filter.
    title: its name for people.
    labels: in the order of showing.
    codes: (N,) positions in `labels`; a question may have several.
    """

    key: str
    title: str
    labels: list[str]
    codes: list[list[int]]

    @property
    def values(self) -> list[list[str]]:
        """The labels of each question."""
        return [[self.labels[code] for code in codes] for codes in self.codes]


def facets_of(scores: Scores) -> list[Facet]:
    """The category, and whatever tells kinds of questions apart: question types, source, metric,
    the words that ask, the kind of the first answer, the further columns of the table, and the keys
    of its column `metadata`.

    What has one label, more than `MOST_LABELS` or one for each question, or labels the questions as
    another column does, is left out.
    """
    columns = [
        ("type", "question type", scores.column("question_types")),
        ("source", "source", scores.column("source")),
        ("metric", "metric", scores.column("metric")),
        ("asked", "question word", list(map(asked_with, scores.column("question")))),
        (
            "answered",
            "kind of answer",
            [answered_with(each[0]) for each in scores.column("answers")],
        ),
    ]
    columns += [
        (f"by.{name}", name, found)
        for name, found in further_columns(scores).items()
        if name != "metadata"
    ]
    metadata = metadata_of(scores)
    keys = dict.fromkeys(key for found in metadata for key in found)
    columns += [(f"metadata.{key}", key, [found.get(key) for found in metadata]) for key in keys]
    category = [[name] for name in scores.column("category")]
    found = [_facet("category", "category", category, CATEGORIES)]
    seen = [category]
    for key, title, values in columns:
        labels = [_labels(value) for value in values]
        counts = Counter(label for each in labels for label in each)
        tells_kinds = 2 <= len(counts) <= min(MOST_LABELS, len(scores) - 1)
        if tells_kinds and labels not in seen:
            ordered = sorted(counts, key=lambda label: (label == NO_LABEL, -counts[label]))
            found.append(_facet(key, title, labels, ordered))
            seen.append(labels)
    return found


def further_columns(scores: Scores) -> dict[str, list[Any]]:
    """The columns that the user asked to carry into the table."""
    own = {*COLUMNS, *scores.metric_columns}
    return {name: scores.column(name) for name in scores.rows.column_names if name not in own}


def metadata_of(scores: Scores) -> list[dict[str, Any]]:
    """The column `metadata` as it was in the predictions; {} where it is no object, or absent."""
    if "metadata" not in scores.rows.column_names:
        return [{}] * len(scores)
    return [_object(cell) for cell in scores.column("metadata")]


def _object(cell: Any) -> dict[str, Any]:
    try:
        found = json.loads(cell)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _labels(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    labels = [str(each) for each in values if each is not None and not isinstance(each, dict)]
    return list(dict.fromkeys(labels)) or [NO_LABEL]


def _facet(key: str, title: str, values: list[list[str]], labels: Sequence[str]) -> Facet:
    place = {label: number for number, label in enumerate(labels)}
    return Facet(key, title, list(labels), [[place[label] for label in each] for each in values])
