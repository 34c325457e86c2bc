"""From predictions to the table of scores, one row a question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from florence_eval import arrow_columns
from florence_eval.categories import CATEGORIES, categorise
from florence_eval.matching import Matches, match
from florence_eval.metrics import Metric
from florence_eval.predictions import Predictions
from florence_eval.similarity import Variant
from florence_eval.subsets import standard_metric

COLUMNS = (
    *("question_id", "doc_id", "source", "question_types", "question", "prediction", "answers"),
    *("best_answer", "best_index", "distance", "similarity", "anls", "exact", "category"),
    *("image", "metric", "score"),
)


def tabulate(
    predictions: Predictions, metrics: Sequence[Metric] | None, variant: Variant
) -> pa.Table:
    """The table of N questions, all of which have answers, with the columns of `Scores.table`.

    `metrics` None is `auto`: each question's own `metric`, else the standard one of its source. The
    schema's metadata says under `doc_id` what that column was taken from. Raises `InputError`.
    """
    answers: list[list[str]] = [accepted or [] for accepted in predictions.answers]
    documents_by, documents = predictions.documents
    matches = match(predictions.prediction, answers, variant)
    has_documents = documents_by != "question_id"
    codes = categorise(
        predictions.prediction, answers, documents if has_documents else None, matches, variant
    )
    missing = np.array(predictions.missing, np.int64)
    matches.anls[missing] = matches.similarity[missing] = 0.0
    names, scores, measured = _measure(predictions, answers, matches, missing, metrics)
    best = zip(answers, matches.best_index.tolist(), strict=True)
    columns = {
        "question_id": arrow_columns.strings(predictions.question_id),
        "doc_id": arrow_columns.strings(documents),
        "source": arrow_columns.strings(predictions.source),
        "question_types": arrow_columns.string_lists(predictions.question_types),
        "question": arrow_columns.strings(predictions.question),
        "prediction": arrow_columns.strings(predictions.prediction),
        "answers": arrow_columns.string_lists(answers),
        "best_answer": arrow_columns.strings([accepted[index] for accepted, index in best]),
        "best_index": arrow_columns.numbers(matches.best_index),
        "distance": arrow_columns.numbers(matches.distance),
        "similarity": arrow_columns.numbers(matches.similarity),
        "anls": arrow_columns.numbers(matches.anls),
        "exact": arrow_columns.booleans(matches.exact),
        "category": arrow_columns.labels(codes, CATEGORIES),
        "image": arrow_columns.strings(predictions.image),
        "metric": names,
        "score": arrow_columns.numbers(scores),
        **measured,
        **{name: arrow_columns.values(found) for name, found in predictions.columns.items()},
    }
    return pa.table(columns).replace_schema_metadata({"doc_id": documents_by})


def _measure(
    predictions: Predictions,
    answers: list[list[str]],
    matches: Matches,
    missing: NDArray[np.int64],
    metrics: Sequence[Metric] | None,
) -> tuple[pa.Array, NDArray[np.float64], dict[str, pa.Array]]:
    """The name and value of each question's headline metric, and a column for each metric.

    A column is null for the questions that `auto` does not score with its metric.
    """
    total = len(answers)
    if metrics is None:
        kinds = list(zip(predictions.metric, predictions.source, map(len, answers), strict=True))
        chosen = {kind: kind[0] or standard_metric(*kind[1:]) for kind in dict.fromkeys(kinds)}
        present = list(dict.fromkeys(chosen.values()))
        code_of = {kind: present.index(name) for kind, name in chosen.items()}
        codes = np.array([code_of[kind] for kind in kinds], np.int32)
        metrics = [Metric.parse(name) for name in present]
        applies = [codes == code for code in range(len(metrics))]
    else:
        codes = np.zeros(total, np.int32)
        applies = [np.ones(total, np.bool_)] * len(metrics)

    scores = np.zeros(total)
    columns = {}
    for code, (metric, mask) in enumerate(zip(metrics, applies, strict=True)):
        values = np.zeros(total)
        rows = np.flatnonzero(mask)
        if metric.name in ("anls", "nls"):
            values = matches.anls if metric.name == "anls" else matches.similarity
        else:
            values[rows] = _values(metric, predictions, answers, rows)
            if not metric.lower_is_better:
                values[missing] = 0.0
        if str(metric) != "anls":
            columns[str(metric)] = arrow_columns.numbers(values, None if mask.all() else mask)
        scores = np.where(codes == code, values, scores)
    return arrow_columns.labels(codes, [str(metric) for metric in metrics]), scores, columns


def _values(
    metric: Metric,
    predictions: Predictions,
    answers: list[list[str]],
    rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    chosen = rows.tolist()
    return metric.values(
        [predictions.prediction[row] for row in chosen],
        [answers[row] for row in chosen],
        [predictions.question[row] for row in chosen],
    )
