"""What is asked about a page, and how."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from florence_data.recipes.synthetic.canvas import Ink


@dataclass(frozen=True)
class Question:
    """A question that the page answers.

    `answers` begins with the form that the page shows; `evidence` is the ink that shows it; `types`
    are DocVQA's names.
    """

    text: str
    answers: tuple[str, ...]
    evidence: tuple[Ink, ...]
    types: tuple[str, ...]


def what_is(rng: random.Random, noun: str, document: str) -> str:
    """Ask for a thing that the document states."""
    return rng.choice(
        (
            f"What is the {noun}?",
            f"What is the {noun}?",
            f"What is the {noun} mentioned in the {document}?",
            f"What is the {noun} given in this {document}?",
            f"What is the {noun} as per the {document}?",
            f"Mention the {noun}.",
        )
    )


def who_is(rng: random.Random, noun: str, document: str) -> str:
    """Ask for a person whom the document names."""
    return rng.choice(
        (
            f"Who is the {noun}?",
            f"What is the name of the {noun}?",
            f"Who is named as the {noun} in this {document}?",
        )
    )


def extreme(
    rng: random.Random, thing: str, measure: str, values: Sequence[float]
) -> tuple[str, int] | None:
    """Ask which thing has the highest or lowest value; None where two share it."""
    word, best = rng.choice((("highest", max(values)), ("lowest", min(values))))
    if list(values).count(best) > 1:
        return None
    return f"Which {thing} has the {word} {measure}?", list(values).index(best)
