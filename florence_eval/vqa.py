"""VQA accuracy: agreement with ten annotators (Antol et al., "VQA", ICCV 2015)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from florence_eval.errors import InputError

# Of fewer annotators none could give a score of 1.
LEAST_ANSWERS = 4
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The official script means "no digit before", but writes a lookahead that always holds; and it
# passes re.UNICODE (32) as `count`. Both are kept: the scores depend on them.
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_REMOVED = 32
_ARTICLES = {"a", "an", "the"}
_DIGITS = {
    "none": "0",
    **{
        word: str(digit)
        for digit, word in enumerate(
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        )
    },
}


def vqa_accuracy(
    prediction: str,
    answers: Sequence[str],
    *,
    evalai: bool = False,
    any_answer: bool = False,
) -> float:
    """The mean over annotators of min(1, others who gave the prediction / 3), in [0, 1].

    Each annotator is left out in turn, as the official script does (VQA v2's `vqaEval.py`). It
    normalises (punctuation, articles, number words, contractions) the prediction and the answers
    only where the annotators disagree; white space around an answer is no disagreement.

    evalai: normalise always, and drop commas, question marks and possessives first: the EvalAI
        server's way, which TextVQA's published numbers use.
    any_answer: 1.0 for a match with any answer. For files that keep fewer answers than the ten that
        were given (The Cauldron keeps one): agreement cannot be counted there.

    Raises `InputError` for fewer than four answers unless `any_answer` is on: no prediction could
    score 1.
    """
    if len(answers) < LEAST_ANSWERS and not any_answer:
        raise InputError(too_few(len(answers)))
    predicted = _one_line(prediction)
    accepted = [_one_line(answer) for answer in answers]
    if evalai:
        predicted, *accepted = map(evalai_normalised, [predicted, *accepted])
    elif len(set(accepted)) > 1 or any_answer:
        predicted, *accepted = map(normalised, [predicted, *accepted])
    matches = accepted.count(predicted)
    if any_answer:
        return float(matches > 0)
    leaving_out_a_match = min(1.0, (matches - 1) / 3)
    leaving_out_another = min(1.0, matches / 3)
    total = matches * leaving_out_a_match + (len(accepted) - matches) * leaving_out_another
    return total / len(accepted)


def too_few(answers: int) -> str:
    """Why so few answers are refused, in words."""
    return (
        f"answers: vqa_accuracy counts the agreement of ten, found {answers}; switch on any_answer "
        "to accept a match with any"
    )


def normalised(text: str) -> str:
    """The official script's normal form of an answer."""
    return _without_articles(_without_punctuation(text))


def evalai_normalised(text: str) -> str:
    """The EvalAI server's normal form of an answer."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalised(_one_line(text.strip()))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str) -> str:
    comma = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or comma else " ")
    return _PERIOD.sub("", cleaned, count=_PERIODS_REMOVED)


def _without_articles(text: str) -> str:
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _contractions() -> dict[str, str]:
    """What the official script respells: each contraction below with one apostrophe left out."""
    spelled = {
        word[:place] + word[place + 1 :]: word
        for word in _CONTRACTED.split()
        for place, character in enumerate(word)
        if character == "'"
    }
    return {**spelled, "somebody'd": "somebodyd"}


_CONTRACTED = """
    'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
    might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
    who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've
    y'all'll you'd you'd've you'll you're you've
"""

_CONTRACTIONS = _contractions()
