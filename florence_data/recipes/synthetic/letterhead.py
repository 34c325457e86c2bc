"""The head of a firm's paper: name, address, telephone, a simple logo."""

from __future__ import annotations

from dataclasses import dataclass

from florence_data.recipes.synthetic.canvas import Align, Canvas
from florence_data.recipes.synthetic.content import Content
from florence_data.recipes.synthetic.question import Question


@dataclass(frozen=True)
class Letterhead:
    """What a head says, what can be asked about it, and where it ends in design units."""

    company: str
    questions: tuple[Question, ...]
    bottom: float


def draw_letterhead(canvas: Canvas, content: Content, document: str) -> Letterhead:
    """Draw it across the top of the page, at the left, in the middle or at the right."""
    rng = content.rng
    company = content.company()
    street, town = content.street(), content.town()
    phone = content.phone()
    align: Align = rng.choice(("left", "center", "right"))
    x = {"left": 90, "center": 637, "right": 1185}[align]

    if align == "left" and rng.random() < 0.6:
        _draw_logo(canvas, content, 90, 70, company[0])
        x += 110
    color = rng.choice((canvas.style.ink, canvas.style.accent))
    name = canvas.heading(x, 110, company, 38, align=align, color=color, max_width=700)
    address = (
        canvas.text(x, 145, street, size=19, align=align),
        canvas.text(x, 172, town, size=19, align=align),
    )
    line = canvas.text(x, 199, phone, size=19, align=align)
    label = rng.choice(("Tel.", "Phone", "Telephone:"))
    if align == "right":
        canvas.text(x - canvas.width(phone, 19) - 10, 199, label, size=19, align="right")
    bottom = 225.0
    if rng.random() < 0.5:
        canvas.line(90, bottom, 1185, bottom, rng.choice((1, 2, 4)), color)

    return Letterhead(
        company,
        (
            Question(
                rng.choice(
                    (
                        f"Which company's name is at the top of the {document}?",
                        f"Whose letterhead is on this {document}?",
                        f"What is the name of the organization that issued this {document}?",
                    )
                ),
                (company,),
                (name,),
                ("layout",),
            ),
            Question(
                f"What is the telephone number of {company}?",
                (phone,),
                (line,),
                ("others",),
            ),
            Question(
                f"What is the address of {company}?",
                (f"{street}, {town}", f"{street} {town}"),
                address,
                ("others",),
            ),
        ),
        bottom,
    )


def _draw_logo(canvas: Canvas, content: Content, x: float, y: float, initial: str) -> None:
    shape = content.rng.choice(("disc", "square", "ring", "diamond"))
    accent = canvas.style.accent
    middle = (x + 45, y + 45)
    if shape == "disc":
        canvas.ellipse(x, y, x + 90, y + 90, fill=accent)
    elif shape == "square":
        canvas.rectangle(x, y, x + 90, y + 90, fill=accent)
    elif shape == "ring":
        canvas.ellipse(x, y, x + 90, y + 90, outline=accent, width=10)
    else:
        canvas.polygon(
            ((x + 45, y - 5), (x + 95, y + 45), (x + 45, y + 95), (x - 5, y + 45)), accent
        )
    letter = accent if shape == "ring" else "#ffffff"
    canvas.heading(middle[0], middle[1] + 16, initial, 46, align="center", color=letter)
