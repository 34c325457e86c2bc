"""The first screen of an error report, as HTML: headline, categories, distribution, slices."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from florence_eval.error_report.escaping import text
from florence_eval.error_report.facets import Facet
from florence_eval.error_report.questions import Questions, rounded
from florence_eval.metrics import Metric
from florence_eval.rendering import comparison_grids, summary_grids
from florence_eval.rendering import html as grids_as_html
from florence_eval.slices import sliced
from florence_eval.statistics import Estimate

Column = tuple[str, str]
"""A column's name, "" for the bars, and its kind."""

MEANINGS = {
    "exact": "equals an answer as it stands",
    "case_or_space": "equals one but for case and white space",
    "empty": "no answer was given",
    "yes_no_flipped": "says yes where it is no, or no where it is yes",
    "punctuation": "equals one but for punctuation",
    "number_format": "the same number or date, written otherwise",
    "repetition": "says one thing over and over",
    "over_long": "an answer, and more words around it",
    "truncated": "a part of an answer",
    "near_miss": "at least half of the characters agree",
    "wrong_field": "the answer to another question on this document",
    "wrong_number": "another number or date",
    "other_reference_nearer": "resembles the answer to another question on this document",
    "wrong": "none of the others",
}


def title(questions: Questions) -> str:
    """What the report is about."""
    compared = questions.comparison
    return file_name(questions.scores.name) + (
        "" if compared is None else f" compared with {file_name(compared.b.name)}"
    )


def file_name(path: str) -> str:
    return PurePath(path).name


def headline(questions: Questions) -> str:
    """The score with its interval, or, in a comparison, the difference with its interval."""
    scores, comparison = questions.scores, questions.comparison
    label = text(scores.headline)
    if comparison is None:
        of = scores.score
        return (
            f'<p class="figure"><strong>{_share(of.mean)}</strong> <span>{label}</span></p>'
            f'<p class="interval">{_interval(of)}</p>'
            f'<p class="basis">{_basis(of, scores.documents_by)}</p>'
        )
    of = comparison.difference
    counts = ", ".join(
        f'<a href="{_address(change=name)}">{count:,} {name}</a>'
        for name, count in _counts(questions.facets[0]).items()
        if count
    )
    left_out = [
        f"{count:,} only in {text(name)}"
        for count, name in (
            (comparison.only_in_a, file_name(comparison.a.name)),
            (comparison.only_in_b, file_name(comparison.b.name)),
        )
        if count
    ]
    return (
        f'<p class="figure"><strong>{_share(of.mean, signed=True)}</strong> '
        f"<span>{label}, from {_share(comparison.mean_b.mean)} "
        f"to {_share(comparison.mean_a.mean)}</span></p>"
        f'<p class="interval">{_interval(of, signed=True)}, '
        f"p&nbsp;=&nbsp;{comparison.p_value:.4f} ({text(comparison.p_value_by)})</p>"
        f'<p class="basis">{_basis(of, scores.documents_by)}</p>'
        f'<p class="basis">{counts}{"; not compared: " if left_out else ""}'
        f"{', '.join(left_out)}</p>"
    )


def categories(questions: Questions) -> str:
    """A table of the categories that occur, most frequent first, each a link to its questions."""
    facet = next(each for each in questions.facets if each.key == "category")
    counts = _counts(facet)
    comparison = questions.comparison
    before = comparison.b.categories if comparison is not None else {}
    total, widest = len(questions), max(counts.values())
    ordered = sorted(facet.labels, key=lambda name: -counts[name])
    rows = [
        _row(
            _link("category", name, name.replace("_", " "), MEANINGS[name]),
            _cell(_bar(counts[name] / widest), 0, "bar"),
            _cell(f"{counts[name]:,}", counts[name]),
            _cell(f"{counts[name] / total:.1%}", counts[name]),
            *(
                [_cell(_signed(counts[name] - before[name]), counts[name] - before[name])]
                if before
                else []
            ),
        )
        for name in ordered
        if counts[name] or before.get(name)
    ]
    columns = [
        ("Category", "label"),
        ("", "bar"),
        ("Questions", "number"),
        ("Share", "number"),
        *([("Change", "number")] if before else []),
    ]
    return _table("Categories", columns, rows)


