"""Two models' scores on the same questions: how far apart, and how sure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from florence_eval.errors import InputError
from florence_eval.metrics import Metric
from florence_eval.scores import Scores, score
from florence_eval.slices import Slice, as_json, sliced
from florence_eval.statistics import (
    Estimate,
    cluster_sums,
    detectable_difference,
    estimate,
    known,
    permutation_p_value,
)
from florence_eval.writing import write_whole

if TYPE_CHECKING:
    import pandas as pd

# A question whose score crosses this has flipped: ANLS itself has no score between 0 and 0.5.
FLIP = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two scores of the same N questions, matched by id.

    a, b: the scores compared.
    rows_a, rows_b: (N,) positions of the same questions in either table.
    seed: of the resampling.
    """

    a: Scores
    b: Scores
    rows_a: NDArray[np.int64]
    rows_b: NDArray[np.int64]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.rows_a)

    @property
    def label(self) -> str:
        """The metric compared, with its variant."""
        return self.a.headline

    @cached_property
    def question_id(self) -> list[str]:
        """The ids of the N questions."""
        found = self.a.column("question_id")
        return [found[row] for row in self.rows_a.tolist()]

    @cached_property
    def score_a(self) -> NDArray[np.float64]:
        """a's scores of the N questions, (N,) float64."""
        return self.a.values("score")[self.rows_a]

    @cached_property
    def score_b(self) -> NDArray[np.float64]:
        """b's scores of the N questions, (N,) float64."""
        return self.b.values("score")[self.rows_b]

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """A number for each question's document, (N,) int64, as a tells them apart."""
        return self.a.documents[self.rows_a]

    @cached_property
    def mean_a(self) -> Estimate:
        return estimate(self.score_a, self.documents, seed=self.seed)

    @cached_property
    def mean_b(self) -> Estimate:
        return estimate(self.score_b, self.documents, seed=self.seed)

    @cached_property
    def difference(self) -> Estimate:
        """The mean of a's score less b's, paired by question, its error clustered by document."""
        return estimate(self.score_a - self.score_b, self.documents, seed=self.seed)

    @cached_property
    def _permutation_p(self) -> float:
        sums, _ = cluster_sums(self.score_a - self.score_b, self.documents)
        return permutation_p_value(sums, seed=self.seed)

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference: by permutation over documents, or from the standard error
        where there are too many documents to permute (`p_value_by` says which); NaN where that is
        NaN."""
        if not math.isnan(self._permutation_p):
            return self._permutation_p
        error = self.difference.standard_error
        return math.erfc(abs(self.difference.mean) / error / math.sqrt(2)) if error else 1.0

    @property
    def p_value_by(self) -> str:
        return "standard error" if math.isnan(self._permutation_p) else "permutation over documents"

    @property
    def detectable(self) -> float:
        """The smallest true difference that this many documents would have shown, at 5 % and a
        power of 80 %; NaN for fewer than two documents."""
        return detectable_difference(self.difference.standard_error)

    @cached_property
    def gain(self) -> NDArray[np.float64]:
        """How much better a is, (N,) float64: the difference, turned round for error rates."""
        difference = self.score_a - self.score_b
        return np.where(self.lower_is_better, -difference, difference)

    @cached_property
    def lower_is_better(self) -> NDArray[np.bool_]:
        """Whether a question's metric is an error rate, (N,) bool."""
        metrics = self.a.rows["metric"].to_pylist()
        found: NDArray[np.bool_] = np.array(
            [Metric.parse(name).lower_is_better for name in metrics]
        )
        return found[self.rows_a]

    def _right(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a question counts as answered: a score of at least 0.5, an error rate of at
        most that."""
        return np.where(self.lower_is_better, scores <= FLIP, scores >= FLIP)

    @property
    def wins(self) -> int:
        """Questions that a scores better on."""
        return int((self.gain > 0).sum())

    @property
    def losses(self) -> int:
        """Questions that b scores better on."""
        return int((self.gain < 0).sum())

    @property
    def ties(self) -> int:
        return int((self.gain == 0).sum())

    @property
    def flipped_to_a(self) -> NDArray[np.int64]:
        """Positions (of the N) of questions that a scores at least 0.5 and b less; of error rates,
        at most 0.5 and b more."""
        return np.flatnonzero(self._right(self.score_a) & ~self._right(self.score_b))

    @property
    def flipped_to_b(self) -> NDArray[np.int64]:
        """`flipped_to_a` the other way round."""
        return np.flatnonzero(self._right(self.score_b) & ~self._right(self.score_a))

    @property
    def flipped(self) -> pd.DataFrame:
        """The questions that flipped: id, question, answers, both predictions, scores and
        categories."""
        import pandas as pd

        rows = np.concatenate([self.flipped_to_a, self.flipped_to_b])
        a = self.a.table.iloc[self.rows_a[rows]].reset_index(drop=True)
        b = self.b.table.iloc[self.rows_b[rows]].reset_index(drop=True)
        columns = {name: a[name] for name in ("question_id", "doc_id", "question", "answers")}
        for name in ("prediction", "score", "category"):
            columns[f"{name}_a"], columns[f"{name}_b"] = a[name], b[name]
        frame: pd.DataFrame = pd.DataFrame(columns)
        frame.attrs["variant"] = self.a.variant.name
        return frame

    def slices(self, column: str) -> list[Slice]:
        """The difference of each label of one of a's columns, as `Scores.slices`."""
        found = self.a.column(column)
        return sliced(
            [found[row] for row in self.rows_a.tolist()],
            self.score_a - self.score_b,
            self.documents,
            seed=self.seed,
        )

    @property
    def only_in_a(self) -> int:
        """Questions of a that b has not; they are in no number here."""
        return len(self.a) - len(self)

    @property
    def only_in_b(self) -> int:
        """Questions of b that a has not; they are in no number here."""
        return len(self.b) - len(self)

    @cached_property
    def other_references(self) -> int:
        """Questions whose answers in b are not those in a, in whatever order: their scores are set
        side by side all the same."""
        in_a, in_b = self.a.column("answers"), self.b.column("answers")
        pairs = zip(self.rows_a.tolist(), self.rows_b.tolist(), strict=True)
        return sum(sorted(in_a[row_a]) != sorted(in_b[row_b]) for row_a, row_b in pairs)

    @property
    def summary(self) -> dict[str, Any]:
        """The comparison, ready for JSON; numbers that could not be computed are None."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "metric": self.label,
            "variant": self.a.variant.name,
            "questions": len(self),
            "only_in_a": self.only_in_a,
            "only_in_b": self.only_in_b,
            "other_references": self.other_references,
            "missing_a": list(self.a.missing),
            "missing_b": list(self.b.missing),
            "skipped_lines_a": [asdict(line) for line in self.a.skipped],
            "skipped_lines_b": [asdict(line) for line in self.b.skipped],
            "mean_a": self.mean_a.as_json(),
            "mean_b": self.mean_b.as_json(),
            "difference": self.difference.as_json(),
            "p_value": known(self.p_value),
            "p_value_by": self.p_value_by,
            "detectable_difference": known(self.detectable),
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "flipped_to_a": [self.question_id[row] for row in self.flipped_to_a.tolist()],
            "flipped_to_b": [self.question_id[row] for row in self.flipped_to_b.tolist()],
        }

    def summary_by(self, columns: Sequence[str]) -> dict[str, Any]:
        """The summary, with the differences of the slices of some columns under "by"."""
        return {**self.summary, "by": {name: as_json(self.slices(name)) for name in columns}}

    def to_json(self, path: Path | str, by: Sequence[str] = ()) -> None:
        """Writes `summary_by`. Raises `InputError`."""
        summary = self.summary_by(by)
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(Path(path), lambda file: file.write(text.encode()))

    def __repr__(self) -> str:
        from florence_eval.rendering import comparison_grids, plain

        return plain(comparison_grids(self))

    def _repr_html_(self) -> str:
        from florence_eval.rendering import comparison_grids, html

        return html(comparison_grids(self))


def compare(a: Scores | Path | str, b: Scores | Path | str, *, seed: int = 0) -> Comparison:
    """Compares two models' scores, or files of predictions to be scored as `score` does by default.

    Questions are matched by id; those of one side only are counted and left out, and those with
    other references on either side are counted. Raises `InputError` where none match, or where the
    two were scored by different metrics or variants.
    """
    a = a if isinstance(a, Scores) else score(a)
    b = b if isinstance(b, Scores) else score(b)
    if a.variant != b.variant:
        raise InputError(
            f"variant: {a.name} was scored with {a.variant.name}, {b.name} with {b.variant.name}; "
            "one variant for both is accepted"
        )
    place_in_b = {identity: row for row, identity in enumerate(b.column("question_id"))}
    pairs = [
        (row, place_in_b[identity])
        for row, identity in enumerate(a.column("question_id"))
        if identity in place_in_b
    ]
    if not pairs:
        raise InputError(f"question_id: {a.name} and {b.name} have no question in common")
    rows_a, rows_b = np.array(pairs).T
    metric_a, metric_b = a.column("metric"), b.column("metric")
    for row_a, row_b in pairs:
        if metric_a[row_a] != metric_b[row_b]:
            raise InputError(
                f"metric: question {a.column('question_id')[row_a]!r} was scored with "
                f"{metric_a[row_a]} in {a.name} and with {metric_b[row_b]} in {b.name}"
            )
    return Comparison(a, b, rows_a, rows_b, seed)
