"""What the report's script knows of each question: an index of all, and texts in parts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from florence_eval import arrow_columns
from florence_eval.comparison import Comparison
from florence_eval.error_report.differences import Pair, aligned
from florence_eval.error_report.facets import Facet, facets_of, further_columns, metadata_of
from florence_eval.metrics import Metric
from florence_eval.scores import Scores

PART = 1_000
"""Questions whose texts are in one part."""

CHANGES = ("fixed", "broken", "better", "worse", "same", "new")
"""Of a comparison: the score crossed 0.5 for the better or worse, changed otherwise, is the same,
or the question was not in the other file."""


class Answer(msgspec.Struct, frozen=True):
    """A prediction beside its nearest reference.

    pairs: `differences.aligned`, where a part that is the same in both stands once.
    similarity: before the threshold. score, category: as in the table.
    """

    pairs: list[str | Pair]
    similarity: float
    score: float
    category: str


class Texts(msgspec.Struct, frozen=True):
    """A question as it is shown: `others` are the accepted answers besides the nearest."""

    question: str
    answer: Answer
    others: list[str]
    document: str
    image: str
    metric: str
    facts: dict[str, str]
    before: Answer | None = None


@dataclass(frozen=True)
class Questions:
    """The N questions of an error report.

    scores: the predictions reported on.
    comparison: of them with others, or None.
    """

    scores: Scores
    comparison: Comparison | None = None

    @cached_property
    def facets(self) -> list[Facet]:
        """What questions are sliced by and filtered with, the change first in a comparison."""
        changes = [] if self.comparison is None else [_changes(self.comparison)]
        return [*changes, *facets_of(self.scores)]

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def images(self) -> list[str]:
        """The ids of the pages that are asked about, each once."""
        return list(dict.fromkeys(each for each in self.scores.column("image") if each is not None))

    def index(self, pages: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """What sorting, filtering and the list need; `pages` are the width and height of each of
        `images`, (0, 0) where there is none."""
        place = {image: number for number, image in enumerate(self.images)}
        has_page = [bool(width) for width, _ in pages]
        on = [place.get(image, -1) for image in self.scores.column("image")]
        found: dict[str, Any] = {
            "part": PART,
            "ids": self.scores.column("question_id"),
            "scores": rounded(self.scores.values("score")),
            "worst": self.worst.tolist(),
            "page": [number if number >= 0 and has_page[number] else -1 for number in on],
            "sizes": pages,
            "facets": [
                {
                    "key": facet.key,
                    "title": facet.title,
                    "labels": facet.labels,
                    "codes": [codes[0] if len(codes) == 1 else codes for codes in facet.codes],
                }
                for facet in self.facets
            ],
        }
        if self.comparison is not None:
            found["gains"] = rounded(self.gains)
        return found

    @property
    def worst(self) -> NDArray[np.int64]:
        """All positions, the worst score first, among equals the least similar."""
        metrics = self.scores.rows["metric"].to_pylist()
        sign = np.array([1.0 if Metric.parse(name).lower_is_better else -1.0 for name in metrics])
        badness = sign * self.scores.values("score")
        return np.lexsort((self.scores.values("similarity"), -badness))

    @property
    def gains(self) -> NDArray[np.float64]:
        """How much better each question became, (N,) float64, 0 where it is new."""
        found = np.zeros(len(self))
        if self.comparison is not None:
            found[self.comparison.rows_a] = self.comparison.gain
        return found

    def texts(self) -> Iterator[list[Texts]]:
        """The texts of all questions, in order, `PART` at a time."""
        facts = _facts(self.scores)
        before_at = self._positions_before
        for start in range(0, len(self), PART):
            rows = self.scores.rows.slice(start, PART).to_pylist()
            positions = range(start, start + len(rows))
            answers = answers_of(self.scores, positions)
            before: dict[int, Answer] = {}
            if self.comparison is not None:
                known = [row for row in positions if row in before_at]
                theirs = answers_of(self.comparison.b, [before_at[row] for row in known])
                before = dict(zip(known, theirs, strict=True))
            yield [
                Texts(
                    row["question"] or "",
                    answer,
                    _others(row["answers"], row["best_index"]),
                    row["doc_id"],
                    row["image"] or "",
                    self.scores.label(row["metric"]),
                    next(facts),
                    before.get(position),
                )
                for position, row, answer in zip(positions, rows, answers, strict=True)
            ]

    @property
    def _positions_before(self) -> dict[int, int]:
        if self.comparison is None:
            return {}
        pairs = self.comparison.rows_a.tolist(), self.comparison.rows_b.tolist()
        return dict(zip(*pairs, strict=True))


def answers_of(scores: Scores, positions: Sequence[int]) -> list[Answer]:
    """The answers at some positions of a table."""
    columns = ["prediction", "best_answer", "similarity", "score", "category"]
    chosen = np.array(positions, np.int64)
    rows = arrow_columns.take(scores.rows.select(columns), chosen).to_pylist()
    fold_case = scores.variant.fold_case
    return [
        Answer(
            [
                pair[0] if pair[0] == pair[1] else pair
                for pair in aligned(row["prediction"], row["best_answer"], fold_case=fold_case)
            ],
            round(row["similarity"], 4),
            round(row["score"], 4),
            row["category"],
        )
        for row in rows
    ]


def _changes(comparison: Comparison) -> Facet:
    """What became of each question of `comparison.a`: one of `CHANGES`."""
    gain = comparison.gain
    crossed = np.zeros(len(gain), np.bool_)
    crossed[comparison.flipped_to_a] = crossed[comparison.flipped_to_b] = True
    known = np.select(
        [crossed & (gain > 0), crossed & (gain < 0), gain > 0, gain < 0],
        [CHANGES.index(name) for name in ("fixed", "broken", "better", "worse")],
        CHANGES.index("same"),
    )
    codes = np.full(len(comparison.a), CHANGES.index("new"))
    codes[comparison.rows_a] = known
    return Facet("change", "change", list(CHANGES), [[code] for code in codes.tolist()])


def rounded(values: NDArray[np.float64]) -> list[float]:
    """Values as the page shows and filters them."""
    found: list[float] = np.round(values, 4).tolist()
    return found


def _facts(scores: Scores) -> Iterator[dict[str, str]]:
    """What else the table says of each question: other metrics, further columns, metadata; what is
    no text as JSON, because JavaScript has not every number that JSON may have."""
    headline = scores.column("metric")
    measured = {
        name: (scores.label(name), rounded(scores.values(name))) for name in scores.metric_columns
    }
    further = further_columns(scores)
    for row, metadata in enumerate(metadata_of(scores)):
        facts: dict[str, Any] = {
            label: values[row]
            for name, (label, values) in measured.items()
            if name != headline[row] and not math.isnan(values[row])
        }
        facts |= {name: cells[row] for name, cells in further.items() if cells[row] is not None}
        if metadata:
            del facts["metadata"]
        yield {
            name: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
            for name, fact in (facts | metadata).items()
        }


def _others(answers: list[str], best: int) -> list[str]:
    return list(dict.fromkeys(answers[:best] + answers[best + 1 :]))