def distribution(questions: Questions) -> str:
    """A histogram of the scores as SVG, each bar a link to its questions."""
    scores = questions.scores
    values = np.array(rounded(scores.values("score")))
    bins = list(_bins(values))
    counts = [each.count(values) for each in bins]
    comparison = questions.comparison
    before = [0] * len(bins)
    if comparison is not None:
        values_before = np.array(rounded(comparison.b.values("score")))
        before = [each.count(values_before) for each in bins]
    tallest = max([*counts, *before, 1])
    step, width, height, base = 46, 36, 150, 172
    parts = []
    for place, (each, count, earlier) in enumerate(zip(bins, counts, before, strict=True)):
        left, size = place * step + 5, round(count / tallest * height, 1)
        middle = left + width / 2
        said = f"{count:,} questions score {each.said}"
        outline = ""
        if comparison is not None:
            said += f", {earlier:,} before"
            tall = round(earlier / tallest * height, 1)
            outline = (
                f'<rect class="before" x="{left - 2}" y="{base - tall}" '
                f'width="{width + 4}" height="{tall}"/>'
            )
        parts.append(
            f'<a href="{_address(min=each.low, max=each.high)}" aria-label="{said}">'
            f"<title>{said}</title>"
            f'<rect class="reach" x="{left - 5}" y="0" width="{step}" height="{base}"/>'
            f'<rect class="value" x="{left}" y="{base - size}" width="{width}" height="{size}"/>'
            f"{outline}"
            f'<text x="{middle}" y="{base - size - 5}">{_short_count(count) if count else ""}'
            f'</text><text class="axis" x="{middle}" y="{base + 16}">{each.label}</text></a>'
        )
    key = "Bars are now, outlines before." if comparison is not None else ""
    return (
        f"<h2>Scores</h2>"
        f'<svg class="histogram" viewBox="0 0 {step * len(bins)} {base + 22}" role="group" '
        f'aria-label="Distribution of scores">{"".join(parts)}'
        f'<line x1="0" x2="{step * len(bins)}" y1="{base}" y2="{base}"/></svg>'
        f'<p class="note">{text(scores.headline)} of each question. {key}</p>'
    )


def slices(questions: Questions) -> str:
    """For each facet but the category and the change, a sortable table of its labels."""
    tables = [
        _compared(questions, facet)
        if questions.comparison is not None
        else _scored(questions, facet)
        for facet in questions.facets
        if facet.key not in ("category", "change")
    ]
    if tables and "Lost" in tables[0]:
        tables.append(
            '<p class="note">Lost: how much higher the score would be if all of these questions '
            "scored 1.</p>"
        )
    if not tables:
        return (
            '<p class="note">No slices: nothing in the predictions tells kinds of questions apart.'
            "</p>"
        )
    return "".join(tables)


def details(questions: Questions, pages: str) -> str:
    """How the numbers were computed, and everything that is in none of them."""
    scores, comparison = questions.scores, questions.comparison
    grids = [] if comparison is None else comparison_grids(comparison)
    summary = summary_grids(scores)
    switches = ", ".join(
        f"{name} {json.dumps(value)}" for name, value in scores.summary["switches"].items()
    )
    return (
        f"<p>{text(scores.name)}</p>{grids_as_html([*grids, summary[0]])}"
        f"<p>ANLS variant {text(scores.variant.name)}: {text(switches)}.</p>"
        + "".join(f"<p>{text(note)}</p>" for note in (*summary[-1].notes, pages) if note)
    )


