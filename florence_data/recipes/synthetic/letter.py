"""Letters and memoranda: running text with facts in it."""

from __future__ import annotations

from dataclasses import dataclass

from florence_data.recipes.synthetic.canvas import Canvas
from florence_data.recipes.synthetic.content import Content, Value
from florence_data.recipes.synthetic.letterhead import draw_letterhead
from florence_data.recipes.synthetic.question import Question, what_is, who_is
from florence_data.recipes.synthetic.vocabulary import DEPARTMENTS, TITLES


@dataclass(frozen=True)
class _Sentence:
    """A sentence that states one fact at {}, the question for it, and the kind of fact."""

    text: str
    asked: str
    kind: str


_SENTENCES = tuple(
    _Sentence(*line)
    for line in (
        ("The next meeting of the committee will take place on {}.",
         "When will the next meeting of the committee take place?", "date"),
        ("We received your samples on {} and have begun the tests.",
         "On what date were the samples received?", "date"),
        ("The present agreement expires on {} unless both sides renew it.",
         "When does the present agreement expire?", "date"),
        ("Applications must reach this office no later than {}.",
         "By what date must applications reach the office?", "date"),
        ("The work was begun on {} and has gone on without interruption.",
         "When was the work begun?", "date"),
        ("The total cost of the project is estimated at {}.",
         "What is the estimated total cost of the project?", "money"),
        ("A first payment of {} was made from the general fund.",
         "How much was the first payment?", "money"),
        ("The board has set aside {} for new equipment.",
         "How much has the board set aside for new equipment?", "money"),
        ("Travel expenses of {} remain to be settled.",
         "What amount of travel expenses remains to be settled?", "money"),
        ("Please direct all questions about the schedule to {}.",
         "To whom should questions about the schedule be directed?", "person"),
        ("The inspection was carried out by {} and one assistant.",
         "Who carried out the inspection?", "person"),
        ("I have asked {} to prepare a full report.",
         "Who was asked to prepare a full report?", "person"),
        ("Our visitors will be met at the station by {}.",
         "Who will meet the visitors at the station?", "person"),
        ("The equipment will be delivered by {} without further charge.",
         "Which company will deliver the equipment?", "company"),
        ("We have chosen {} as our new supplier.",
         "Which company was chosen as the new supplier?", "company"),
        ("A competing offer came from {} last month.",
         "Which company made a competing offer?", "company"),
        ("In the last year output rose by {} over all plants.",
         "By what percentage did output rise in the last year?", "percent"),
        ("Only {} of the members returned the questionnaire.",
         "What percentage of the members returned the questionnaire?", "percent"),
        ("The error of the new instrument is below {} at room temperature.",
         "Below what percentage is the error of the new instrument?", "percent"),
        ("The new warehouse will be built in {} next to the railway.",
         "Where will the new warehouse be built?", "place"),
        ("The annual conference has been moved to {} this year.",
         "To which place has the annual conference been moved?", "place"),
        ("Two members of our staff were sent to {} for training.",
         "Where were two members of staff sent for training?", "place"),
        ("Your order has been given the number {} in our books.",
         "Which number was given to the order?", "code"),
        ("Please quote file {} in your reply.",
         "Which file should be quoted in the reply?", "code"),
        ("The damaged crate bears the mark {} on its side.",
         "Which mark does the damaged crate bear?", "code"),
        ("Altogether {} copies of the catalogue were printed.",
         "How many copies of the catalogue were printed?", "number"),
        ("At present {} households take part in the survey.",
         "How many households take part in the survey?", "number"),
        ("The reading room was used by {} visitors in the last quarter.",
         "How many visitors used the reading room in the last quarter?", "number"),
        ("The part that failed most often was the {} in the second line.",
         "Which part failed most often?", "goods"),
        ("We can offer you the {} at a reduced price.",
         "Which article can be offered at a reduced price?", "goods"),
        ("The matter was passed to the department of {} for comment.",
         "To which department was the matter passed?", "department"),
    )
)  # fmt: skip
_FILLERS = (
    "Thank you for your letter and for the interest that you have shown in our work.",
    "As you know, the plan has been under discussion for some time.",
    "I am glad to report that there has been good progress since we last wrote.",
    "We regret the delay and hope that it has not caused you any trouble.",
    "A copy of the minutes is enclosed for your records.",
    "There are still several points on which we would welcome your opinion.",
    "It would be helpful to have your comments before the end of the month.",
    "The results agree well with those of earlier years.",
    "No further action is needed on your part at this time.",
    "We look forward to working with you and remain at your service.",
    "Please let us know whether these terms are acceptable to you.",
    "The details were explained in our earlier correspondence.",
)
_CLOSINGS = ("Sincerely,", "Yours truly,", "Yours faithfully,", "With best regards,", "Cordially,")


