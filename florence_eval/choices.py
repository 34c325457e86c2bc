"""Multiple choice: the letter of a choice or its text, whichever the model writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_CHOICE = re.compile(r"^\s*\(?([A-Z])[.):]\s*(\S.*?)\s*$", re.MULTILINE)
_OPTIONS = re.compile(r"^\s*Options:\s*(.+?)\.?\s*$", re.MULTILINE | re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Za-z])[.):]?")
_LETTER_THEN_TEXT = re.compile(r"\(?([A-Za-z])[.):]\s*\S.*", re.DOTALL)
_LEAD = re.compile(r"^\s*(?:the\s+)?(?:correct\s+)?answer(?:\s+is|\s*:)\s*:?\s*", re.IGNORECASE)


def multiple_choice(
    prediction: str, answers: Sequence[str], choices: Mapping[str, str] | None = None
) -> float:
    """1.0 where the prediction names the same choice as an answer, else 0.0.

    `choices` is letter to text, "A" to "Paris" (`read_choices` reads them from a question). Letter
    and text of a choice are the same answer. "B", "b", "(B)", "B.", "B. text", "b) text", "Answer:
    B" and "The answer is B" name a letter; anything else is text, compared without case, white
    space around and a final period. Without choices, letters match letters and texts match texts,
    and a small letter before a text names none ("e. coli").
    """
    known = choices or {}
    named = _choice(prediction, known)
    return float(any(named == _choice(answer, known) for answer in answers))


def read_choices(question: str | None) -> dict[str, str]:
    """The choices that a question lists, letter to text: one a line as "A. text" or "(A) text", or
    one line "Options: text, text." (lettered here in their order). Empty where it lists none."""
    if question is None:
        return {}
    listed: dict[str, str] = dict(_CHOICE.findall(question))
    if listed:
        return listed
    options = _OPTIONS.search(question)
    if options is None:
        return {}
    return {chr(ord("A") + place): text for place, text in enumerate(options[1].split(", "))}


def _choice(text: str, choices: Mapping[str, str]) -> str:
    """The letter that a text names, or the text itself, normalised."""
    text = _LEAD.sub("", text.strip())
    plain = _plain(text)
    # A choice may itself be one letter ("Which of these is a vowel? A. e"): its text comes first
    # only where no choice has that letter.
    letter = _LETTER.fullmatch(text)
    if letter is not None and (not choices or letter[1].upper() in choices):
        return letter[1].upper()
    for name, choice in choices.items():
        if plain == _plain(choice):
            return name
    led = _LETTER_THEN_TEXT.fullmatch(text)
    if led is not None and (led[1].upper() in choices if choices else led[1].isupper()):
        return led[1].upper()
    return plain


def _plain(text: str) -> str:
    return text.strip().rstrip(".").strip().casefold()
