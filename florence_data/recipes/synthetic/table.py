"""Pages of a report whose matter is a table."""

from __future__ import annotations

from florence_data.recipes.synthetic.canvas import Canvas, Ink
from florence_data.recipes.synthetic.content import Content, Value, count
from florence_data.recipes.synthetic.grid import Column, draw_grid
from florence_data.recipes.synthetic.question import Question, extreme
from florence_data.recipes.synthetic.vocabulary import DEPARTMENTS, TITLES

_LIST = ("table/list",)
# What was measured, and the things it was measured for, as the head of the first column.
_MEASURES = (
    ("Production (tons)", "Plant"), ("Rainfall (mm)", "Station"), ("Sales (thousands)", "Region"),
    ("Enrolment", "School"), ("Visitors", "Museum"), ("Yield (kg/ha)", "Field"),
    ("Loans", "Branch"),
    ("Patients treated", "Clinic"), ("Passengers", "Line"), ("Exports (tons)", "Port"),
    ("Energy use (MWh)", "Building"), ("Members", "Chapter"), ("Circulation", "Newspaper"),
)  # fmt: skip
_SUBSTANCES = (
    "Ammonia", "Ash", "Calcium", "Chloride", "Fat", "Fibre", "Iron", "Magnesium", "Moisture",
    "Nickel", "Nicotine", "Nitrate", "Phosphate", "Potassium", "Protein", "Sodium", "Starch",
    "Sugar", "Sulphur", "Tar", "Zinc", "Copper", "Lactose", "Glucose", "Pectin", "Silica",
)  # fmt: skip
_COURSES = (
    "Registration", "Opening remarks", "Coffee break", "Panel discussion", "Lunch", "Workshop",
    "Poster session", "Laboratory tour", "Keynote address", "Awards", "Dinner", "Closing remarks",
    "Committee meeting", "Business session", "Site visit", "Question hour",
)  # fmt: skip


def draw_table(canvas: Canvas, content: Content) -> list[Question]:
    """A heading, a sentence, and a table of figures, people or times; often a second one."""
    rng = content.rng
    title = content.topic()
    title = rng.choice((title.upper(), title.title(), title.capitalize()))
    align = rng.choice(("left", "center"))
    ink = canvas.heading(
        90 if align == "left" else 637,
        130,
        title,
        40,
        align="left" if align == "left" else "center",
        max_width=1050,
    )
    questions = [
        Question(
            rng.choice(("What is the title of the page?", "What is the main heading of the page?")),
            (title,),
            (ink,),
            ("layout",),
        )
    ]
    author, date = content.person(), content.date()
    canvas.text(90, 185, "Prepared by")
    ink = canvas.text(102 + canvas.width("Prepared by"), 185, author.text, max_width=440)
    questions.append(Question("Who prepared this report?", author.answers, (ink,), ("others",)))
    ink = canvas.text(1185, 185, date.text, align="right", max_width=300)
    questions.append(
        Question(
            "What is the date at the top right of the page?", date.answers, (ink,), ("layout",)
        )
    )

    kinds = rng.sample((_draw_figures, _draw_staff, _draw_analysis, _draw_programme), 2)
    y = 260.0
    for number, draw in enumerate(kinds, start=1):
        asked, y = draw(canvas, content, number, y)
        questions += asked
        y += 85
    return questions


def _caption(
    canvas: Canvas, content: Content, number: int, y: float, text: str
) -> tuple[str, list[Question]]:
    """The table's number and caption above it; how a question names it, and one for the caption."""
    name = f"Table {number}"
    canvas.text(90, y, f"{name}.", bold=True)
    ink = canvas.text(105 + canvas.width(f"{name}.", bold=True), y, text, max_width=900)
    return name, [
        Question(f"What is the caption of {name}?", (text,), (ink,), ("table/list", "layout"))
    ]


def _row_height(canvas: Canvas, content: Content) -> float:
    return content.rng.uniform(1.7, 2.0) * canvas.style.size


