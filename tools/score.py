"""Score a file of predictions: metrics with intervals, slices, categories of error.

Exit code 0; 1 where the headline score is below --fail-under; 2 for bad input.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

import florence_eval
from florence_eval import InputError


@dataclass(frozen=True)
class Options:
    """The options of `florence_eval.score`, and what to do with its result."""

    predictions: Annotated[Path, tyro.conf.Positional]
    """JSONL of predictions, RRC submission (.json), lmms-eval sample log or VLMEvalKit table."""
    references: Path | None = None
    """Answers, where the predictions don't carry them: own JSONL or an RRC ground truth."""
    metric: tuple[str, ...] = ("auto",)
    """auto (the standard of each question's source), or names; the first is the headline."""
    variant: str = "official"
    """Of ANLS: official, paper or seed, and switches: official+strip_period+unicode=nfkc."""
    by: tuple[str, ...] = ()
    """Columns to slice the headline score by."""
    out: Path | None = None
    """Folder for table.parquet, table.csv and summary.json."""
    compare: Path | None = None
    """Another model's predictions for the same questions."""
    fail_under: float | None = None
    """Exit with 1 where the headline score, from 0 to 1, is below (for cer and wer: above)."""
    format: Literal["table", "json", "markdown"] = "table"
    """What to print."""
    on_missing: Literal["error", "zero"] = "error"
    """References without a prediction: an error, or scored zero."""
    on_bad_line: Literal["error", "skip"] = "error"
    """Lines that cannot be read: an error, or skipped, counted and listed last."""


def main(options: Options) -> int:
    scores = _score(options, options.predictions)
    comparison = None
    if options.compare is not None:
        from florence_eval import compare

        comparison = compare(scores, _score(options, options.compare))
    reached = options.fail_under is None or scores.reaches(options.fail_under)
    if options.format == "json":
        summary = dict(scores.summary)
        if options.by:
            summary["by"] = {
                column: {each.label: each.estimate.as_json() for each in scores.slices(column)}
                for column in options.by
            }
        if comparison is not None:
            summary["comparison"] = comparison.summary
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        from florence_eval.rendering import (
            comparison_grids,
            markdown,
            plain,
            print_rich,
            summary_grids,
        )

        grids = comparison_grids(comparison, options.by) if comparison is not None else []
        grids += summary_grids(scores, options.by)
        if options.format == "markdown":
            print(markdown(grids))
        elif sys.stdout.isatty():
            print_rich(grids)
        else:
            print(plain(grids))
    if options.out is not None:
        scores.write(options.out)
    return 0 if reached else 1


def _score(options: Options, predictions: Path) -> florence_eval.Scores:
    return florence_eval.score(
        predictions,
        options.references,
        metric=options.metric,
        variant=options.variant,
        columns=options.by,
        on_missing=options.on_missing,
        on_bad_line=options.on_bad_line,
    )


if __name__ == "__main__":
    try:
        raise SystemExit(main(tyro.cli(Options, description=__doc__)))
    except InputError as error:
        print(f"score.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