def draw_letter(canvas: Canvas, content: Content) -> list[Question]:
    """A letter with an address and a salutation, or a memorandum with its four lines."""
    if content.rng.random() < 0.35:
        return _draw_memorandum(canvas, content)
    rng = content.rng
    head = draw_letterhead(canvas, content, "letter")
    questions = list(head.questions)
    date = content.date()
    x = rng.choice((90, 760))
    ink = canvas.text(x, 300, date.text)
    questions.append(
        Question(what_is(rng, "date of the letter", "letter"), date.answers, (ink,), ("layout",))
    )

    recipient, title, firm = content.person(), content.pick(TITLES), content.company()
    street, town = content.street(), content.town()
    address = [
        canvas.text(90, 360 + 32 * number, line, max_width=600)
        for number, line in enumerate((recipient.text, title, firm, street, town))
    ]
    questions += [
        Question(
            rng.choice(("To whom is the letter addressed?", "Who is the addressee of the letter?")),
            recipient.answers,
            (address[0],),
            ("layout", "free_text"),
        ),
        Question(
            f"What is the position of {recipient.text}?", (title,), (address[1],), ("others",)
        ),
        Question(
            "To which organization is the letter addressed?", (firm,), (address[2],), ("layout",)
        ),
    ]

    y = 565.0
    subject = content.topic()
    subject = subject[0].upper() + subject[1:]
    label = rng.choice(("Re:", "Subject:", "Ref.:"))
    canvas.text(90, y, label, bold=True)
    ink = canvas.text(105 + canvas.width(label, bold=True), y, subject, bold=True, max_width=850)
    questions.append(
        Question(what_is(rng, "subject of the letter", "letter"), (subject,), (ink,), ("layout",))
    )
    y += 60
    surname = recipient.text.split()[-1]
    canvas.text(
        90, y, rng.choice((f"Dear {surname}:", f"Dear Mr. {surname},", f"Dear Ms. {surname},"))
    )
    asked, y = _draw_body(canvas, content, y + 52, 1340)
    questions += asked

    left = rng.choice((90, 700))
    sender, position = content.person(), content.pick(TITLES)
    canvas.text(left, y + 15, rng.choice(_CLOSINGS))
    signature = canvas.handwrite(left, y + 78, sender.text, rng, size=32, max_width=400)
    name = canvas.text(left, y + 120, sender.text, max_width=480)
    place = canvas.text(left, y + 150, position, max_width=480)
    questions += [
        Question(
            rng.choice(("Who signed the letter?", "Who wrote the letter?")),
            sender.answers,
            (name, signature),
            ("handwritten", "layout"),
        ),
        Question(
            rng.choice(
                (
                    "What is the designation of the person who signed the letter?",
                    f"What is the designation of {sender.text}?",
                )
            ),
            (position,),
            (place,),
            ("layout",),
        ),
    ]
    return questions


