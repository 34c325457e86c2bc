"""The character difference that an error report marks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_eval.error_report.differences import LONGEST, aligned

TEXTS = st.text(alphabet="aAbB1. ß\u0130é", max_size=12) | st.text(max_size=8)


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein's distance, from its definition."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            change = previous + (left != right)
            previous, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def lower(text: str) -> list[str]:
    return [character.lower() for character in text]


@given(TEXTS, TEXTS, st.booleans())
def test_the_parts_are_the_texts_and_the_differences_the_fewest_edits(
    prediction: str, reference: str, fold_case: bool
) -> None:
    fold = lower if fold_case else list
    pairs = aligned(prediction, reference, fold_case=fold_case)
    assert "".join(pair[0] for pair in pairs) == prediction
    assert "".join(pair[1] for pair in pairs) == reference
    assert all(fold(one) == fold(other) for one, other in pairs[::2])
    marked = sum(edits(fold(one), fold(other)) for one, other in pairs[1::2])
    assert marked == edits(fold(prediction), fold(reference))


@pytest.mark.parametrize(
    ("prediction", "reference", "pairs"),
    [
        ("0.26", "0.28", [("0.2", "0.2"), ("6", "8")]),
        ("ITC Limited", "itc limited", [("ITC Limited", "itc limited")]),
        ("", "1975", [("", ""), ("", "1975")]),
        ("$184 million", "$278 million", [("$", "$"), ("184", "278"), (" million", " million")]),
        # The "a" that both have says nothing.
        ("pear", "boat", [("", ""), ("pear", "boat")]),
    ],
)
def test_worked_differences(prediction: str, reference: str, pairs: list[tuple[str, str]]) -> None:
    assert aligned(prediction, reference, fold_case=True) == pairs


def test_of_very_long_texts_the_ends_are_compared() -> None:
    long = "x" * 2 * LONGEST
    assert aligned(f"a{long}c", f"a{long[1:]}yc", fold_case=True) == [
        ("a" + long[1:], "a" + long[1:]),
        ("x", "y"),
        ("c", "c"),
    ]
    assert aligned(long, long + "x", fold_case=True) == [(long, long), ("", "x"), ("", "")]