@dataclass(frozen=True)
class _Bin:
    """Scores from `low` to `high`, both included, as the page rounds them."""

    low: float
    high: float
    label: str

    @property
    def said(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"

    def count(self, values: NDArray[np.float64]) -> int:
        return int(((values >= self.low) & (values <= self.high)).sum())


def _bins(values: NDArray[np.float64]) -> Iterator[_Bin]:
    """0, ten parts of what lies between, and 1 (or the highest score, above 1)."""
    top = max(1.0, float(values.max()))
    edges = [round(top * part / 10, 4) for part in range(11)]
    yield _Bin(0.0, 0.0, "0")
    for low, high in pairwise(edges):
        yield _Bin(max(low, 0.0001), round(high - 0.0001, 4), f"{low:g}\u2013" if low else "&gt;0")
    yield _Bin(top, top, f"{top:g}")


def _scored(questions: Questions, facet: Facet) -> str:
    scores = questions.scores
    metrics = [Metric.parse(name) for name in scores.metrics_taken]
    shares = not any(metric.lower_is_better or metric.of_corpus for metric in metrics)
    found = sliced(facet.values, scores.values("score"), scores.documents, seed=0)
    top = max(1.0, *(each.estimate.mean for each in found))

    def lost(of: Estimate) -> float:
        return (1 - of.mean) * of.questions / len(scores)

    if shares:
        found.sort(key=lambda each: -lost(each.estimate))
    rows = [
        _row(
            _link(facet.key, each.label, each.label),
            _cell(f"{each.estimate.questions:,}", each.estimate.questions),
            _cell(_share(each.estimate.mean), each.estimate.mean),
            _cell(_scored_bar(each.estimate, top), each.estimate.mean, "bar"),
            _cell(_between(each.estimate), each.estimate.low, "between"),
            *([_cell(_share(lost(each.estimate)), lost(each.estimate))] if shares else []),
        )
        for each in found
    ]
    columns = [
        (facet.title, "label"),
        ("Questions", "number"),
        ("Score", "number"),
        ("", "bar"),
        ("95 % interval", "between"),
        *([("Lost", "number")] if shares else []),
    ]
    return _table(f"By {facet.title}", columns, rows)


def _compared(questions: Questions, facet: Facet) -> str:
    comparison = questions.comparison
    assert comparison is not None
    values = facet.values
    labels = [values[row] for row in comparison.rows_a.tolist()]
    found = sliced(labels, comparison.score_a - comparison.score_b, comparison.documents, seed=0)
    top = max(
        [0.01, *(abs(end) for each in found for end in _ends(each.estimate))],
    )
    rows = []
    for each in found:
        of = each.estimate
        chosen = np.array([each.label in own for own in labels])
        mean_b = float(comparison.score_b[chosen].mean())
        rows.append(
            _row(
                _link(facet.key, each.label, each.label),
                _cell(f"{of.questions:,}", of.questions),
                _cell(_share(mean_b), mean_b),
                _cell(_share(mean_b + of.mean), mean_b + of.mean),
                _cell(_share(of.mean, signed=True), of.mean),
                _cell(_change_bar(of, top), of.mean, "bar"),
                _cell(_between(of, signed=True), of.low, "between"),
            )
        )
    columns = [
        (facet.title, "label"),
        ("Questions", "number"),
        ("Before", "number"),
        ("After", "number"),
        ("Change", "number"),
        ("", "bar"),
        ("95 % interval", "between"),
    ]
    return _table(f"By {facet.title}", columns, rows)


def _table(caption: str, columns: Sequence[Column], rows: Sequence[str]) -> str:
    cells = "".join(_heading(*column) for column in columns)
    return (
        f'<div class="table"><table class="sortable"><caption>{text(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(name: str, kind: str) -> str:
    if not name:
        return f'<td class="{kind}"></td>'
    return f'<th scope="col" class="{kind}"><button type="button">{text(name)}</button></th>'


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(content: str, value: float, kind: str = "number") -> str:
    return f'<td class="{kind}" data-value="{value:.9g}">{content}</td>'


def _link(key: str, label: str, shown: str, meaning: str = "") -> str:
    note = f"<small>{text(meaning)}</small>" if meaning else ""
    return (
        f'<th scope="row" data-value="{text(label)}">'
        f'<a href="{_address(**{key: label})}"><bdi>{text(shown)}</bdi></a>{note}</th>'
    )


def _address(**filters: str | float) -> str:
    """The address of the questions that a filter leaves."""
    return text("#" + urlencode(filters))


def _bar(share: float) -> str:
    return _svg(f'<rect class="value" width="{_x(share)}" height="10"/>')


def _scored_bar(of: Estimate, top: float) -> str:
    drawn = f'<rect class="value" width="{_x(of.mean / top)}" height="10"/>'
    low, high = (min(max(end / top, 0.0), 1.0) for end in _ends(of))
    if high > low:
        drawn += f'<rect class="whisker" x="{_x(low)}" width="{_x(high - low)}" y="4" height="2"/>'
    return _svg(drawn)


def _change_bar(of: Estimate, top: float) -> str:
    def place(value: float) -> float:
        return 0.5 + value / top / 2

    start, end = sorted((0.5, place(of.mean)))
    kind = "up" if of.mean > 0 else "down"
    drawn = f'<rect class="{kind}" x="{_x(start)}" width="{_x(end - start)}" height="10"/>'
    low, high = map(place, _ends(of))
    drawn += f'<rect class="whisker" x="{_x(low)}" width="{_x(high - low)}" y="4" height="2"/>'
    return _svg(drawn + '<rect class="zero" x="99.5" width="1" height="10"/>')


def _svg(drawn: str) -> str:
    return (
        '<svg class="bar" viewBox="0 0 200 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="200" height="10"/>{drawn}</svg>'
    )


def _x(share: float) -> str:
    return f"{200 * share:.1f}"


def _ends(of: Estimate) -> tuple[float, float]:
    """The interval; the mean alone where one document has none."""
    return (of.mean, of.mean) if math.isnan(of.low) else (of.low, of.high)


def _share(value: float, *, signed: bool = False) -> str:
    written = f"{value:+.3f}" if signed else f"{value:.3f}"
    return written.replace("-", "\u2212")


def _signed(count: int) -> str:
    return f"{count:+,}".replace("-", "\u2212") if count else "0"


def _between(of: Estimate, *, signed: bool = False) -> str:
    if math.isnan(of.low):
        return '<span title="one document has no interval">\u2013</span>'
    return f"{_share(of.low, signed=signed)} to {_share(of.high, signed=signed)}"


def _interval(of: Estimate, *, signed: bool = False) -> str:
    if math.isnan(of.low):
        return "one document has no interval"
    return f"95&nbsp;% interval {_between(of, signed=signed)}"


def _basis(of: Estimate, documents_by: str) -> str:
    if documents_by == "question_id":
        return f"{of.questions:,} questions; none is known to share its document with another"
    return f"{of.questions:,} questions on {of.documents:,} documents"


def _counts(facet: Facet) -> dict[str, int]:
    counts = np.bincount([code for codes in facet.codes for code in codes])
    padded = [*counts.tolist(), *[0] * (len(facet.labels) - len(counts))]
    return dict(zip(facet.labels, padded, strict=True))


def _short_count(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else f"{count:,}"
