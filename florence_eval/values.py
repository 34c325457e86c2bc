"""What a short text means where the whole of it writes a number or a date."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import lru_cache

_NUMBER = re.compile(
    r"(\()?\s*([-+\u2212]?)(?:[$€£¥₹]\s*)?"
    r"(\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)"
    r"\s*(?:%|percent|per cent)?\s*(\))?",
    re.ASCII,
)
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {word: Decimal(value) for value, word in enumerate(_WORDS.split())}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DATE_PART = re.compile(r"\d+|[a-z]+")
_NO_DATE_WORDS = {"st", "nd", "rd", "th", "of"}

# What every number and every date in ASCII matches, whatever the case, and little else. No look
# around, so that Arrow can search for them.
ANY_NUMBER = rf"^[^a-z]*(?:percent|per cent|{'|'.join(NUMBER_WORDS)})?[^a-z]*$"
ANY_DATE = rf"\d\D+\d+\D+\d|{'|'.join(_MONTHS)}"


def number(text: str) -> Decimal | None:
    """The number that the whole of `text` writes, or None.

    Thousands separators ("1,000", "1,00,000"), a currency sign before, "%" or "percent" behind
    (the unit is dropped: "5%" is 5) and accountants' brackets ("(12)" is -12) are read.
    """
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None:
        return None
    opened, sign, digits, closed = found.groups()
    if (opened is None) != (closed is None):
        return None
    value = Decimal(digits.replace(",", ""))
    return -value if opened or sign in ("-", "\u2212") else value


def canonical_number(text: str) -> str | None:
    """The number that `text` writes in plain digits ("$1,000.50" as "1000.5"), or None."""
    value = number(text)
    if value is None:
        return None
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@lru_cache(maxsize=4096)
def dates(text: str) -> frozenset[date]:
    """The days that the whole of `text` may write; empty where it writes none.

    "January 5, 1990", "5th Jan. 1990", "1990-01-05", "1/5/90". Of numbers alone, day and month are
    read in both orders; a year of two digits is 1930 to 2029.
    """
    parts = [part for part in _DATE_PART.findall(text.lower()) if part not in _NO_DATE_WORDS]
    if len(parts) != 3 or any(part.isdigit() and len(part) > 4 for part in parts):
        return frozenset()
    words = [part for part in parts if part.isalpha()]
    if len(words) > 1 or any(word[:3] not in _MONTHS for word in words):
        return frozenset()
    if words:
        month = _MONTHS.index(words[0][:3]) + 1
        first, second = (int(part) for part in parts if not part.isalpha())
        orders = [(second, month, first), (first, month, second)]
    else:
        first, second, third = map(int, parts)
        orders = [(third, first, second), (third, second, first), (first, second, third)]
    return frozenset(day for order in orders if (day := _day(*order)) is not None)


def same_value(one: str, other: str) -> bool | None:
    """Whether two texts write the same number or date; None unless both write one.

    "(12)" is read as 12 too, because tables are quoted with and without their brackets, and the
    words "zero" to "twelve" count as numbers.
    """
    numbers = _readings(one), _readings(other)
    if all(numbers):
        return bool(numbers[0] & numbers[1])
    if any(numbers):
        return None
    days = dates(one), dates(other)
    if all(days):
        return bool(days[0] & days[1])
    return None


@lru_cache(maxsize=4096)
def _readings(text: str) -> frozenset[Decimal]:
    word = text.strip().lower()
    if word in NUMBER_WORDS:
        return frozenset((NUMBER_WORDS[word],))
    value = number(text)
    if value is None:
        return frozenset()
    return frozenset((value, -value) if "(" in text else (value,))


def _day(year: int, month: int, day: int) -> date | None:
    if year < 100:
        year += 2000 if year < 30 else 1900
    try:
        return date(year, month, day)
    except ValueError:
        return None