def _draw_figures(
    canvas: Canvas, content: Content, number: int, y: float
) -> tuple[list[Question], float]:
    """Places by years, perhaps with a total."""
    rng = content.rng
    measure, place = rng.choice(_MEASURES)
    first = rng.randrange(1950, 2018)
    years = [str(first + step) for step in range(rng.randint(2, 5))]
    places = [content.surname() for _ in range(rng.randint(4, 9))]
    low = rng.choice((10, 100, 1_000, 10_000))
    values = [[rng.randrange(low, low * 12) for _ in years] for _ in places]
    rows = [
        [name, *(f"{value:,}" for value in row)] for name, row in zip(places, values, strict=True)
    ]
    with_total = rng.random() < 0.5
    if with_total:
        rows.append(["Total", *(f"{sum(column):,}" for column in zip(*values, strict=True))])
    caption = f"{measure} by {place.lower()}, {years[0]} to {years[-1]}"
    name, questions = _caption(canvas, content, number, y, caption)
    columns = [Column(place, 2), *(Column(year, 1, "right") for year in years)]
    grid = draw_grid(
        canvas,
        rng,
        y + 20,
        columns,
        rows,
        row_height=_row_height(canvas, content),
        last_bold=with_total,
    )

    thing = measure.split(" (")[0].lower()
    for row, column in {(rng.randrange(len(places)), rng.randrange(len(years))) for _ in range(2)}:
        value = values[row][column]
        ink = grid.cells[row][column + 1]
        questions.append(
            Question(
                rng.choice(
                    (
                        f"What is the value for {places[row]} in {years[column]}?",
                        f"What is the figure for {thing} of {places[row]} in {years[column]}?",
                    )
                ),
                _figure(value),
                (ink,),
                _LIST,
            )
        )
    column = rng.randrange(len(years))
    if asked := extreme(
        rng, place.lower(), f"figure in {years[column]}", [row[column] for row in values]
    ):
        text, best = asked
        questions.append(Question(text, (places[best],), (grid.cells[best][0],), _LIST))
    if with_total:
        ink = grid.cells[-1][column + 1]
        total = sum(row[column] for row in values)
        questions.append(
            Question(
                f"What is the total for {years[column]} in {name}?", _figure(total), (ink,), _LIST
            )
        )
    questions.append(
        Question(
            f"For how many years are figures given in {name}?",
            count(len(years)),
            grid.heads[1:],
            _LIST,
        )
    )
    return questions, grid.bottom


def _figure(value: int) -> tuple[str, ...]:
    return (f"{value:,}", str(value)) if value >= 1000 else (str(value),)


def _draw_staff(
    canvas: Canvas, content: Content, number: int, y: float
) -> tuple[list[Question], float]:
    """People with what they do and how to reach them."""
    rng = content.rng
    people = [content.person() for _ in range(rng.randint(4, 8))]
    titles = [content.pick(TITLES) for _ in people]
    departments = [content.pick(DEPARTMENTS) for _ in people]
    rooms = [
        content.fresh(lambda: f"{rng.choice('ABCDE')}-{rng.randrange(100, 599)}") for _ in people
    ]
    rows = [
        [person.text, *rest]
        for person, *rest in zip(people, titles, departments, rooms, strict=True)
    ]
    name, questions = _caption(
        canvas, content, number, y, rng.choice(("Members of the staff", "List of participants"))
    )
    columns = [
        Column("Name", 2.2),
        Column("Position", 2.4),
        Column("Department", 2.2),
        Column("Room", 1),
    ]
    grid = draw_grid(canvas, rng, y + 20, columns, rows, row_height=_row_height(canvas, content))
    row = rng.randrange(len(people))
    cells = grid.cells[row]
    asked: tuple[tuple[str, Value, Ink], ...] = (
        (f"What is the position of {people[row].text}?", Value(titles[row]), cells[1]),
        (f"To which department does {people[row].text} belong?", Value(departments[row]), cells[2]),
        (f"What is the room of {people[row].text}?", Value(rooms[row]), cells[3]),
        (f"Who is in room {rooms[row]}?", people[row], cells[0]),
        (f"Who is the {titles[row]}?", people[row], cells[0]),
    )
    questions += [Question(text, value.answers, (ink,), _LIST) for text, value, ink in asked]
    questions.append(
        Question(
            f"How many people are listed in {name}?",
            count(len(people)),
            tuple(cells[0] for cells in grid.cells),
            _LIST,
        )
    )
    return questions, grid.bottom


