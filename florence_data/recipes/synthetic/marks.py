"""What an archive adds to a finished page: a page number, a file number, a stamp."""

from __future__ import annotations

from PIL import Image, ImageDraw

from florence_data.recipes.synthetic.canvas import PAGE_HEIGHT, PAGE_WIDTH, Box, Canvas
from florence_data.recipes.synthetic.content import Content
from florence_data.recipes.synthetic.question import Question
from florence_data.recipes.synthetic.skew import Skew

_STAMPS = (
    "RECEIVED", "PAID", "APPROVED", "FILED", "COPY", "CHECKED", "ENTERED", "CONFIDENTIAL",
    "CANCELLED",
)  # fmt: skip
_STAMP_COLORS = ("#b03030", "#2d4fa0", "#5a3a8a", "#2f6d46")


def draw_marks(canvas: Canvas, content: Content) -> list[Question]:
    """Some of them, at places where nothing is printed."""
    rng = content.rng
    questions = []
    if rng.random() < 0.5:
        number = str(rng.randrange(1, 400))
        ink = canvas.text(637, 1600, number, size=18, align="center")
        space = canvas.width(number, 18) / 2 + 8
        form = rng.choice(("5", "Page 5", "- 5 -"))
        if form != "5":
            canvas.text(637 - space, 1600, form.split()[0], size=18, align="right")
        if form == "- 5 -":
            canvas.text(637 + space, 1600, "-", size=18)
        questions.append(
            Question(
                "What is the page number at the bottom of the page?", (number,), (ink,), ("layout",)
            )
        )
    if rng.random() < 0.4:
        number = content.fresh(lambda: str(rng.randrange(10_000_000, 99_999_999)))
        ink = canvas.text(1195, 1605, number, size=18, align="right", family=canvas.style.heading)
        questions.append(
            Question(
                "What is the number at the bottom right corner of the page?",
                (number,),
                (ink,),
                ("layout", "others"),
            )
        )
    if rng.random() < 0.45:
        questions += _draw_stamp(canvas, content)
    return questions


def _draw_stamp(canvas: Canvas, content: Content) -> list[Question]:
    """A stamp with a word and a date, turned a little; none where the page has no free place."""
    rng = content.rng
    word, date = rng.choice(_STAMPS), content.date()
    scale = canvas.scale
    family = canvas.style.heading
    large, small = family.font(int(34 * scale), bold=True), family.font(int(24 * scale))
    text = date.text.upper()
    width = int(max(large.getlength(word), small.getlength(text)) + 44 * scale)
    height = int(104 * scale)
    angle = rng.uniform(-0.2, 0.2)
    # Room to turn in; the stamp stands in the middle of a larger mask.
    reach = int(width * abs(angle) / 2 + height * abs(angle) / 2) + 4
    size = (width + 2 * reach, height + 2 * reach)
    corner = _free_place(canvas, content, size)
    if corner is None:
        return []

    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    frame = (reach, reach, reach + width - 1, reach + height - 1)
    strength = rng.randrange(170, 240)
    pen.rounded_rectangle(
        frame, radius=int(10 * scale), outline=strength, width=max(1, int(4 * scale))
    )
    boxes: list[Box] = []
    for line, font, y in ((word, large, 48), (text, small, 86)):
        at = (size[0] // 2, reach + int(y * scale))
        pen.text(at, line, fill=strength, font=font, anchor="ms")
        boxes.append(pen.textbbox(at, line, font=font, anchor="ms"))
    turn = Skew(angle, size[0] / 2, size[1] / 2)
    mask = turn.apply(mask, "black")
    x, y = corner
    color = rng.choice(_STAMP_COLORS)
    canvas.image.paste(color, (x, y, x + size[0], y + size[1]), mask)
    inks = []
    for line, box in zip((word, text), boxes, strict=True):
        x1, y1, x2, y2 = turn.bounds(box)
        inks.append(canvas.record(line, (x + x1, y + y1, x + x2, y + y2)))
    return [
        Question(
            rng.choice(
                ("Which word is stamped on the page?", "What does the stamp on the page say?")
            ),
            (word, f"{word} {text}"),
            (inks[0],),
            ("others",),
        ),
        Question(
            rng.choice(("What is the date on the stamp?", "Which date is stamped on the page?")),
            (text, *(answer for answer in date.answers if answer != text)),
            (inks[1],),
            ("others",),
        ),
    ]


def _free_place(canvas: Canvas, content: Content, size: tuple[int, int]) -> tuple[int, int] | None:
    """The corner of a rectangle of pixels without ink, or None after a fair number of tries."""
    rng = content.rng
    width, height = size
    x_end, y_end = canvas.pixel(PAGE_WIDTH - 70, PAGE_HEIGHT - 70)
    x_start, y_start = canvas.pixel(70, 50)
    for _ in range(60):
        x, y = rng.randint(x_start, x_end - width), rng.randint(y_start, y_end - height)
        if all(
            x + width < x1 or x2 < x or y + height < y1 or y2 < y
            for x1, y1, x2, y2 in (ink.box for ink in canvas.inks)
        ):
            return x, y
    return None