def _draw_memorandum(canvas: Canvas, content: Content) -> list[Question]:
    rng = content.rng
    title = rng.choice(("MEMORANDUM", "Memorandum", "INTEROFFICE MEMO", "MEMO"))
    firm = content.company()
    x = rng.choice((90, 300))
    firm_ink = canvas.text(x, 110, firm, size=24, max_width=800)
    title_ink = canvas.heading(x, 170, title, 42)
    questions = [
        Question("What is the heading of the document?", (title,), (title_ink,), ("layout",)),
        Question("Which company's memo is this?", (firm,), (firm_ink,), ("layout",)),
    ]
    subject = content.topic()
    people = [content.person() for _ in range(rng.randint(2, 3))]
    date = content.date()
    lines = [
        ("TO", people[0], rng.choice(("To whom is the memo sent?", "Who receives the memo?"))),
        ("FROM", people[1], rng.choice(("Who sent the memo?", "From whom is the memo?"))),
        ("DATE", date, what_is(rng, "date of the memo", "memo")),
        (
            "SUBJECT",
            Value(subject.upper(), (subject,)),
            what_is(rng, "subject of the memo", "memo"),
        ),
    ]
    if len(people) > 2:
        lines.insert(2, ("CC", people[2], "Who gets a copy of the memo?"))
    y = 240.0
    for label, value, text in lines:
        canvas.text(90, y, label + ":", bold=True)
        ink = canvas.text(270, y, value.text, max_width=850)
        questions.append(Question(text, value.answers, (ink,), ("form",)))
        y += 42
    canvas.line(90, y, 1185, y, 3)
    asked, y = _draw_body(canvas, content, y + 55, 1340)
    questions += asked

    department = content.pick(DEPARTMENTS)
    canvas.text(90, y + 20, "Distribution:", bold=True)
    ink = canvas.text(300, y + 20, department)
    questions.append(
        Question("Which department is on the distribution list?", (department,), (ink,), ("form",))
    )
    note = content.person()
    canvas.text(90, y + 75, "Reviewed by:", bold=True)
    ink = canvas.handwrite(300, y + 76, note.text, rng, size=26, max_width=420)
    questions.append(
        Question(
            who_is(rng, "person who reviewed the memo", "memo"),
            note.answers,
            (ink,),
            ("handwritten", "form"),
        )
    )
    return questions


def _draw_body(
    canvas: Canvas, content: Content, y: float, limit: float
) -> tuple[list[Question], float]:
    """Paragraphs from `y` down, none begun that could pass `limit`; where the text ends."""
    rng = content.rng
    sentences = rng.sample(_SENTENCES, len(_SENTENCES))
    fillers = rng.sample(_FILLERS, len(_FILLERS))
    questions = []
    while sentences and fillers and y < limit - 6.5 * canvas.style.size:
        facts = [(sentence, _fact(content, sentence.kind)) for sentence in sentences[:2]]
        del sentences[:2]
        parts = [sentence.text.format(value.text) for sentence, value in facts]
        parts.insert(rng.randrange(3), fillers.pop())
        paragraph = canvas.paragraph(90, y, 1095, " ".join(parts))
        y = paragraph.bottom + 0.8 * canvas.style.size
        for sentence, value in facts:
            questions.append(
                Question(sentence.asked, value.answers, paragraph.find(value.text), ("free_text",))
            )
        if len(questions) >= 6 and rng.random() < 0.3:
            break
    return questions, y


def _fact(content: Content, kind: str) -> Value:
    match kind:
        case "date":
            return content.date()
        case "money":
            return content.price(50_000, 99_999_999)[1]
        case "person":
            return content.person()
        case "percent":
            return content.percent()
        case "company":
            return Value(content.company())
        case "place":
            return Value(content.surname())
        case "code":
            return Value(content.code())
        case "number":
            return Value(content.number(13, 99_999))
        case "goods":
            return Value(content.goods())
        case "department":
            return Value(content.pick(DEPARTMENTS))
    raise ValueError(f"{kind!r} is no kind of fact")