def _draw_analysis(
    canvas: Canvas, content: Content, number: int, y: float
) -> tuple[list[Question], float]:
    """Substances by samples, with decimals."""
    rng = content.rng
    substances = rng.sample(_SUBSTANCES, rng.randint(4, 9))
    letters = rng.choice(("ABCDEF", "PQRSTU", "123456"))
    samples = [f"Sample {letter}" for letter in letters[: rng.randint(2, 4)]]
    places = rng.choice((1, 2))
    texts = [
        [content.fresh(lambda: f"{rng.uniform(0.05, 60):.{places}f}") for _ in samples]
        for _ in substances
    ]
    unit = rng.choice(("mg/l", "ppm", "g/kg", "%"))
    _, questions = _caption(canvas, content, number, y, f"Results of the analysis, in {unit}")
    columns = [Column("Substance", 2), *(Column(sample, 1.2, "center") for sample in samples)]
    rows = [[substance, *row] for substance, row in zip(substances, texts, strict=True)]
    grid = draw_grid(canvas, rng, y + 20, columns, rows, row_height=_row_height(canvas, content))
    for row, column in {(rng.randrange(len(rows)), rng.randrange(len(samples))) for _ in range(2)}:
        value = texts[row][column]
        questions.append(
            Question(
                rng.choice(
                    (
                        f"What is the value of {substances[row].lower()} in {samples[column]}?",
                        f"How much {substances[row].lower()} was found in {samples[column]}?",
                    )
                ),
                (value, f"{value} {unit}"),
                (grid.cells[row][column + 1],),
                _LIST,
            )
        )
    column = rng.randrange(len(samples))
    if asked := extreme(
        rng, "substance", f"value in {samples[column]}", [float(row[column]) for row in texts]
    ):
        text, best = asked
        questions.append(Question(text, (substances[best],), (grid.cells[best][0],), _LIST))
    return questions, grid.bottom


def _draw_programme(
    canvas: Canvas, content: Content, number: int, y: float
) -> tuple[list[Question], float]:
    """Times, what happens then, and who leads it."""
    rng = content.rng
    events = rng.sample(_COURSES, rng.randint(4, 8))
    minute = rng.randrange(8 * 60, 10 * 60, 15)
    times = []
    for _ in events:
        hour = minute // 60
        half = "a.m." if hour < 12 else "p.m."
        times.append(f"{(hour - 1) % 12 + 1}:{minute % 60:02d} {half}")
        minute += rng.choice((15, 30, 45, 60, 75))
    speakers = [content.person() for _ in events]
    rooms = [content.surname() + rng.choice((" Hall", " Room", " Lounge")) for _ in events]
    _, questions = _caption(canvas, content, number, y, "Programme of the day")
    rows = [
        [time, event, speaker.text, room]
        for time, event, speaker, room in zip(times, events, speakers, rooms, strict=True)
    ]
    columns = [Column("Time", 1.1), Column("Event", 1.8), Column("Led by", 2), Column("Place", 1.6)]
    grid = draw_grid(canvas, rng, y + 20, columns, rows, row_height=_row_height(canvas, content))
    row = rng.randrange(len(events))
    event = events[row].lower()
    time = Value(times[row], (times[row].replace(".", ""),))
    cells = grid.cells[row]
    asked = (
        (f"At what time is the {event}?", time, cells[0]),
        (f"What takes place at {time.text}?", Value(events[row]), cells[1]),
        (f"Who leads the {event}?", speakers[row], cells[2]),
        (f"Where is the {event} held?", Value(rooms[row]), cells[3]),
    )
    questions += [Question(text, value.answers, (ink,), _LIST) for text, value, ink in asked]
    return questions, grid.bottom
