"""Flyers and advertisements: a picture, a slogan, a price or an event."""

from __future__ import annotations

from florence_data.recipes.synthetic.canvas import Canvas, Ink
from florence_data.recipes.synthetic.content import Content, count
from florence_data.recipes.synthetic.question import Question, what_is

_PHOTO = ("Image/Photo",)
_SLOGANS = (
    "Built to last", "Made for the open road", "Fresh every morning", "Simply better",
    "Quality you can taste", "Warm all winter", "The friend of every workshop",
    "Light as a feather", "Tested by experts", "A little luxury", "Trusted for fifty years",
    "The taste of summer", "Ready when you are", "More for less", "Strong and silent",
    "The natural choice", "Safe in every season", "Always in stock",
)  # fmt: skip
_EVENTS = (
    "Open Day", "Summer Concert", "Book Fair", "Flower Show", "Charity Run", "Antiques Market",
    "Science Evening", "Harvest Festival", "Film Night", "Chess Tournament", "Art Exhibition",
    "Career Day",
)  # fmt: skip
_SKIES = (
    ("#f4d9a8", "#9fb8d8"),
    ("#e8eef6", "#7fa3cf"),
    ("#f3c6b0", "#8c7aa8"),
    ("#eeeeee", "#9aa0a8"),
)


def draw_flyer(canvas: Canvas, content: Content) -> list[Question]:
    """Heading, picture with words in it, slogan, then what is sold or held."""
    rng = content.rng
    firm = content.company()
    slogan = rng.choice(_SLOGANS)
    event = rng.choice(_EVENTS)
    canvas.text(637, 94, rng.choice(("presents", "invites to")), size=22, align="center")
    host = canvas.text(637, 62, firm, size=26, align="center", max_width=1000)
    ink = canvas.heading(637, 168, event, 64, align="center", max_width=1050)
    questions = [
        Question(
            rng.choice(("Which event is announced?", "What is the headline of the flyer?")),
            (event,),
            (ink,),
            ("layout",),
        ),
        Question("Who holds the event?", (firm,), (host,), ("layout",)),
    ]

    questions += _draw_picture(canvas, content, 245, rng.uniform(760, 860))
    y = 940.0
    ink = canvas.heading(
        637, y, slogan, 44, align="center", color=canvas.style.accent, max_width=1050
    )
    questions.append(
        Question("What is the slogan below the picture?", (slogan,), (ink,), ("layout", "others"))
    )

    date, start, end = content.date(), content.clock(), content.clock()
    place, town = (
        f"{content.surname()} {rng.choice(('Hall', 'Park', 'School', 'House'))}",
        content.town(),
    )
    guest, phone = content.person(), content.phone()
    _, adult = content.price(300, 6_000)
    _, child = content.price(100, 3_000)
    facts = [
        ("Date", date.text, date.answers, what_is(rng, "date of the event", "flyer")),
        ("Doors open", start.text, start.answers, "When do the doors open?"),
        ("Programme begins", end.text, end.answers, "At what time does the programme begin?"),
        ("Place", place, (place,), "Where is the event held?"),
        ("Town", town, (town,), "In which town is the event?"),
        ("Guest of honour", guest.text, guest.answers, "Who is the guest of honour?"),
        ("Tickets by telephone", phone, (phone,), "Which number can be called for tickets?"),
        ("Adults", adult.text, adult.answers, "What is the price for adults?"),
        ("Children", child.text, child.answers, "What is the price for children?"),
    ]
    centred = rng.random() < 0.5
    y = 1020.0
    for label, text, answers, asked in facts:
        if centred:
            wide = canvas.width(f"{label}: ", bold=True) + canvas.width(text)
            x = 637 - wide / 2
        else:
            x = 90
        canvas.text(x, y, f"{label}:", bold=True)
        x = x + canvas.width(f"{label}: ", bold=True) + 6 if centred else 480
        ink = canvas.text(x, y, text, max_width=600)
        questions.append(Question(asked, answers, (ink,), ("others",)))
        y += 48
    website = content.website(firm)
    ink = canvas.text(637, y + 40, website, size=26, bold=True, align="center", max_width=800)
    questions.append(Question("Which website is given?", (website,), (ink,), ("others", "layout")))
    return questions


