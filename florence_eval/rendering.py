"""Scores and comparisons as grids of text, for a terminal, a pipe, Markdown or a notebook."""

from __future__ import annotations

import html as html_text
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from florence_eval.comparison import Comparison
    from florence_eval.scores import Scores
    from florence_eval.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Grid:
    """A titled table of text; the first column is left-aligned, the others right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


_ESTIMATE_HEADER = ("mean", "95 % interval", "bootstrap", "n", "documents")


def summary_grids(scores: Scores, by: Sequence[str] = ()) -> list[Grid]:
    """What `Scores` prints: the metrics, the slices of the columns asked for, the categories."""
    notes = [f"intervals over documents ({scores.documents_by}); scores from 0 to 1"]
    if scores.documents_by == "question_id":
        notes = ["intervals over questions: no doc_id or image tells documents apart"]
    notes += _left_out(scores)
    metrics = [
        (scores.label(name), *_estimate_cells(scores.estimate(name)))
        for name in scores.metric_columns
    ]
    if len(scores.metrics_taken) > 1:
        metrics.append((f"score, {scores.headline}", *_estimate_cells(scores.score)))
    grids = [Grid("", ("metric", *_ESTIMATE_HEADER), tuple(metrics))]
    for column in by:
        rows = tuple(
            (each.label, *_estimate_cells(each.estimate)) for each in scores.slices(column)
        )
        grids.append(Grid(f"{scores.headline} by {column}", (column, *_ESTIMATE_HEADER), rows))
    categories = tuple(
        (name, str(count), f"{count / len(scores):.1%}")
        for name, count in scores.categories.items()
        if count
    )
    grids.append(Grid("", ("category", "n", "share"), categories, tuple(notes)))
    return grids


def comparison_grids(comparison: Comparison, by: Sequence[str] = ()) -> list[Grid]:
    """What `Comparison` prints."""
    difference = comparison.difference
    label = comparison.label
    means = Grid(
        f"{label}: a is {comparison.a.name}, b is {comparison.b.name}",
        ("", *_ESTIMATE_HEADER),
        (
            ("a", *_estimate_cells(comparison.mean_a)),
            ("b", *_estimate_cells(comparison.mean_b)),
            ("a - b", *_estimate_cells(difference, signed=True)),
        ),
        (
            f"p {_number(comparison.p_value)} ({comparison.p_value_by}); "
            f"smallest difference that could have been shown {_number(comparison.detectable)}",
            f"a better {comparison.wins}, b better {comparison.losses}, equal {comparison.ties}; "
            f"flipped {len(comparison.flipped_to_a)} to a, {len(comparison.flipped_to_b)} to b",
            f"left out: {comparison.only_in_a} only in a, {comparison.only_in_b} only in b",
            *_other_references(comparison),
            *_left_out(comparison.a, " in a"),
            *_left_out(comparison.b, " in b"),
        ),
    )
    grids = [means]
    for column in by:
        rows = tuple(
            (each.label, *_estimate_cells(each.estimate, signed=True))
            for each in comparison.slices(column)
        )
        grids.append(Grid(f"a - b, {label}, by {column}", (column, *_ESTIMATE_HEADER), rows))
    return grids


def _left_out(scores: Scores, where: str = "") -> list[str]:
    """What of a file is in no number, or counts as wrong unseen."""
    notes = []
    if scores.missing:
        notes.append(f"{len(scores.missing)} questions were not answered{where}: the worst score")
    if scores.skipped:
        notes.append(f"{len(scores.skipped)} lines{where} could not be scored and were skipped:")
        notes += [f"  line {line.line}: {line.problem}" for line in scores.skipped]
    return notes


def _other_references(comparison: Comparison) -> list[str]:
    if not comparison.other_references:
        return []
    return [f"{comparison.other_references} questions have other references in b than in a"]


def plain(grids: Sequence[Grid]) -> str:
    """Grids as aligned text."""
    return "\n\n".join("\n".join(_plain_lines(grid)) for grid in grids)


def markdown(grids: Sequence[Grid]) -> str:
    """Grids as Markdown tables."""
    parts = []
    for grid in grids:
        lines = [f"**{_markdown_cell(grid.title)}**", ""] if grid.title else []
        lines.append(_markdown_row(grid.header))
        lines.append(_markdown_row(["---", *["---:"] * (len(grid.header) - 1)], escape=False))
        lines += map(_markdown_row, grid.rows)
        parts.append("\n".join(lines))
        parts += [_markdown_cell(note) for note in grid.notes]
    return "\n\n".join(parts)


def html(grids: Sequence[Grid]) -> str:
    """Grids as HTML tables, for a notebook; every text is escaped."""
    parts = []
    for grid in grids:
        if grid.title:
            parts.append(f"<p><b>{html_text.escape(grid.title)}</b></p>")
        rows = [_html_row("th", grid.header), *(_html_row("td", row) for row in grid.rows)]
        parts.append(f"<table>{''.join(rows)}</table>")
        parts += [f"<p>{html_text.escape(note)}</p>" for note in grid.notes]
    return "\n".join(parts)


def print_rich(grids: Sequence[Grid]) -> None:
    """Prints grids on a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for grid in grids:
        table = Table(title=Text(grid.title) if grid.title else None, title_justify="left")
        for place, name in enumerate(grid.header):
            table.add_column(Text(name), justify="right" if place else "left")
        for row in grid.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for note in grid.notes:
            console.print(Text(note))


def _estimate_cells(estimate: Estimate, *, signed: bool = False) -> tuple[str, ...]:
    def interval(low: float, high: float) -> str:
        return "-" if math.isnan(low) else f"{_number(low, signed)} to {_number(high, signed)}"

    return (
        _number(estimate.mean, signed),
        interval(estimate.low, estimate.high),
        interval(estimate.bootstrap_low, estimate.bootstrap_high),
        str(estimate.questions),
        str(estimate.documents),
    )


def _number(value: float, signed: bool = False) -> str:
    return "-" if math.isnan(value) else f"{value:+.4f}" if signed else f"{value:.4f}"


def _plain_lines(grid: Grid) -> list[str]:
    cells = [grid.header, *grid.rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(grid.header))]
    lines = [grid.title] if grid.title else []
    for row in cells:
        aligned = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return [*lines, *grid.notes]


def _markdown_row(cells: Sequence[str], *, escape: bool = True) -> str:
    return "| " + " | ".join(_markdown_cell(cell) if escape else cell for cell in cells) + " |"


def _markdown_cell(text: str) -> str:
    escaped = html_text.escape(text, quote=False)
    return " ".join(escaped.replace("\\", "\\\\").replace("|", "\\|").split())


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html_text.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
