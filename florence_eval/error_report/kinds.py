"""What kind of question, and of answer, by their looks: slices for data that names no types."""

from __future__ import annotations

import re

from florence_eval.values import dates, number

_WORD = re.compile(r"\b(how many|how much|what|which|who|whose|whom|when|where|why|how)\b")
_VERB = re.compile(r"\W*(is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b")


def asked_with(question: str | None) -> str:
    """The first English word in a question that asks ("In which year…": which); "yes or no" where
    it begins with a verb, "other" where no such word is in it."""
    text = (question or "").lower()
    if _VERB.match(text):
        return "yes or no"
    found = _WORD.search(text)
    return found[1] if found is not None else "other"


def answered_with(answer: str) -> str:
    """The kind of an answer: a number, a date, yes or no, or how many words."""
    if number(answer) is not None:
        return "number"
    if dates(answer):
        return "date"
    if answer.strip(" .").lower() in ("yes", "no"):
        return "yes or no"
    words = len(answer.split())
    if words <= 1:
        return "one word"
    return "2 to 4 words" if words <= 4 else "5 words or more"
