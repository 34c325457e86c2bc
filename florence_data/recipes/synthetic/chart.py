"""Report pages with a chart: bars, lines or a pie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from florence_data.recipes.synthetic.canvas import Canvas, Ink
from florence_data.recipes.synthetic.content import Content, count
from florence_data.recipes.synthetic.question import Question, extreme
from florence_data.recipes.synthetic.vocabulary import DEPARTMENTS

_FIGURE = ("figure/diagram",)
_MEASURES = (
    ("Revenue", "million dollars"), ("Exports", "thousand tons"), ("Staff", "persons"),
    ("Output", "units a day"), ("Accidents", "cases"), ("Rainfall", "mm"), ("Visitors", "hundreds"),
    ("Expenditure", "thousand dollars"), ("Water use", "cubic metres"), ("Orders", "hundreds"),
    ("Complaints", "letters"), ("Sales", "cases"), ("Temperature", "degrees"), ("Stock", "crates"),
    ("Working days", "days"), ("Energy", "MWh"), ("Tests", "samples"), ("Prices", "cents a pound"),
)  # fmt: skip
_COLORS = ("#30507a", "#b0552f", "#4d8050", "#8a6fa8", "#c2a03a", "#5b9aa0", "#a04060", "#707070")


@dataclass(frozen=True)
class _Data:
    """What a chart shows: one number a category, or one a category and series."""

    measure: str
    unit: str
    thing: str
    categories: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]


def draw_chart(canvas: Canvas, content: Content) -> list[Question]:
    """A heading, a sentence with a fact, the chart with its caption, a closing sentence."""
    rng = content.rng
    title = content.topic().capitalize()
    ink = canvas.heading(90, 130, title, 40, max_width=1050)
    questions = [Question("What is the heading of the page?", (title,), (ink,), ("layout",))]

    data = _data(content)
    firm, author = content.company(), content.person()
    text = (
        f"This report was written by {author.text} for {firm} and its branches. The figure shows "
        f"the {data.measure.lower()} in {data.unit} for each {data.thing}."
    )
    paragraph = canvas.paragraph(90, 200, 1095, text)
    questions += [
        Question(
            "Who wrote the report?", author.answers, paragraph.find(author.text), ("free_text",)
        ),
        Question(
            "For which organization was the report written?",
            (firm,),
            paragraph.find(firm),
            ("free_text",),
        ),
    ]

    number = rng.randint(1, 12)
    caption = f"{data.measure} by {data.thing}"
    caption = rng.choice((caption, caption.upper(), f"{caption}, {rng.randrange(1960, 2024)}"))
    top = paragraph.bottom + 40
    canvas.text(90, top, f"Figure {number}.", bold=True)
    ink = canvas.text(
        105 + canvas.width(f"Figure {number}.", bold=True), top, caption, max_width=850
    )
    questions.append(
        Question(
            rng.choice(
                (f"What is the caption of Figure {number}?", "What is the title of the chart?")
            ),
            (caption,),
            (ink,),
            ("figure/diagram", "layout"),
        )
    )
    top += 50
    bottom = top + rng.uniform(520, 760)
    canvas.mark(90, top - 20, 1185, bottom + 90)
    if len(data.series) > 1:
        questions += _draw_lines(canvas, content, data, top, bottom)
    else:
        draw = rng.choice((_draw_columns, _draw_columns, _draw_bars, _draw_pie))
        questions += draw(canvas, content, data, top, bottom)

    source, share = content.pick(DEPARTMENTS), content.percent()
    paragraph = canvas.paragraph(
        90,
        bottom + 130,
        1095,
        f"The figures were collected by the department of {source}. "
        f"They are exact to within {share.text} and replace those of the earlier edition.",
    )
    questions += [
        Question(
            "Which department collected the figures?",
            (source,),
            paragraph.find(source),
            ("free_text",),
        ),
        Question(
            "To within what percentage are the figures exact?",
            share.answers,
            paragraph.find(share.text),
            ("free_text",),
        ),
    ]
    return questions


def _data(content: Content) -> _Data:
    rng = content.rng
    measure, unit = rng.choice(_MEASURES)
    first = rng.randrange(1950, 2015)
    things: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("year", tuple(str(first + step) for step in range(rng.randint(4, 8)))),
        ("quarter", ("Q1", "Q2", "Q3", "Q4")),
        ("month", ("Jan", "Feb", "Mar", "Apr", "May", "Jun")),
        ("branch", tuple(content.surname() for _ in range(rng.randint(3, 6)))),
        ("plant", tuple(content.surname() for _ in range(rng.randint(3, 6)))),
        ("age group", ("15-24", "25-34", "35-49", "50-64", "65+")),
    )
    series = tuple(content.surname() for _ in range(rng.choice((1, 1, 1, 2, 3))))
    thing, categories = rng.choice(things[:3] if len(series) > 1 else things)
    scale = rng.choice((1, 5, 10, 100))
    # Distinct, so that highest and lowest are one category each.
    values = tuple(
        tuple(step * scale for step in rng.sample(range(8, 99), len(categories))) for _ in series
    )
    return _Data(measure, unit, thing, categories, series, values)


def _axis(values: Sequence[int]) -> tuple[int, int]:
    """The step between an axis' ticks, a round number, and how many steps hold all values."""
    rough = max(values) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    return step, math.ceil(max(values) / step)


