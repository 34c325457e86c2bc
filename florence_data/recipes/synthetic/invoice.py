"""Invoices, orders and other papers that list what is paid for."""

from __future__ import annotations

from florence_data.recipes.synthetic.canvas import Align, Canvas
from florence_data.recipes.synthetic.content import Content, Value, count
from florence_data.recipes.synthetic.grid import Column, draw_grid
from florence_data.recipes.synthetic.letterhead import draw_letterhead
from florence_data.recipes.synthetic.question import Question, extreme, what_is, who_is

# The name, the label of its own number, and what its total is called.
_PAPERS = (
    ("invoice", "Invoice", "Total due"),
    ("purchase order", "P.O.", "Order total"),
    ("quotation", "Quote", "Total price"),
    ("sales receipt", "Receipt", "Total paid"),
    ("credit note", "Credit note", "Total credit"),
    ("pro forma invoice", "Pro forma", "Grand total"),
)
_OTHER_DATES = (
    "Due date",
    "Order date",
    "Ship date",
    "Delivery date",
    "Payment date",
    "Valid until",
)
_OTHER_NUMBERS = (
    "Customer no.",
    "Contract no.",
    "Account no.",
    "Tracking no.",
    "Job no.",
    "Tax ID",
)
_PEOPLE = ("Sales representative", "Contact person", "Prepared by", "Account manager", "Buyer")
_TERMS = (
    "Payment is due within {}.",
    "A fee of 2% is charged on balances unpaid after {}.",
    "Goods can be returned within {} of delivery.",
    "This price is guaranteed for {}.",
)


def draw_invoice(canvas: Canvas, content: Content) -> list[Question]:
    """Head, facts, two addresses, items, totals and terms."""
    rng = content.rng
    paper, own, total_label = rng.choice(_PAPERS)
    head = draw_letterhead(canvas, content, paper)
    questions = list(head.questions)

    title = rng.choice((paper.upper(), paper.capitalize()))
    title_ink = canvas.heading(90, 300, title, 44, color=canvas.style.accent)
    questions.append(
        Question("What is the title of the document?", (title,), (title_ink,), ("layout",))
    )

    # The facts stand at the right of the addresses, so that both vary in length without touching.
    facts: list[tuple[str, str, Value]] = [
        (f"{own} no.", f"{own} number", Value(content.code())),
        (f"{own} date", f"{own} date", content.date()),
    ]
    for label in rng.sample(_OTHER_DATES, rng.randint(1, 3)):
        facts.append((label, label, content.date()))
    for label in rng.sample(_OTHER_NUMBERS, rng.randint(1, 2)):
        facts.append((label, label.replace(" no.", " number"), Value(content.code())))
    who = rng.choice(_PEOPLE)
    facts.append((who, who, content.person()))
    rng.shuffle(facts)
    align: Align = rng.choice(("left", "right"))
    colon = rng.choice((":", "", " :"))
    y = 300.0
    for label, noun, value in facts:
        y += 36
        canvas.text(700, y, label + colon, bold=align == "right", max_width=215)
        x = 930 if align == "left" else 1185
        ink = canvas.text(x, y, value.text, align=align, max_width=250)
        noun = noun[0].lower() + noun[1:] if noun[1:2].islower() else noun
        if noun == "prepared by":
            text = f"Who prepared the {paper}?"
        elif label in _PEOPLE:
            text = who_is(rng, noun, paper)
        else:
            text = what_is(rng, noun, paper)
        questions.append(Question(text, value.answers, (ink,), ("form",)))

    y = 350.0
    for label, verb in (("Bill to", "billed"), ("Ship to", "shipped")):
        canvas.text(90, y, label + colon, bold=True)
        name, firm = content.person(), content.company()
        street, town = content.street(), content.town()
        lines = [
            canvas.text(90, y + 30 * (number + 1), line, max_width=560)
            for number, line in enumerate((name.text, firm, street, town))
        ]
        thing = "the goods" if verb == "shipped" else "the customer"
        questions += [
            Question(
                f"What is the name of the person in the '{label}' address?",
                name.answers,
                (lines[0],),
                ("form",),
            ),
            Question(
                f"To which company is this {paper} billed?"
                if verb == "billed"
                else "To which company are the goods shipped?",
                (firm,),
                (lines[1],),
                ("form",),
            ),
            Question(
                f"In which street is {thing} {verb}?"
                if verb == "billed"
                else "To which street address are the goods shipped?",
                (street,),
                (lines[2],),
                ("form", "layout"),
            ),
        ]
        y += 175

    questions += _draw_items(canvas, content, 720, total_label)
    days = f"{content.number(5, 91)} days"
    terms = canvas.paragraph(90, 1522, 1000, rng.choice(_TERMS).format(days))
    questions.append(
        Question(
            f"Which period is stated in the sentence at the bottom of the {paper}?",
            (days, days.removesuffix(" days")),
            terms.find(days),
            ("free_text",),
        )
    )
    canvas.text(90, terms.bottom, f"{head.company}: thank you for your custom!", max_width=1000)
    return questions


