"""Kinds of questions and answers by their looks."""

from __future__ import annotations

import pytest

from florence_eval.error_report.kinds import answered_with, asked_with


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What is the total?", "what"),
        ("  HOW MANY rats were fed?", "how many"),
        ("How is it computed?", "how"),
        ("In which year was it?", "which"),
        ("Is the form signed?", "yes or no"),
        ("The form is signed by whom?", "whom"),
        ("Name the form that is signed", "other"),
        ("Wie hoch ist der Betrag?", "other"),
        ("", "other"),
        (None, "other"),
    ],
)
def test_the_word_that_a_question_asks_with(question: str | None, word: str) -> None:
    assert asked_with(question) == word


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("$1,000.50", "number"),
        ("January 5, 1990", "date"),
        ("1/8/93", "date"),
        ("Yes.", "yes or no"),
        ("ITC", "one word"),
        ("", "one word"),
        ("ITC Limited", "2 to 4 words"),
        ("1 2 3 4 5", "5 words or more"),
    ],
)
def test_the_kind_of_an_answer(answer: str, kind: str) -> None:
    assert answered_with(answer) == kind
