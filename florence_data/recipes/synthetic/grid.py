"""Tables of text in columns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from florence_data.recipes.synthetic.canvas import Align, Canvas, Ink


@dataclass(frozen=True)
class Column:
    """A column: its head, its share of the width, and where its cells stand."""

    title: str
    share: float
    align: Align = "left"


@dataclass(frozen=True)
class Grid:
    """A table that was drawn: the ink of each head and, row by row, of each cell."""

    heads: tuple[Ink, ...]
    cells: tuple[tuple[Ink, ...], ...]
    bottom: float


def draw_grid(
    canvas: Canvas,
    rng: random.Random,
    top: float,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    left: float = 90,
    right: float = 1185,
    row_height: float,
    last_bold: bool = False,
) -> Grid:
    """Draw a table in one of several looks: ruled, boxed, striped or bare."""
    look = rng.choice(("ruled", "boxed", "striped", "bare"))
    filled = rng.random() < 0.5
    bottom = top + row_height * (len(rows) + 1)
    unit = (right - left) / sum(column.share for column in columns)
    edges = [left]
    for column in columns:
        edges.append(edges[-1] + column.share * unit)

    canvas.mark(left, top, right, bottom)
    if filled:
        canvas.rectangle(left, top, right, top + row_height, fill=canvas.style.accent)
    if look == "striped":
        for number in range(1, len(rows) + 1, 2):
            y = top + row_height * number
            canvas.rectangle(left, y, right, y + row_height, fill="#ececec")
    if look in ("ruled", "boxed"):
        for number in range(len(rows) + 2):
            y = top + row_height * number
            canvas.line(left, y, right, y, 1 if 1 < number <= len(rows) else 2)
    else:
        canvas.line(left, top + row_height, right, top + row_height)
        canvas.line(left, bottom, right, bottom)
    if look == "boxed":
        for edge in edges:
            canvas.line(edge, top, edge, bottom)

    def row(number: int, texts: Sequence[str], bold: bool, color: str | None) -> tuple[Ink, ...]:
        base = top + row_height * (number + 0.5) + canvas.style.size * 0.36
        inks = []
        for column, text, start, end in zip(columns, texts, edges[:-1], edges[1:], strict=True):
            x = {"left": start + 10, "right": end - 10, "center": (start + end) / 2}[column.align]
            inks.append(
                canvas.text(
                    x,
                    base,
                    text,
                    bold=bold,
                    color=color,
                    align=column.align,
                    max_width=end - start - 20,
                )
            )
        return tuple(inks)

    heads = row(0, [column.title for column in columns], True, "#ffffff" if filled else None)
    cells = tuple(
        row(number, texts, last_bold and number == len(rows), None)
        for number, texts in enumerate(rows, start=1)
    )
    return Grid(heads, cells, bottom)