def _draw_axes(
    canvas: Canvas, content: Content, data: _Data, top: float, bottom: float
) -> tuple[list[Question], float]:
    """Axes, grid and labels of an upright chart; questions, and units of length a unit of value."""
    step, steps = _axis([value for row in data.values for value in row])
    height = bottom - top
    label = f"{data.measure} ({data.unit})"
    ink = canvas.text(90, top, label, size=19, bold=True)
    questions = [
        Question(
            "What is the label of the vertical axis?",
            (label,),
            (ink,),
            ("figure/diagram", "layout"),
        )
    ]
    top += 40
    height = bottom - top
    for tick in range(steps + 1):
        y = bottom - height * tick / steps
        canvas.line(180, y, 1185, y, 1, "#c8c8c8")
        ink = canvas.text(168, y + 6, f"{tick * step:,}", size=18, align="right")
    questions.append(
        Question(
            "What is the highest value on the scale of the vertical axis?",
            (ink.text, ink.text.replace(",", "")) if "," in ink.text else (ink.text,),
            (ink,),
            _FIGURE,
        )
    )
    canvas.line(180, top, 180, bottom)
    canvas.line(180, bottom, 1185, bottom)
    return questions, height / (steps * step)


def _draw_columns(
    canvas: Canvas, content: Content, data: _Data, top: float, bottom: float
) -> list[Question]:
    rng = content.rng
    questions, unit = _draw_axes(canvas, content, data, top, bottom)
    values = data.values[0]
    labelled = rng.random() < 0.6
    pitch = 1005 / len(values)
    thick = pitch * rng.uniform(0.45, 0.75)
    colors = rng.choice((_COLORS, (canvas.style.accent,)))
    names, bars, numbers = [], [], []
    for index, (category, value) in enumerate(zip(data.categories, values, strict=True)):
        x = 180 + pitch * (index + 0.5)
        y = bottom - value * unit
        canvas.rectangle(
            x - thick / 2,
            y,
            x + thick / 2,
            bottom,
            fill=colors[index % len(colors)],
            outline=canvas.style.ink,
            width=1,
        )
        bars.append(canvas.mark(x - thick / 2, y, x + thick / 2, bottom))
        names.append(
            canvas.text(x, bottom + 30, category, size=19, align="center", max_width=pitch - 12)
        )
        if labelled:
            numbers.append(
                canvas.text(x, y - 7, f"{value:,}", size=18, align="center", max_width=pitch - 8)
            )
    return questions + _ask_bars(content, data, names, bars, numbers)


def _draw_bars(
    canvas: Canvas, content: Content, data: _Data, top: float, bottom: float
) -> list[Question]:
    rng = content.rng
    values = data.values[0]
    step, steps = _axis(values)
    unit = 800 / (step * steps)
    pitch = (bottom - top) / len(values)
    thick = pitch * rng.uniform(0.4, 0.7)
    names, bars, numbers = [], [], []
    for tick in range(steps + 1):
        x = 300 + tick * step * unit
        canvas.line(x, top, x, bottom, 1, "#c8c8c8")
        canvas.text(x, bottom + 30, f"{tick * step:,}", size=18, align="center")
    for index, (category, value) in enumerate(zip(data.categories, values, strict=True)):
        y = top + pitch * (index + 0.5)
        end = 300 + value * unit
        canvas.rectangle(
            300,
            y - thick / 2,
            end,
            y + thick / 2,
            fill=canvas.style.accent,
            outline=canvas.style.ink,
            width=1,
        )
        bars.append(canvas.mark(300, y - thick / 2, end, y + thick / 2))
        names.append(canvas.text(288, y + 7, category, size=19, align="right", max_width=190))
        numbers.append(canvas.text(end + 10, y + 7, f"{value:,}", size=18))
    canvas.line(300, top, 300, bottom)
    label = data.unit.capitalize()
    ink = canvas.text(700, bottom + 62, label, size=19, bold=True, align="center")
    return [
        Question(
            "In what unit are the values of the chart?", (label,), (ink,), ("figure/diagram",)
        ),
        *_ask_bars(content, data, names, bars, numbers),
    ]