def _draw_items(canvas: Canvas, content: Content, top: float, total_label: str) -> list[Question]:
    rng = content.rng
    names = [content.goods() for _ in range(rng.randint(3, 11))]
    counts = [rng.randint(1, 40) for _ in names]
    prices = [content.price(110, 49_999) for _ in names]
    amounts = [quantity * cents for quantity, (cents, _) in zip(counts, prices, strict=True)]
    with_code = rng.random() < 0.5

    columns = [
        Column(rng.choice(("Description", "Item", "Article", "Product")), 4.6),
        Column(rng.choice(("Qty", "Quantity", "Units")), 1.1, rng.choice(("right", "center"))),
        Column(rng.choice(("Unit price", "Price", "Rate")), 1.7, "right"),
        Column(rng.choice(("Amount", "Line total", "Extended")), 1.8, "right"),
    ]
    rows = [
        [name, str(quantity), price.text, content.money(amount).text]
        for name, quantity, (_, price), amount in zip(names, counts, prices, amounts, strict=True)
    ]
    if with_code:
        columns.insert(0, Column(rng.choice(("Code", "Part no.", "SKU")), 1.5))
        for row in rows:
            row.insert(0, content.code())
    row_height = rng.uniform(1.75, 2.1) * canvas.style.size
    grid = draw_grid(canvas, rng, top, columns, rows, row_height=row_height)

    questions = []
    number = rng.randrange(len(names))
    *code, _, quantity_ink, price_ink, amount_ink = grid.cells[number]
    name = names[number]
    list_type = ("table/list",)
    questions += [
        Question(
            rng.choice(
                (f"What is the quantity of '{name}'?", f"How many units of {name} are listed?")
            ),
            (str(counts[number]),),
            (quantity_ink,),
            list_type,
        ),
        Question(
            rng.choice((f"What is the unit price of {name}?", f"How much does one {name} cost?")),
            prices[number][1].answers,
            (price_ink,),
            list_type,
        ),
        Question(
            rng.choice((f"What is the amount for {name}?", f"What is the line total of {name}?")),
            content.money(amounts[number]).answers,
            (amount_ink,),
            list_type,
        ),
    ]
    if code:
        head = columns[0].title
        questions.append(
            Question(f"What is the {head} of {name}?", (code[0].text,), (code[0],), list_type)
        )
    if asked := extreme(rng, "item", "unit price", [cents for cents, _ in prices]):
        text, best = asked
        cell = grid.cells[best][-4]
        questions.append(Question(text, (cell.text,), (cell,), list_type))
    questions.append(
        Question(
            "How many different items are listed in the table?",
            count(len(names)),
            tuple(row[-4] for row in grid.cells),
            list_type,
        )
    )

    return questions + _draw_sums(canvas, content, grid.bottom + 50, sum(amounts), total_label)


def _draw_sums(
    canvas: Canvas, content: Content, y: float, subtotal: int, total_label: str
) -> list[Question]:
    rng = content.rng
    questions = []
    tax_name = rng.choice(("Tax", "VAT", "Sales tax"))
    percent = rng.choice((0, 5, 6, 7, 8, 10, 19, 20))
    tax = subtotal * percent // 100
    shipping = rng.randrange(500, 9_999)
    sums = (
        ("Subtotal", subtotal),
        (tax_name, tax),
        (rng.choice(("Shipping", "Freight", "Delivery")), shipping),
        (total_label, subtotal + tax + shipping),
    )
    for label, cents in sums:
        value = content.money(cents)
        bold = label == total_label
        canvas.text(770, y, label, bold=bold, max_width=140)
        ink = canvas.text(1175, y, value.text, bold=bold, align="right", max_width=180)
        noun = label if label.isupper() else label.lower()
        if label == tax_name:
            rate = canvas.text(980, y, f"{percent}%", align="right")
            questions += [
                Question(
                    f"What is the rate of {noun}?",
                    (f"{percent}%", f"{percent} %", str(percent)),
                    (rate,),
                    ("form",),
                ),
                Question(
                    f"Is any {noun} charged?",
                    ("Yes",) if percent else ("No",),
                    (rate, ink),
                    ("Yes/No",),
                ),
            ]
        noun = {"shipping": "charge for shipping", "delivery": "charge for delivery"}.get(
            noun, noun
        )
        questions.append(
            Question(
                rng.choice((f"What is the {noun}?", f"How much is the {noun}?")),
                value.answers,
                (ink,),
                ("form",),
            )
        )
        y += 38
    return questions
