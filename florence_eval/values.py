"""What a short text means where the whole of it writes a number or a date."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import product

_NUMBER = re.compile(
    r"(\()?\s*([-+\u2212]?)(?:[$€£¥₹]\s*)?"
    r"(\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)"
    r"\s*(?:%|percent|per cent)?\s*(\))?",
    re.ASCII,
)
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {word: Decimal(value) for value, word in enumerate(_WORDS.split())}
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DATE_PART = re.compile(r"\d+|[a-z]+")
_NO_DATE_WORDS = {"st", "nd", "rd", "th", "of", "the"}

Day = tuple[int | None, int, int | None]
"""Year, month and day; None for what a text leaves open."""

# Two such texts write the same number where their digits are the same, but for leading zeros.
WHOLE_NUMBER = r"^(?:\d+|\d{1,3}(?:,\d{3})+)$"
# What every number and every date in ASCII matches, whatever the case, and little else. No look
# around, so that Arrow can search for them.
ANY_NUMBER = rf"^[^a-z]*(?:percent|per cent|{'|'.join(NUMBER_WORDS)})?[^a-z]*$"
ANY_DATE = rf"\d\D+\d+\D+\d|^\D*\d\d?\D+\d\d\d\d\D*$|{'|'.join(month[:3] for month in _MONTHS)}"


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
def dates(text: str) -> frozenset[Day]:
    """The days, or months of a year, that the whole of `text` may write; empty if it writes none.

    "January 5, 1990", "5th Jan. 1990", "Friday, 1990-01-05", "1/5/90", "Jan. 5", "1/1990". Of
    numbers alone, day and month are read in both orders; a year of two digits is 1930 to 2029.
    """
    parts = [part for part in _DATE_PART.findall(text.lower()) if part not in _NO_DATE_WORDS]
    numbers = [part for part in parts if part.isdigit()]
    words = [part for part in parts if part.isalpha() and _begun(part, _WEEKDAYS) is None]
    months = [_begun(word, _MONTHS) for word in words]
    if len(words) > 1 or None in months or any(len(part) > 4 for part in numbers):
        return frozenset()
    month = months[0] if months else None
    match [int(part) for part in numbers]:
        case [first, second] if month is not None:
            found = [_day(second, month, first), _day(first, month, second)]
        case [only] if month is not None:
            found = [_day(None, month, only) if only <= 31 else _day(only, month, None)]
        case [first, second] if len(numbers[0]) <= 2 and len(numbers[1]) == 4:
            found = [_day(second, first, None)]
        case [first, second, third] if month is None:
            found = [
                _day(third, first, second),
                _day(third, second, first),
                _day(first, second, third),
            ]
        case _:
            found = []
    return frozenset(day for day in found if day is not None)


def same_value(one: str, other: str) -> bool | None:
    """Whether two texts write the same number or date; None unless both write one.

    "(12)" is read as 12 too, because tables are quoted with and without their brackets, and the
    words "zero" to "twelve" count as numbers.
    """
    ours, theirs = _readings(one), _readings(other)
    if ours and theirs:
        return not ours.isdisjoint(theirs)
    if ours or theirs:
        return None
    days = dates(one), dates(other)
    if not all(days):
        return None
    if days[0] & days[1]:
        return True
    # "Jan. 5" is neither the same as "Jan. 5, 1990" nor another day.
    return None if any(_agree(*pair) for pair in product(*days)) else False


@lru_cache(maxsize=4096)
def _readings(text: str) -> frozenset[Decimal]:
    word = text.strip().lower()
    if word in NUMBER_WORDS:
        return frozenset((NUMBER_WORDS[word],))
    value = number(text)
    if value is None:
        return frozenset()
    return frozenset((value, -value) if "(" in text else (value,))


def _begun(word: str, names: tuple[str, ...]) -> int | None:
    """The place, from 1, of the name that a word of three letters or more begins or is."""
    places = (place for place, name in enumerate(names, 1) if name.startswith(word))
    return next(places, None) if len(word) >= 3 else None


def _agree(one: Day, other: Day) -> bool:
    """Whether two days may be one, where either leaves something open."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _day(year: int | None, month: int, day: int | None) -> Day | None:
    if year is not None and year < 100:
        year += 2000 if year < 30 else 1900
    try:
        # A leap year, where none is said, has every day there is.
        date(2000 if year is None else year, month, 1 if day is None else day)
    except ValueError:
        return None
    return year, month, day
