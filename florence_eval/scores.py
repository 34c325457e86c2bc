"""Scores of one set of predictions: one row a question, and what is derived from the rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from florence_eval import arrow_columns
from florence_eval.categories import CATEGORIES
from florence_eval.errors import InputError, one_line, quoted
from florence_eval.halves import tabulate_large
from florence_eval.metrics import NAMES, Metric, corpus_error_rate
from florence_eval.predictions import OnBadLine, OnMissing, Predictions, SkippedLine
from florence_eval.reading import read
from florence_eval.similarity import Variant
from florence_eval.slices import Slice, sliced
from florence_eval.statistics import RESAMPLES, Estimate, document_codes, estimate
from florence_eval.tabulation import COLUMNS, tabulate, unscorable
from florence_eval.writing import write_whole

if TYPE_CHECKING:
    import pandas as pd

# What begins a formula in a spreadsheet, and the mark that says that none is meant.
_ESCAPED = frozenset("=+-@\t\r'")


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """The scores of N predictions.

    rows: the table, as Arrow; `table` is the same for pandas.
    variant: how ANLS was computed, in every row and in the category near_miss.
    metrics: the metrics asked for, "auto" alone or their names; the first is the headline, `score`.
    missing: ids of questions that were not answered and score 0.
    skipped: lines of the file that could not be read and are in no number.
    """

    rows: pa.Table
    variant: Variant
    metrics: tuple[str, ...] = ("auto",)
    missing: tuple[str, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()
    name: str = field(default="predictions")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def table(self) -> pd.DataFrame:
        """One row a question, in the order of the file.

        question_id, doc_id (what `documents_by` says), source, question_types (list), question,
        prediction, answers (list), best_answer and best_index (the nearest answer), distance (in
        characters), similarity and anls (before and after the threshold, of `variant`), exact (the
        prediction equals an answer as it stands), category, image, metric and score (the headline's
        name and value), then a column for each further metric, null where it does not apply, and
        for each column asked for. Like every table here it has the name of the variant in its
        `attrs["variant"]`, which pandas keeps in copies and parquet.
        """
        return self._frame(self.rows)

    @property
    def documents_by(self) -> str:
        """What `doc_id` was taken from: `doc_id`, else `image`, else `question_id`."""
        return str(self.rows.schema.metadata[b"doc_id"].decode())

    @cached_property
    def score(self) -> Estimate:
        """The mean of the headline score over all questions, and its intervals."""
        return self.estimate("score")

    @property
    def headline(self) -> str:
        """What `score` is the mean of: a metric's label, or "mixed" where `auto` took several, with
        the variant if one of them has it: "mixed (official)"."""
        names = self.metrics_taken
        if len(names) == 1:
            return self.label(names[0])
        return f"mixed ({self.variant.name})" if {"anls", "nls"} & set(names) else "mixed"

    @cached_property
    def metrics_taken(self) -> list[str]:
        """The metrics that `score` is made of, in the order of the table."""
        names: list[str] = self.rows["metric"].unique().to_pylist()
        return names

    def label(self, metric: str) -> str:
        """A metric's name with the variant, where it has one: "anls (official)"."""
        return f"{metric} ({self.variant.name})" if metric in ("anls", "nls") else metric

    @property
    def metric_columns(self) -> list[str]:
        """The columns of metrics: anls, those asked for, and those that `auto` took."""
        return list(dict.fromkeys(["anls", *self.metrics_taken, *self.metrics[1:]]))

    def estimate(self, metric: str, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
        """The mean of a metric's column and its intervals over documents."""
        values = self.values(metric)
        known = ~np.isnan(values)
        return estimate(values[known], self.documents[known], resamples=resamples, seed=seed)

    def values(self, metric: str) -> NDArray[np.float64]:
        """A metric's column, (N,) float64, NaN where it does not apply. Raises `InputError`."""
        if metric not in (*self.metric_columns, "score", "similarity"):
            raise InputError(
                f"metric: {metric!r} was not computed; {', '.join(self.metric_columns)} were"
            )
        found: NDArray[np.float64] = arrow_columns.to_numpy(self.rows[metric])
        return found

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """A number from 0 for each question's document, (N,) int64."""
        return document_codes(arrow_columns.whole(self.rows["doc_id"]))

    @cached_property
    def categories(self) -> dict[str, int]:
        """How many questions are in each category, in the order of deciding."""
        codes = arrow_columns.to_numpy(self.rows["category"])
        counts = np.bincount(codes, minlength=len(CATEGORIES)).tolist()
        return dict(zip(CATEGORIES, counts, strict=True))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON; numbers that could not be computed are None."""
        metrics = {}
        for name in self.metric_columns:
            entry: dict[str, Any] = self.estimate(name).as_json()
            if name in ("anls", "nls"):
                entry["variant"] = self.variant.name
            if Metric.parse(name).lower_is_better:
                entry["corpus"] = self._corpus_rate(Metric.parse(name))
            metrics[name] = entry
        return {
            "predictions": self.name,
            "variant": self.variant.name,
            "switches": asdict(self.variant),
            "metric": list(self.metrics),
            "headline": self.headline,
            "questions": len(self),
            "documents": int(self.documents.max()) + 1,
            "documents_by": self.documents_by,
            "score": self.score.as_json(),
            "metrics": metrics,
            "categories": self.categories,
            "missing": list(self.missing),
            "skipped_lines": [asdict(line) for line in self.skipped],
        }

    def reaches(self, least: float) -> bool:
        """Whether the headline score is at least `least` (for cer and wer: at most). Raises
        `InputError` unless that is from 0 to 1 (with cider: 10), as a percentage is not."""
        metrics = [Metric.parse(name) for name in self.metrics_taken]
        lower_is_better = {metric.lower_is_better for metric in metrics}
        if len(lower_is_better) > 1:
            raise InputError("fail_under: error rates and scores are mixed; name one metric")
        highest = 10 if any(metric.of_corpus for metric in metrics) else 1
        if not 0 <= least <= highest:
            kind = "an error rate" if lower_is_better == {True} else "a score"
            raise InputError(f"fail_under: {kind} from 0 to {highest} is expected, found {least}")
        return self.score.mean <= least if lower_is_better == {True} else self.score.mean >= least

    def slices(self, column: str, *, seed: int = 0) -> list[Slice]:
        """The headline score of each label of a column, by number of questions.

        A question with several labels (a list) counts in each, one without any in "(none)". Raises
        `InputError` for a column that the table has not.
        """
        return sliced(self.column(column), self.values("score"), self.documents, seed=seed)

    def by(self, column: str) -> pd.DataFrame:
        """`slices` as a table: label, then n and the fields of `Estimate`."""
        import pandas as pd

        rows = [{column: each.label, **asdict(each.estimate)} for each in self.slices(column)]
        frame: pd.DataFrame = pd.DataFrame(rows)
        frame.attrs["variant"] = self.variant.name
        return frame

    def errors(self, category: str) -> pd.DataFrame:
        """The rows of `table` in one category. Raises `InputError` for an unknown one."""
        if category not in CATEGORIES:
            raise InputError(f"category: {category!r} is not one of {', '.join(CATEGORIES)}")
        codes = arrow_columns.to_numpy(self.rows["category"])
        chosen = np.flatnonzero(codes == CATEGORIES.index(category))
        return self._frame(arrow_columns.take(self.rows, chosen))

    def worst(self, n: int = 20) -> pd.DataFrame:
        """The `n` rows of `table` with the worst scores, the least similar first among equals."""
        metrics = self.rows["metric"].to_pylist()
        lower_is_better = np.array([Metric.parse(name).lower_is_better for name in metrics])
        badness = np.where(lower_is_better, self.values("score"), -self.values("score"))
        order = np.lexsort((self.values("similarity"), -badness))
        return self._frame(arrow_columns.take(self.rows, order[:n]))

    def _frame(self, rows: pa.Table) -> pd.DataFrame:
        """Some of `rows` for pandas, as `table` is."""
        import pandas as pd

        def types(kind: pa.DataType) -> Any:
            return pd.ArrowDtype(kind) if pa.types.is_list(kind) else None

        frame: pd.DataFrame = rows.to_pandas(types_mapper=types)
        frame.attrs["variant"] = self.variant.name
        return frame

    def to_parquet(self, path: Path | str) -> None:
        """Writes the table; the variant and the summary go into the file's metadata."""
        import pyarrow.parquet as pq

        described = {
            "doc_id": self.documents_by,
            "florence_eval": json.dumps(self.summary, allow_nan=False),
            # What pandas reads into the table's `attrs`.
            "PANDAS_ATTRS": json.dumps({"variant": self.variant.name}),
        }
        table = self.rows.replace_schema_metadata(described)
        write_whole(Path(path), lambda file: pq.write_table(table, file))

    def to_csv(self, path: Path | str) -> None:
        """Writes the table as CSV, with its lists as JSON.

        A text that a spreadsheet would run as a formula (it begins with = + - @, a tab or a
        carriage return) gets a ' before it, as does one that begins with '. Taking one leading '
        off gives the exact text back. A column `variant` names the variant of anls.
        """
        import pyarrow.csv

        columns = {name: _csv_column(self.rows[name]) for name in self.rows.column_names}
        columns["variant"] = arrow_columns.strings([self.variant.name] * len(self))
        table = pa.table(columns)
        write_whole(Path(path), lambda file: pyarrow.csv.write_csv(table, file))

    def to_json(self, path: Path | str) -> None:
        """Writes the summary alone, without the rows: `to_parquet` and `to_csv` write those."""
        text = json.dumps(self.summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(Path(path), lambda file: file.write(text.encode()))

    def write(self, folder: Path | str) -> None:
        """Writes table.parquet, table.csv and summary.json, replacing older ones. Raises
        `InputError` where the folder cannot be made."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{folder}: a folder is expected: {reason}") from None
        self.to_parquet(folder / "table.parquet")
        self.to_csv(folder / "table.csv")
        self.to_json(folder / "summary.json")

    def __repr__(self) -> str:
        from florence_eval.rendering import plain, summary_grids

        return plain(summary_grids(self))

    def _repr_html_(self) -> str:
        from florence_eval.rendering import html, summary_grids

        return html(summary_grids(self))

    def column(self, column: str) -> list[Any]:
        """A column of the table as Python values, null as None. Raises `InputError`."""
        if column not in self.rows.column_names:
            raise InputError(
                f"column: {column!r} is not in the table; {', '.join(self.rows.column_names)} are"
            )
        found: list[Any] = self.rows[column].to_pylist()
        return found

    def _corpus_rate(self, metric: Metric) -> float:
        rows = self.rows.filter(self.rows[str(metric)].is_valid())
        missing = frozenset(self.missing)
        predictions = [
            None if identity in missing else prediction
            for identity, prediction in zip(
                rows["question_id"].to_pylist(), rows["prediction"].to_pylist(), strict=True
            )
        ]
        return corpus_error_rate(metric, predictions, rows["answers"].to_pylist())


def score(
    predictions: Path | str | pd.DataFrame,
    references: Path | str | pd.DataFrame | None = None,
    *,
    metric: str | Sequence[str] = "auto",
    variant: str | Variant = "official",
    columns: Sequence[str] = (),
    on_missing: OnMissing = "error",
    on_bad_line: OnBadLine = "error",
) -> Scores:
    """Scores a file or DataFrame of predictions.

    predictions: own JSONL, an RRC submission, an lmms-eval sample log or a VLMEvalKit table; or a
        DataFrame with the keys of a prediction as columns.
    references: a file or DataFrame with the answers, where the predictions don't carry them: own
        JSONL, an RRC ground truth or any of the above. What else it says of a question (`doc_id`,
        `metric`, `columns` …) is used where the predictions don't say it.
    metric: "auto", the standard metric of each question's source (ANLS where that is unknown), or
        one or more names of `florence_eval.metrics`, the first of which is the headline.
    variant: of ANLS: official, paper or seed, with switches ("official+strip_period").
    columns: further keys to carry into the table, to slice by; the name of a metric is that
        metric's column.
    on_missing: what to do about references without a prediction: "error", or score them "zero".
    on_bad_line: what to do about a line that can't be read, or that its metric can't score:
        "error", or "skip" and list it.

    Raises `InputError` for everything that cannot be scored as it stands.
    """
    _check_option("on_missing", on_missing, get_args(OnMissing))
    _check_option("on_bad_line", on_bad_line, get_args(OnBadLine))
    asked = (metric,) if isinstance(metric, str) else tuple(metric)
    metrics = None if asked == ("auto",) else [Metric.parse(name) for name in asked]
    if metrics == []:
        raise InputError("metric: at least one name is expected, found none")
    chosen = Variant.parse(variant)
    extra = _further_columns(columns)
    predictions = _file_or_frame("predictions", predictions)
    references = None if references is None else _file_or_frame("references", references)
    name = one_line(str(predictions)) if isinstance(predictions, Path) else "predictions"
    if isinstance(predictions, Path) and references is None:
        rows = tabulate_large(predictions, metrics, chosen, extra)
        if rows is not None:
            _check_columns(rows, columns, name)
            return Scores(rows, chosen, asked, name=name)
    found = read(
        predictions, references, columns=extra, on_missing=on_missing, on_bad_line=on_bad_line
    )
    found = _scorable(found, metrics, on_bad_line)
    rows = tabulate(found, metrics, chosen)
    _check_columns(rows, columns, name)
    missing = tuple(rows["question_id"][row].as_py() for row in found.missing)
    return Scores(rows, chosen, asked, missing, found.skipped, name)


def _check_option(name: str, value: object, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise InputError(f"{name}: {' or '.join(accepted)} is accepted, found {quoted(value)}")


def _file_or_frame(name: str, given: Any) -> Path | pd.DataFrame:
    if isinstance(given, (str, os.PathLike)):
        return Path(given)
    # A DataFrame cannot be there without the module that makes it, which takes long to import.
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(given, pandas.DataFrame):
        found = f"the {type(given).__name__} {quoted(given)}"
        raise InputError(f"{name}: a path or a pandas DataFrame is expected, found {found}")
    frame: pd.DataFrame = given
    return frame


def _further_columns(columns: Sequence[str]) -> list[str]:
    """The columns that are keys of the predictions: neither the table's own nor a metric's."""
    if "variant" in columns:
        raise InputError(
            "column: 'variant' is the name of the variant of ANLS in every output; give the key "
            "another name"
        )
    return [column for column in columns if column not in COLUMNS and not _names_metric(column)]


def _names_metric(column: str) -> bool:
    return column.partition("+")[0] in NAMES


def _scorable(
    predictions: Predictions, metrics: Sequence[Metric] | None, on_bad_line: OnBadLine
) -> Predictions:
    """The predictions that can be scored. Raises `InputError` for the first that cannot, unless
    such ones are to be skipped and others are left."""
    problems = unscorable(predictions, metrics)
    if not problems:
        return predictions
    if on_bad_line == "error" or len(problems) == len(predictions.rows):
        position, problem = next(iter(problems.items()))
        identity = predictions.column("question_id")[position].as_py()
        raise InputError(f"{predictions.place(position)}: question {quoted(identity)}: {problem}")
    return predictions.without(problems)


def _check_columns(rows: pa.Table, columns: Sequence[str], name: str) -> None:
    """Raises `InputError` for a column asked for that says nothing."""
    for column in columns:
        if column in COLUMNS:
            continue
        if column not in rows.column_names:
            raise InputError(
                f"column: {quoted(column)} is a metric that was not computed; ask for it by metric"
            )
        if rows[column].null_count == len(rows):
            raise InputError(f"column: {quoted(column)} is in no prediction of {name}")


def _csv_column(column: pa.ChunkedArray) -> pa.Array:
    """A column as pyarrow's CSV writer takes it: lists as JSON, no text a formula."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column
    if pa.types.is_boolean(column.type):
        return column
    cells = column.to_pylist()
    if pa.types.is_list(column.type):
        cells = [json.dumps(cell, ensure_ascii=False) for cell in cells]
    return arrow_columns.strings(
        [f"'{cell}" if cell and cell[0] in _ESCAPED else cell for cell in cells]
    )