def _draw_picture(canvas: Canvas, content: Content, top: float, bottom: float) -> list[Question]:
    """A landscape with trees and a thing that bears a name."""
    rng = content.rng
    left, right = 140.0, 1135.0
    low, high = rng.choice(_SKIES)
    steps = 24
    for step in range(steps):
        y = top + (bottom - top) * step / steps
        canvas.rectangle(
            left, y, right, y + (bottom - top) / steps + 1, fill=_blend(high, low, step / steps)
        )
    horizon = top + (bottom - top) * rng.uniform(0.5, 0.65)
    sun = rng.uniform(left + 100, right - 100)
    canvas.ellipse(sun - 45, top + 40, sun + 45, top + 130, fill="#fff3c0")
    ridge = [(left, bottom)]
    x = left
    while x < right:
        ridge.append((x, horizon - rng.uniform(10, 150)))
        x += rng.uniform(70, 160)
    canvas.polygon([*ridge, (right, horizon - 60), (right, bottom)], "#7d8a94")
    canvas.rectangle(left, horizon, right, bottom, fill="#8fa270")

    # Trees stand left, the thing right, so that neither hides the other.
    trees = rng.randint(2, 5)
    marks = []
    for number in range(trees):
        x = left + 60 + number * 95 + rng.uniform(-8, 8)
        y = horizon + rng.uniform(60, 110)
        canvas.rectangle(x - 8, y - 40, x + 8, y, fill="#5b4632")
        canvas.polygon(((x - 42, y - 35), (x + 42, y - 35), (x, y - 165)), "#3f6247")
        marks.append(canvas.mark(x - 42, y - 165, x + 42, y))
    name = content.surname()
    if rng.random() < 0.5:
        name = name.upper()
    thing, ink = rng.choice((_draw_sign, _draw_truck, _draw_house))(
        canvas, name, 860, horizon + 130
    )
    canvas.mark(left, top, right, bottom)
    canvas.rectangle(left, top, right, bottom, outline=canvas.style.ink)
    return [
        Question(
            rng.choice(
                (
                    f"What is written on the {thing} in the picture?",
                    f"Which name is on the {thing} in the image?",
                )
            ),
            (name,),
            (ink,),
            _PHOTO,
        ),
        Question("How many trees are in the picture?", count(trees), tuple(marks), _PHOTO),
        Question(
            *rng.choice(
                (
                    (f"Is there a {thing} in the picture?", ("Yes",)),
                    (f"Is the {thing} in the picture to the right of the trees?", ("Yes",)),
                    (f"Is the {thing} in the picture to the left of the trees?", ("No",)),
                )
            ),
            (ink, *marks),
            ("Image/Photo", "Yes/No"),
        ),
    ]


def _draw_sign(canvas: Canvas, name: str, x: float, y: float) -> tuple[str, Ink]:
    for leg in (x - 120, x + 110):
        canvas.rectangle(leg, y - 90, leg + 12, y, fill="#4a3c30")
    canvas.rectangle(x - 190, y - 200, x + 190, y - 85, fill="#f7f4ea", outline="#4a3c30", width=5)
    ink = canvas.heading(x, y - 125, name, 50, align="center", color="#2b2b2b", max_width=350)
    return "sign", ink


def _draw_truck(canvas: Canvas, name: str, x: float, y: float) -> tuple[str, Ink]:
    canvas.rectangle(x - 220, y - 190, x + 110, y - 30, fill="#f2f2f2", outline="#333333")
    canvas.rectangle(x + 115, y - 130, x + 215, y - 30, fill="#a33b32", outline="#333333")
    canvas.rectangle(x + 150, y - 115, x + 205, y - 75, fill="#cfe3ee")
    for wheel in (x - 160, x + 20, x + 165):
        canvas.ellipse(wheel - 32, y - 60, wheel + 32, y + 4, fill="#2a2a2a")
    ink = canvas.heading(x - 55, y - 95, name, 50, align="center", color="#a33b32", max_width=300)
    return "truck", ink


def _draw_house(canvas: Canvas, name: str, x: float, y: float) -> tuple[str, Ink]:
    canvas.rectangle(x - 190, y - 180, x + 190, y, fill="#d9c7a6", outline="#5b4632")
    canvas.polygon(((x - 215, y - 180), (x + 215, y - 180), (x, y - 300)), "#8b4a3c")
    canvas.rectangle(x - 165, y - 160, x + 165, y - 95, fill="#ffffff", outline="#5b4632")
    canvas.rectangle(x - 35, y - 80, x + 35, y, fill="#5b4632")
    for window in (x - 140, x + 75):
        canvas.rectangle(window, y - 75, window + 65, y - 25, fill="#cfe3ee", outline="#5b4632")
    ink = canvas.heading(x, y - 112, name, 42, align="center", color="#2b2b2b", max_width=310)
    return "shop", ink


def _blend(one: str, other: str, share: float) -> str:
    """A colour between two."""
    mixed = (
        round(int(one[i : i + 2], 16) * (1 - share) + int(other[i : i + 2], 16) * share)
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)
