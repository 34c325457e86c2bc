"""What a page says: names, places, things, dates and amounts, made of lists and syllables."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from florence_data.recipes.synthetic import vocabulary
from florence_data.recipes.synthetic.vocabulary import MONTHS

# Months not by `strftime`, whose names follow the machine's locale.
_DATE_STYLES: tuple[Callable[[datetime.date], str], ...] = (
    lambda day: f"{day:%m/%d/%Y}",
    lambda day: f"{day.month}/{day.day}/{day:%y}",
    lambda day: f"{day:%d.%m.%Y}",
    lambda day: f"{day:%Y-%m-%d}",
    lambda day: f"{day.day:02d}-{MONTHS[day.month - 1][:3]}-{day.year}",
    lambda day: f"{day.day} {MONTHS[day.month - 1]} {day.year}",
    lambda day: f"{MONTHS[day.month - 1]} {day.day}, {day.year}",
    lambda day: f"{MONTHS[day.month - 1][:3]}. {day.day}, {day.year}",
)


@dataclass(frozen=True)
class Value:
    """What is printed, and other forms of it that a person would accept as an answer."""

    text: str
    also: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """All accepted forms, the printed one first."""
        return (self.text, *self.also)


class Content:
    """The facts of one page: dates and money in one style, and nothing stated twice.

    What `person`, `date` and the others return differs from all that they returned before, so that
    a question that names or asks for one of them has one answer on the page.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        # Pillow's own font has neither the pound's sign nor the euro's.
        self.symbol = rng.choice(("$", "$", "$", "USD ", "GBP ", "EUR ", ""))
        self._write_date = rng.choice(_DATE_STYLES)
        self._used: set[str] = set()

    def fresh(self, make: Callable[[], str]) -> str:
        """What `make` returns, called until it is new on the page."""
        while (text := make()) in self._used:
            pass
        self._used.add(text)
        return text

    def pick(self, options: Sequence[str]) -> str:
        """One of the options, new on the page; there must be more of them than are picked."""
        return self.fresh(lambda: self.rng.choice(options))

    def surname(self) -> str:
        """A family name, also used for places and firms."""
        return self.fresh(
            lambda: self.rng.choice(vocabulary.HEADS) + self.rng.choice(vocabulary.TAILS)
        )

    def person(self) -> Value:
        """A full name; without its title it is accepted as well."""
        rng = self.rng
        first = self.fresh(lambda: rng.choice(vocabulary.FIRST_NAMES))
        form = rng.random()
        if form < 0.2:
            first = f"{first} {rng.choice('ABCDEFGHJKLMNPRSTW')}."
        name = f"{first} {self.surname()}"
        if form > 0.85:
            return Value(f"{rng.choice(('Dr.', 'Prof.'))} {name}", (name,))
        return Value(name)

    def company(self) -> str:
        """A firm."""
        rng = self.rng
        form = rng.random()
        if form < 0.15:
            return f"{self.surname()} & {self.surname()}"
        if form < 0.25:
            return f"{self.surname()} Institute of {self.pick(vocabulary.DEPARTMENTS)}"
        industry = self.pick(vocabulary.INDUSTRIES)
        return f"{self.surname()} {industry} {rng.choice(vocabulary.COMPANY_ENDS)}".strip()

    def street(self) -> str:
        """A street address."""
        rng = self.rng
        if rng.random() < 0.1:
            return self.fresh(lambda: f"P.O. Box {rng.randrange(100, 9999)}")
        return f"{rng.randrange(2, 2999)} {self.surname()} {rng.choice(vocabulary.STREET_KINDS)}"

    def town(self) -> str:
        """A town with its state and code."""
        rng = self.rng
        return f"{self.surname()}, {rng.choice(vocabulary.STATES)} {rng.randrange(10000, 99999)}"

    def phone(self) -> str:
        """A telephone number."""
        rng = self.rng
        form = rng.choice(("({}) {}-{}", "{}-{}-{}", "{} {} {}", "+1 {} {} {}"))
        return self.fresh(
            lambda: form.format(
                rng.randrange(201, 990), rng.randrange(200, 999), f"{rng.randrange(10000):04d}"
            )
        )

    def website(self, name: str) -> str:
        """The address of a firm's pages."""
        letters = "".join(letter for letter in name.lower() if letter.isalpha())[:16]
        return f"www.{letters}.{self.rng.choice(('com', 'org', 'net', 'co'))}"

    def date(self, first_year: int = 1955, last_year: int = 2024) -> Value:
        """A date in the page's style."""
        days = (last_year - first_year + 1) * 365
        start = datetime.date(first_year, 1, 1)
        text = self.fresh(
            lambda: self._write_date(start + datetime.timedelta(self.rng.randrange(days)))
        )
        return Value(text, (text.replace(",", ""),) if "," in text else ())

    def clock(self) -> Value:
        """A time of day."""
        rng = self.rng
        text = self.fresh(
            lambda: (
                f"{rng.randrange(1, 13)}:{rng.choice(('00', '15', '30', '45'))} "
                f"{rng.choice(('a.m.', 'p.m.'))}"
            )
        )
        return Value(text, (text.replace(".", ""),))

    def money(self, cents: int) -> Value:
        """An amount in the page's currency; its number alone is accepted as well."""
        number = f"{cents / 100:,.2f}"
        return Value(self.symbol + number, (number,) if self.symbol else ())

    def price(self, low: int, high: int) -> tuple[int, Value]:
        """An amount new on the page, in cents and as printed."""
        text = self.fresh(lambda: str(self.rng.randrange(low, high)))
        return int(text), self.money(int(text))

    def number(self, low: int, high: int) -> str:
        """A whole number, with thousands separated."""
        return self.fresh(lambda: f"{self.rng.randrange(low, high):,}")

    def percent(self) -> Value:
        """A percentage with one decimal."""
        number = self.fresh(lambda: f"{self.rng.randrange(11, 999) / 10:.1f}")
        return Value(f"{number}%", (number, f"{number} %"))

    def code(self) -> str:
        """A reference number such as a file or an order has."""
        rng = self.rng
        form = rng.choice(
            ("#####", "######", "@@-####", "@#-###-##", "##-####", "@@@####", "####/##")
        )

        def make() -> str:
            letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
            return "".join(
                rng.choice("0123456789")
                if mark == "#"
                else rng.choice(letters)
                if mark == "@"
                else mark
                for mark in form
            )

        return self.fresh(make)

    def goods(self) -> str:
        """Something that can be ordered."""
        rng = self.rng
        thing = self.pick(vocabulary.GOODS)
        name = f"{rng.choice(vocabulary.MATERIALS)} {thing}"
        return name if rng.random() < 0.3 else f"{name} {rng.choice(vocabulary.SIZES)}"

    def topic(self) -> str:
        """What a letter or a report is about."""
        return f"{self.pick(vocabulary.TOPIC_THINGS)} {self.pick(vocabulary.TOPIC_KINDS)}"


def count(number: int) -> tuple[str, ...]:
    """The accepted forms of a small count."""
    return (str(number), vocabulary.NUMBERS[number])
