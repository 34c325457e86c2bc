"""From predictions to the table of scores, one row a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from florence_eval import arrow_columns
from florence_eval.categories import CATEGORIES, EMPTY, FoldedAnswers, categorise
from florence_eval.errors import InputError
from florence_eval.matching import Matches, match
from florence_eval.metrics import Metric
from florence_eval.pairs import Pairs
from florence_eval.predictions import OPTIONAL, REQUIRED, Predictions
from florence_eval.similarity import Variant
from florence_eval.subsets import standard_metric
from florence_eval.vqa import too_few

COLUMNS = (
    *("question_id", "doc_id", "source", "question_types", "question", "prediction", "answers"),
    *("best_answer", "best_index", "distance", "similarity", "anls", "exact", "category"),
    *("image", "metric", "score"),
)


def unscorable(predictions: Predictions, metrics: Sequence[Metric] | None) -> Mapping[int, str]:
    """The positions of predictions that their metric cannot score, and why, in words: a `metric` of
    their own that is none, or too few answers. `metrics` is that of `tabulate`."""
    counts = arrow_columns.to_numpy(pc.list_value_length(predictions.column("answers")))
    problems: dict[int, str] = {}
    if metrics is not None:
        least = max(metric.least_answers for metric in metrics)
        few = np.flatnonzero(counts[: len(predictions.numbers)] < least)
        return {row: too_few(int(counts[row])) for row in few.tolist()}
    own = predictions.column("metric")
    for name in own.unique().drop_null().to_pylist():
        # Not `equal`: pyarrow imports pandas to compare with a Python string.
        said = pc.is_in(own, arrow_columns.strings([name]))
        rows = np.flatnonzero(arrow_columns.to_numpy(said))
        try:
            least = Metric.parse(name).least_answers if name else 1
        except InputError as error:
            problems |= dict.fromkeys(rows.tolist(), str(error))
        else:
            few = rows[(rows < len(predictions.numbers)) & (counts[rows] < least)]
            problems |= {row: too_few(int(counts[row])) for row in few.tolist()}
    return dict(sorted(problems.items()))


def tabulate(
    predictions: Predictions, metrics: Sequence[Metric] | None, variant: Variant
) -> pa.Table:
    """The table of N questions, none of them `unscorable`, with the columns of `Scores.table`.

    `metrics` None is `auto`: each question's own `metric`, else the standard one of its source. The
    schema's metadata says under `doc_id` what that column was taken from. A missing question is
    empty, never exact, and has the worst value of every metric. Raises `InputError` where a
    metric's package is not installed.
    """
    rows = predictions.rows
    prediction, answers = predictions.column("prediction"), predictions.column("answers")
    documents = predictions.column(predictions.documents_by)
    has_documents = predictions.documents_by != "question_id"
    pairs = Pairs.of(prediction, answers)
    # Both let go of Python's lock for most of their time.
    with ThreadPoolExecutor(1) as beside:
        folded = beside.submit(FoldedAnswers.of, pairs, documents if has_documents else None)
        matches = match(pairs, variant)
    codes = categorise(pairs, folded.result(), matches, variant)
    missing = np.array(predictions.missing, np.int64)
    matches.anls[missing] = matches.similarity[missing] = 0.0
    matches.exact[missing] = False
    codes[missing] = EMPTY
    names, scores, measured = _measure(predictions, matches, missing, metrics)
    columns = {
        "question_id": rows["question_id"],
        "doc_id": documents,
        "source": rows["source"],
        "question_types": rows["question_types"],
        "question": rows["question"],
        "prediction": prediction,
        "answers": answers,
        "best_answer": arrow_columns.take(pairs.answers, pairs.starts + matches.best_index),
        "best_index": arrow_columns.numbers(matches.best_index),
        "distance": arrow_columns.numbers(matches.distance),
        "similarity": arrow_columns.numbers(matches.similarity),
        "anls": arrow_columns.numbers(matches.anls),
        "exact": arrow_columns.booleans(matches.exact),
        "category": arrow_columns.labels(codes, CATEGORIES),
        "image": rows["image"],
        "metric": names,
        "score": arrow_columns.numbers(scores),
        **measured,
        **{name: rows[name] for name in rows.column_names if name not in (*REQUIRED, *OPTIONAL)},
    }
    return pa.table(columns).replace_schema_metadata({"doc_id": predictions.documents_by})


def _measure(
    predictions: Predictions,
    matches: Matches,
    missing: NDArray[np.int64],
    metrics: Sequence[Metric] | None,
) -> tuple[pa.Array, NDArray[np.float64], dict[str, pa.Array]]:
    """The name and value of each question's headline metric, and a column for each metric.

    A column is null for the questions that `auto` does not score with its metric.
    """
    total = len(predictions.rows)
    if metrics is None:
        present, codes = _standard(predictions)
        metrics = [Metric.parse(name) for name in present]
        applies = [codes == code for code in range(len(metrics))]
    else:
        codes = np.zeros(total, np.int32)
        applies = [np.ones(total, np.bool_)] * len(metrics)

    scores = np.zeros(total)
    columns = {}
    for code, (metric, mask) in enumerate(zip(metrics, applies, strict=True)):
        values = np.zeros(total)
        if metric.name in ("anls", "nls"):
            values = matches.anls if metric.name == "anls" else matches.similarity
        else:
            computed = mask.copy()
            if not metric.of_corpus:
                computed[missing] = False
            rows = np.flatnonzero(computed)
            values[rows] = _values(metric, predictions, rows)
            values[missing] = metric.worst
        if str(metric) != "anls":
            columns[str(metric)] = arrow_columns.numbers(values, None if mask.all() else mask)
        scores = np.where(codes == code, values, scores)
    return arrow_columns.labels(codes, [str(metric) for metric in metrics]), scores, columns


def _standard(predictions: Predictions) -> tuple[list[str], NDArray[np.int32]]:
    """The metrics that `auto` takes, in the order of the rows, and which one each question has."""
    metric, source = predictions.column("metric"), predictions.column("source")
    if metric.null_count == source.null_count == len(metric):
        return [standard_metric(None, 1)], np.zeros(len(metric), np.int32)
    answers = arrow_columns.to_numpy(pc.list_value_length(predictions.column("answers")))
    kinds = np.zeros(len(answers), np.int64)
    for codes in (_codes(metric), _codes(source), answers):
        kinds = kinds * (int(codes.max()) + 1) + codes
    kind_of = arrow_columns.to_numpy(arrow_columns.numbers(kinds).dictionary_encode())
    # Of several writes to one place the last stays, so that each kind keeps its first row.
    first = np.zeros(int(kind_of.max()) + 1, np.int64)
    first[kind_of[::-1]] = np.arange(len(kinds))[::-1]
    names = [
        metric[row].as_py() or standard_metric(source[row].as_py(), int(answers[row]))
        for row in first.tolist()
    ]
    present = list(dict.fromkeys(names))
    return present, np.array([present.index(name) for name in names], np.int32)[kind_of]


def _codes(column: pa.Array) -> NDArray[np.int32]:
    """A number from 0 for each distinct text, null among them."""
    return arrow_columns.to_numpy(column.dictionary_encode(null_encoding="encode").indices)


def _values(
    metric: Metric, predictions: Predictions, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    chosen = arrow_columns.take(predictions.rows, rows)
    return metric.values(
        chosen["prediction"].to_pylist(),
        chosen["answers"].to_pylist(),
        chosen["question"].to_pylist(),
    )
