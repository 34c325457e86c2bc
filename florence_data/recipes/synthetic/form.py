"""Forms: labelled fields filled in by machine or by hand, and boxes ticked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from florence_data.recipes.synthetic.canvas import Canvas, Ink
from florence_data.recipes.synthetic.content import Content, Value
from florence_data.recipes.synthetic.letterhead import draw_letterhead
from florence_data.recipes.synthetic.question import Question, what_is, who_is
from florence_data.recipes.synthetic.vocabulary import DEPARTMENTS, STATES, TITLES

_FORMS = (
    "Application for Membership", "Registration Form", "Change of Address", "Travel Request",
    "Employment Application", "Accident Report", "Library Card Application", "Equipment Request",
    "Vehicle Inspection Report", "Patient Intake Form", "Claim Form", "Grant Application",
    "Sample Submission Form", "Work Order", "Request for Leave", "Visitor Registration",
    "Laboratory Service Request", "Project Approval Form", "Document Transmittal",
    "Supplier Profile",
)  # fmt: skip


@dataclass(frozen=True)
class _Field:
    """A field by its label; `who` where it is a person, `wide` where it needs a whole row."""

    label: str
    make: Callable[[Content], Value]
    who: bool = False
    wide: bool = False


def _plain(make: Callable[[Content], str]) -> Callable[[Content], Value]:
    return lambda content: Value(make(content))


_PERSONS = tuple(
    _Field(label, Content.person, who=True)
    for label in (
        "Applicant", "Supervisor", "Emergency contact", "Project leader", "Witness", "Referee",
        "Physician", "Inspector", "Account holder", "Next of kin", "Sponsor", "Department head",
    )
)  # fmt: skip
_DATES = tuple(
    _Field(label, Content.date)
    for label in (
        "Date of birth", "Date received", "Starting date", "Date of incident", "Expiry date",
        "Date of application", "Date of last visit", "Approval date", "Date required",
    )
)  # fmt: skip
_PLACES = (
    _Field(
        "Home address", lambda content: Value(f"{content.street()}, {content.town()}"), wide=True
    ),
    _Field(
        "Work address", lambda content: Value(f"{content.street()}, {content.town()}"), wide=True
    ),
    _Field("Name of employer", _plain(Content.company), wide=True),
    _Field("Place of birth", _plain(Content.surname)),
    _Field("Destination", _plain(Content.surname)),
    _Field("State of residence", lambda content: Value(content.pick(STATES))),
)
_NUMBERS = (
    _Field("Telephone (home)", _plain(Content.phone)),
    _Field("Telephone (work)", _plain(Content.phone)),
    _Field("Fax number", _plain(Content.phone)),
    _Field("File number", _plain(Content.code)),
    _Field("Policy number", _plain(Content.code)),
    _Field("Registration number", _plain(Content.code)),
    _Field("Badge number", _plain(Content.code)),
    _Field("Annual fee", lambda content: content.price(1_000, 90_000)[1]),
    _Field("Amount requested", lambda content: content.price(10_000, 990_000)[1]),
    _Field("Deposit paid", lambda content: content.price(500, 50_000)[1]),
)
_WORK = (
    _Field("Occupation", lambda content: Value(content.pick(TITLES))),
    _Field("Position desired", lambda content: Value(content.pick(TITLES)), wide=True),
    _Field("Department", lambda content: Value(content.pick(DEPARTMENTS))),
    _Field("Subject", _plain(Content.topic), wide=True),
    _Field("Purpose", _plain(Content.topic), wide=True),
    _Field("Item", _plain(Content.goods), wide=True),
)
# The question on the form, and what can be ticked.
_CHOICES = (
    ("Marital status", ("Single", "Married", "Widowed", "Divorced")),
    ("Type of request", ("New", "Renewal", "Change", "Cancellation")),
    ("Method of payment", ("Cash", "Cheque", "Credit card", "Transfer")),
    ("Priority", ("Low", "Normal", "High", "Urgent")),
    ("Membership", ("Student", "Regular", "Senior", "Life")),
    ("Mode of travel", ("Air", "Rail", "Car", "Bus")),
    ("Condition on receipt", ("Good", "Damaged", "Incomplete", "Unknown")),
    ("Employment", ("Full time", "Part time", "Temporary", "Contract")),
    ("Preferred contact", ("Letter", "Telephone", "Fax", "Visit")),
)
_STATEMENTS = (
    ("Receipt required", "Is a receipt required?"),
    ("Insurance valid", "Is the insurance valid?"),
    ("Previous member", "Is the applicant a previous member?"),
    ("Photograph attached", "Is a photograph attached?"),
    ("Confidential", "Is the form marked as confidential?"),
    ("Deposit refundable", "Is the deposit refundable?"),
    ("Supervisor informed", "Was the supervisor informed?"),
)


def draw_form(canvas: Canvas, content: Content) -> list[Question]:
    """Title, fields in one or two columns, boxes to tick, a signature."""
    rng = content.rng
    questions: list[Question] = []
    y = 130.0
    if rng.random() < 0.5:
        head = draw_letterhead(canvas, content, "form")
        questions += head.questions
        y = head.bottom + 75
    title = rng.choice(_FORMS)
    if rng.random() < 0.4:
        title = title.upper()
    ink = canvas.heading(637, y, title, 40, align="center", max_width=1000)
    questions.append(
        Question(
            rng.choice(("What is the title of the form?", "What is the heading of this document?")),
            (title,),
            (ink,),
            ("layout",),
        )
    )
    y += 70

    fields = [
        *rng.sample(_PERSONS, rng.randint(2, 3)),
        *rng.sample(_DATES, rng.randint(2, 4)),
        *rng.sample(_PLACES, rng.randint(2, 4)),
        *rng.sample(_NUMBERS, rng.randint(3, 5)),
        *rng.sample(_WORK, rng.randint(2, 3)),
    ]
    rng.shuffle(fields)
    by_hand = rng.choice((0.0, 0.3, 1.0))
    boxed = rng.random() < 0.4
    step = rng.uniform(56, 64)
    column = 0
    for field in fields:
        if field.wide and column == 1:
            y += step
            column = 0
        x = 90 + 555 * column
        right = 1185 if field.wide else x + 530
        written = rng.random() < by_hand
        question = _draw_field(canvas, content, field, x, y, right, written, boxed)
        questions.append(question)
        if field.wide or column == 1:
            y += step
            column = 0
        else:
            column = 1
    if column:
        y += step

    y += 15
    for label, options in rng.sample(_CHOICES, 2):
        questions += _draw_choice(canvas, content, label, options, y)
        y += 52
    for label, text in rng.sample(_STATEMENTS, 2):
        questions += _draw_choice(canvas, content, label, ("Yes", "No"), y, text)
        y += 52
    return questions + _draw_signature(canvas, content, y + 70)


def _draw_field(
    canvas: Canvas,
    content: Content,
    field: _Field,
    x: float,
    y: float,
    right: float,
    written: bool,
    boxed: bool,
) -> Question:
    """A label and its value on a line or in a box, from `x` to `right`."""
    rng = content.rng
    value = field.make(content)
    label = canvas.text(x, y, field.label + ":", size=20)
    # The answer starts after the label's ink, wherever the fonts let that end.
    start = x + canvas.width(label.text, 20) + 18
    canvas.mark(start - 8, y - 32, right, y + 12)
    if boxed:
        canvas.rectangle(start - 8, y - 32, right, y + 12, outline=canvas.style.ink, width=1)
    else:
        canvas.line(start - 6, y + 6, right, y + 6, 1)
    if written:
        ink = canvas.handwrite(start, y + 2, value.text, rng, size=24, max_width=right - start - 8)
    else:
        ink = canvas.text(start, y, value.text, max_width=right - start - 8)
    noun = field.label[0].lower() + field.label[1:]
    text = who_is(rng, noun, "form") if field.who else what_is(rng, noun, "form")
    return Question(text, value.answers, (ink,), ("handwritten", "form") if written else ("form",))


def _draw_choice(
    canvas: Canvas, content: Content, label: str, options: tuple[str, ...], y: float, text: str = ""
) -> list[Question]:
    """A row of boxes, one of them ticked; `text` asks for it where its options are Yes and No."""
    rng = content.rng
    canvas.text(90, y, label + ":", size=20)
    chosen = rng.randrange(len(options))
    cross = rng.random() < 0.5
    x = 360.0
    boxes: list[Ink] = []
    for number, option in enumerate(options):
        canvas.rectangle(x, y - 20, x + 24, y + 4, outline=canvas.style.ink)
        if number == chosen:
            if cross:
                canvas.line(x + 2, y - 18, x + 22, y + 2, 3, canvas.style.pen)
                canvas.line(x + 22, y - 18, x + 2, y + 2, 3, canvas.style.pen)
            else:
                canvas.line(x + 3, y - 10, x + 10, y, 4, canvas.style.pen)
                canvas.line(x + 10, y, x + 27, y - 27, 4, canvas.style.pen)
        boxes.append(canvas.mark(x, y - 20, x + 25, y + 5))
        boxes.append(canvas.text(x + 36, y, option, size=20, max_width=155))
        x += 205
    answer = options[chosen]
    evidence = (boxes[2 * chosen], boxes[2 * chosen + 1])
    if text:
        return [Question(text, (answer,), evidence, ("Yes/No", "form"))]
    other = rng.randrange(len(options))
    return [
        Question(
            rng.choice((f"Which box is ticked for '{label}'?", f"What is marked under '{label}'?")),
            (answer,),
            evidence,
            ("form",),
        ),
        Question(
            f"Is the box '{options[other]}' ticked for '{label}'?",
            ("Yes",) if other == chosen else ("No",),
            (boxes[2 * other], boxes[2 * other + 1]),
            ("Yes/No", "form"),
        ),
    ]


def _draw_signature(canvas: Canvas, content: Content, y: float) -> list[Question]:
    rng = content.rng
    signer = content.person()
    date = content.date()
    signature = canvas.handwrite(100, y - 6, signer.text, rng, size=30, max_width=450)
    dated = canvas.handwrite(780, y - 4, date.text, rng, size=24, max_width=380)
    canvas.line(90, y, 570, y, 1)
    canvas.line(760, y, 1185, y, 1)
    canvas.text(90, y + 28, "Signature", size=18)
    canvas.text(760, y + 28, "Date", size=18)
    return [
        Question("Who signed the form?", signer.answers, (signature,), ("handwritten", "form")),
        Question(
            rng.choice(("What is the date next to the signature?", "When was the form signed?")),
            date.answers,
            (dated,),
            ("handwritten", "form"),
        ),
    ]
