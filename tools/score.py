"""Score a file of predictions: metrics with intervals, slices, categories of error.

Exit code 0; 1 where the headline score is below --fail-under; 2 for bad input or where the result
cannot be written; 141, in silence, where the reader of a pipe has gone (as shells have it: 128 +
SIGPIPE).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

import florence_eval
from florence_eval import InputError

if TYPE_CHECKING:
    from florence_eval import Comparison, Scores
    from florence_eval.error_report import Written


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
    """Folder for table.parquet, table.csv, summary.json and, of --compare, comparison.json."""
    compare: Path | None = None
    """Another model's predictions for the same questions; in a report, those before."""
    report: bool = False
    """Also write report.html into --out: every question to browse, and where the model is wrong."""
    images: Path | None = None
    """Shards with the pages of the questions, for the report (which this implies)."""
    single_file: bool = False
    """Write the report as one file with thumbnails (implies --report)."""
    fail_under: float | None = None
    """Exit with 1 where the headline score is below this share, 0 to 1 (cer and wer: above)."""
    format: Literal["table", "json", "markdown"] = "table"
    """What to print."""
    on_missing: Literal["error", "zero"] = "error"
    """References without a prediction: an error, or scored zero."""
    on_bad_line: Literal["error", "skip"] = "error"
    """Lines that cannot be read or scored: an error, or skipped, counted and listed last."""

    @property
    def wants_report(self) -> bool:
        return self.report or self.images is not None or self.single_file


def main(options: Options) -> int:
    if options.out is None and options.wants_report:
        raise InputError("report: --out names the folder to write it into, found none")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out}: a folder is expected, found a file")
    images = None if options.images is None else _pages(options.images)
    further = _further_keys(options.predictions) if options.wants_report else ()
    scores = _score(options, options.predictions, further)
    comparison = None
    if options.compare is not None:
        from florence_eval import compare

        comparison = compare(scores, _score(options, options.compare))
    reached = options.fail_under is None or scores.reaches(options.fail_under)
    written = (
        None if options.out is None else _write(options, options.out, images, scores, comparison)
    )
    _print(options, scores, comparison)
    if written is not None:
        print(written, file=sys.stderr if options.format == "json" else sys.stdout)
    return 0 if reached else 1


def _write(
    options: Options,
    folder: Path,
    images: Callable[[str], bytes | None] | None,
    scores: Scores,
    comparison: Comparison | None,
) -> Written | None:
    """Writes the results, and says what report it wrote, and what an earlier run left."""
    for name, is_written in (
        ("comparison.json", comparison is not None),
        ("report.html", options.wants_report),
    ):
        if not is_written and (folder / name).exists():
            print(f"note: {folder / name} is of an earlier run", file=sys.stderr)
    scores.write(folder)
    if comparison is not None:
        comparison.to_json(folder / "comparison.json", options.by)
    if not options.wants_report:
        return None
    return florence_eval.report(
        scores if comparison is None else comparison,
        folder,
        images=images,
        single_file=options.single_file,
    )


def _print(options: Options, scores: Scores, comparison: Comparison | None) -> None:
    if options.format == "json":
        from florence_eval.slices import as_json

        summary = dict(scores.summary)
        if options.by:
            summary["by"] = {column: as_json(scores.slices(column)) for column in options.by}
        if comparison is not None:
            summary["comparison"] = comparison.summary_by(options.by)
        # JSON has its own escapes for what another encoding lacks.
        ascii_only = (sys.stdout.encoding or "").lower() != "utf-8"
        print(json.dumps(summary, indent=2, ensure_ascii=ascii_only, allow_nan=False))
        return
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


def _score(options: Options, predictions: Path, further: Sequence[str] = ()) -> Scores:
    return florence_eval.score(
        predictions,
        options.references,
        metric=options.metric,
        variant=options.variant,
        columns=tuple(dict.fromkeys((*options.by, *further))),
        on_missing=options.on_missing,
        on_bad_line=options.on_bad_line,
    )


def _further_keys(predictions: Path) -> list[str]:
    """The keys of the first line that the table does not have by itself: a report shows them."""
    from florence_eval.metrics import NAMES

    try:
        with predictions.open(encoding="utf-8-sig") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):  # not lines of JSON; scoring the file says so if it should be
        return []
    if not isinstance(first, dict) or not first.keys() >= {"question_id", "prediction"}:
        return []
    taken = (*NAMES, "variant")
    return [key for key, value in first.items() if value is not None and key not in taken]


def _pages(shards: Path) -> Callable[[str], bytes | None]:
    """What gives the image of a page in shards by the page's id."""
    import florence_data

    try:
        reader = florence_data.ShardReader(shards)
    except florence_data.InputError as error:
        raise InputError(str(error)) from None

    def page(identity: str) -> bytes | None:
        try:
            return reader[identity].image.data
        except KeyError:
            return None
        except florence_data.InputError as error:
            raise InputError(str(error)) from None

    return page


def _discard_output() -> None:
    """Lets what standard output still holds go nowhere: it could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    if sys.stdout is None:  # closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    # A label that the terminal's encoding lacks is printed as an escape.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            code = main(tyro.cli(Options, description=__doc__))
        finally:
            sys.stdout.flush()
    except InputError as error:
        print(f"score.py: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        _discard_output()
        code = 141
    except OSError as error:
        _discard_output()
        print(f"score.py: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        code = 2
    raise SystemExit(code)