def _ask_bars(
    content: Content, data: _Data, names: list[Ink], bars: list[Ink], numbers: list[Ink]
) -> list[Question]:
    rng = content.rng
    questions = [
        Question(
            rng.choice(("How many bars does the chart have?", "How many bars are there?")),
            count(len(bars)),
            tuple(bars),
            _FIGURE,
        )
    ]
    values = data.values[0]
    if numbers:
        index = rng.randrange(len(values))
        text = numbers[index].text
        questions.append(
            Question(
                rng.choice(
                    (
                        f"What is the value for {data.categories[index]} in the chart?",
                        f"What is the height of the bar for {data.categories[index]}?",
                    )
                ),
                (text, text.replace(",", "")) if "," in text else (text,),
                (numbers[index],),
                _FIGURE,
            )
        )
    if asked := extreme(rng, data.thing, "bar" if rng.random() < 0.3 else "value", values):
        text, best = asked
        questions.append(
            Question(text, (data.categories[best],), (names[best], bars[best]), _FIGURE)
        )
    one, other = rng.sample(range(len(values)), 2)
    questions.append(
        Question(
            f"Is the value for {data.categories[one]} above that for {data.categories[other]}?",
            ("Yes",) if values[one] > values[other] else ("No",),
            (bars[one], bars[other]),
            ("figure/diagram", "Yes/No"),
        )
    )
    return questions


def _draw_lines(
    canvas: Canvas, content: Content, data: _Data, top: float, bottom: float
) -> list[Question]:
    rng = content.rng
    questions, unit = _draw_axes(canvas, content, data, top, bottom)
    pitch = 1005 / len(data.categories)
    for index, category in enumerate(data.categories):
        x = 180 + pitch * (index + 0.5)
        canvas.text(x, bottom + 30, category, size=19, align="center", max_width=pitch - 12)
    colors = rng.sample(_COLORS, len(data.series))
    legend = []
    for number, (series, row, color) in enumerate(
        zip(data.series, data.values, colors, strict=True)
    ):
        points = [
            (180 + pitch * (index + 0.5), bottom - value * unit) for index, value in enumerate(row)
        ]
        for start, end in pairwise(points):
            canvas.line(*start, *end, 4, color)
        for x, y in points:
            _draw_point(canvas, x, y, number, color)
        x = 240 + 310 * number
        canvas.line(x, bottom + 75, x + 60, bottom + 75, 4, color)
        _draw_point(canvas, x + 30, bottom + 75, number, color)
        legend.append(canvas.text(x + 72, bottom + 82, series, size=19, max_width=220))
    last = data.categories[-1]
    if asked := extreme(
        rng, "line of the legend", f"value in {last}", [row[-1] for row in data.values]
    ):
        text, best = asked
        questions.append(Question(text, (data.series[best],), (legend[best],), _FIGURE))
    questions.append(
        Question(
            rng.choice(
                ("How many lines does the chart have?", "How many lines are in the legend?")
            ),
            count(len(legend)),
            tuple(legend),
            _FIGURE,
        )
    )
    return questions


def _draw_point(canvas: Canvas, x: float, y: float, shape: int, color: str) -> None:
    """A point in a shape of its own, so that lines differ without colour as well."""
    if shape == 0:
        canvas.ellipse(x - 8, y - 8, x + 8, y + 8, fill=color)
    elif shape == 1:
        canvas.rectangle(x - 7, y - 7, x + 7, y + 7, fill=color)
    else:
        canvas.polygon(((x, y - 10), (x + 9, y + 7), (x - 9, y + 7)), color)


def _draw_pie(
    canvas: Canvas, content: Content, data: _Data, top: float, bottom: float
) -> list[Question]:
    rng = content.rng
    radius = min(bottom - top, 640) / 2 - 10
    middle = (top + bottom) / 2
    total = sum(data.values[0])
    shares = [round(100 * value / total) for value in data.values[0]]
    shares[0] += 100 - sum(shares)
    angle = rng.uniform(0, 360)
    names, texts = [], []
    for index, (category, share) in enumerate(zip(data.categories, shares, strict=True)):
        color = _COLORS[index]
        canvas.slice(430, middle, radius, angle, angle + 3.6 * share, color)
        angle += 3.6 * share
        y = middle - 25 * len(shares) + 50 * index + 30
        canvas.rectangle(820, y - 22, 848, y + 4, fill=color)
        names.append(canvas.text(862, y, category, max_width=180))
        texts.append(canvas.text(1185, y, f"{share}%", align="right"))
    index = rng.randrange(len(shares))
    questions = [
        Question(
            rng.choice(
                (
                    f"What is the share of {data.categories[index]}?",
                    f"What percentage of the pie belongs to {data.categories[index]}?",
                )
            ),
            (f"{shares[index]}%", str(shares[index]), f"{shares[index]} %"),
            (texts[index],),
            _FIGURE,
        ),
        Question("How many slices does the pie have?", count(len(shares)), tuple(names), _FIGURE),
    ]
    if asked := extreme(rng, data.thing, "share", shares):
        text, best = asked
        questions.append(Question(text, (data.categories[best],), (names[best],), _FIGURE))
    return questions
