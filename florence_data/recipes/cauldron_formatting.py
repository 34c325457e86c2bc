"""What The Cauldron's preparation did to the text of its sources, and how it is undone.

Its authors published the code that made it; this module states what that code does, subset by
subset, as a table of rules. Each rule has an example row from before and after, which is its test.

Some of it cannot be undone and is left as it is: where an answer's first letter was lower-case,
the whole answer went through `str.capitalize()`, which lower-cases the rest (`iPhone` became
`Iphone`); docvqa and textcaps keep one random reference of several; plotqa rounds numbers; and an
answer whose own last character was a period (`Inc.`) had none added, but loses it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import ascii_uppercase

from florence_data.conversation_table import Turn


@dataclass(frozen=True)
class Rule:
    """One thing that the preparation did, undone: `undo(formatted)` is `plain`.

    A turn that does not have the rule's form is left alone.
    """

    what: str
    undo: Callable[[Turn], Turn]
    formatted: Turn
    plain: Turn


ANSWER_SHORTLY = (
    "Give a very brief answer.",
    "Answer briefly.",
    "Write a very short answer.",
    "Quick response, please.",
    "Short answer required.",
    "Keep it brief.",
    "Concise answer only.",
    "Be succinct.",
)

BREVITY_HINTS = (
    "Make the answer very short.",
    "Give a very brief answer.",
    "Your answer should be very brief.",
    "Offer a terse response.",
    "Provide a succinct answer.",
    "Keep it short and to the point.",
    "Ensure brevity in your answer. ",
    "Offer a very short reply.",
    "Your response must be concise.",
    "Your answer should be compact.",
    "Provide a short and direct response.",
)

BREVITY_OF_ALL = (
    "For each of the following questions, make the answer very short.",
    "Provide succinct responses to the questions below.",
    "Answer each question with brevity.",
    "Keep your answers concise for the following inquiries.",
    "Keep responses brief for each question.",
    "Offer short answers to the listed questions.",
    "Respond to each question with a brief answer.",
    "Keep your answers to the questions concise.",
    "Provide succinct answers for each question.",
    "Offer short and to-the-point responses to the questions provided.",
    "Keep your replies short for the following questions.",
    "Respond concisely to the questions presented.",
    "Provide terse responses to the following questions.",
    "Keep it snappy and straightforward when answering each question.",
    "Make your answers short.",
    "Keep your answers brief.",
)

PARSE_THE_TABLE = frozenset(
    (
        "Can you parse all the data within this table?",
        "Parse the table in full.",
        "Parse the full table.",
        "Parse the full table in json format.",
        "Could you parse the entire table?",
        "Would you be able to parse every entry in this table?",
        "Help me parse the entirety of this table.",
        "Would you mind parsing the complete table?",
        "Write the full table.",
        "Can you give me this table as a dict?",
        "Can you give me this table in json format?",
        "Give me the full table as a dictionary.",
        "Could you parse the entire table as a dict?",
        "I'm looking to parse the entire table for insights. Could you assist me with that?",
        "Could you help me parse every detail presented in this table?",
    )
)
"""Questions answered by the whole table as a Python dictionary, in the four rendered-table sets."""


def _strip_last_line(*lines: str) -> Callable[[Turn], Turn]:
    def undo(turn: Turn) -> Turn:
        question, newline, last = turn.question.rpartition("\n")
        known = newline and last.rstrip() in {line.rstrip() for line in lines}
        return replace(turn, question=question) if known else turn

    return undo


def _strip_first_line(*lines: str) -> Callable[[Turn], Turn]:
    def undo(turn: Turn) -> Turn:
        first, newline, question = turn.question.partition("\n")
        return replace(turn, question=question) if newline and first in lines else turn

    return undo


def _strip_end(end: str) -> Callable[[Turn], Turn]:
    return lambda turn: replace(turn, question=turn.question.removesuffix(end))


def _strip_start(start: str) -> Callable[[Turn], Turn]:
    return lambda turn: replace(turn, question=turn.question.removeprefix(start))


def without_added_period(text: str) -> str:
    """The text without one final period; `...` had none added and stays."""
    return text if text.endswith("..") else text.removesuffix(".")


def _strip_period(turn: Turn) -> Turn:
    return replace(turn, answer=without_added_period(turn.answer))


def _strip_choice_periods(turn: Turn) -> Turn:
    """In `Choices:`, each choice had a period added."""
    head, marker, choices = turn.question.partition("\nChoices:\n")
    lines = [
        without_added_period(line) if re.match(r"[A-L][.)] ", line) else line
        for line in choices.split("\n")
    ]
    return replace(turn, question=head + marker + "\n".join(lines))


def _separate_lecture_and_hint(turn: Turn) -> Turn:
    form = re.fullmatch(
        r"(?:Lecture: (?P<lecture>.*?)\n)?(?P<asked>Question: .*?)"
        r"(?:\nHint: (?P<hint>.*?))?(?P<choices>\nChoices:\n.*)",
        turn.question,
        re.DOTALL,
    )
    if form is None:
        return turn
    found = {name: form[name] for name in ("lecture", "hint") if form[name] is not None}
    return replace(turn, question=form["asked"] + form["choices"]).noting(**found)


def _list_choices(turn: Turn) -> Turn:
    form = re.fullmatch(
        r"Question: (?P<asked>.*)\nChoices:\n(?P<choices>.*)\nAnswer with the letter\.",
        turn.question,
        re.DOTALL,
    )
    letter = re.fullmatch(r"Answer: ([A-L])", turn.answer)
    if form is None or letter is None:
        return turn
    choices: list[str] = []
    for line in form["choices"].split("\n"):
        begins_next = re.match(r"([A-L])[.)] ?", line)
        if begins_next and begins_next[1] == ascii_uppercase[len(choices)]:
            choices.append(line[begins_next.end() :])
        elif choices:
            choices[-1] += "\n" + line
    return _multiple_choice(turn, form["asked"], choices, ascii_uppercase.index(letter[1]))


def _list_options(turn: Turn) -> Turn:
    form = re.fullmatch(
        r"(?P<asked>.*?)\n(?P<instruction>.*)\nOptions: (?P<options>.*)\.",
        turn.question,
        re.DOTALL,
    )
    if form is None:
        return turn
    options = form["options"].split(", ")
    known = [option.casefold() for option in options]
    if len(options) != 4 or known.count(turn.answer.casefold()) != 1:
        return replace(turn, question=f"{form['asked']}\nOptions: {form['options']}")
    return _multiple_choice(turn, form["asked"], options, known.index(turn.answer.casefold()))


def _multiple_choice(turn: Turn, asked: str, choices: list[str], right: int) -> Turn:
    if right >= len(choices):
        return turn
    listed = [
        f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    ]
    plain = replace(turn, question="\n".join((asked, *listed)), answer=choices[right])
    return plain.noting(choices=choices, letter=ascii_uppercase[right])


def _separate_rationale(turn: Turn) -> Turn:
    form = re.fullmatch(
        r"Answer: (?P<answer>.*?)\nRationale: (?P<rationale>.*)", turn.answer, re.DOTALL
    )
    if form is None:
        return turn
    return replace(turn, answer=form["answer"]).noting(rationale=form["rationale"])


def _separate_derivation(turn: Turn) -> Turn:
    derivation, marker, answer = turn.answer.rpartition("\nAnswer: ")
    if not marker:
        return turn
    plain = replace(turn, answer=answer)
    return plain.noting(derivation=derivation.strip()) if derivation.strip() else plain


def _separate_scale(turn: Turn) -> Turn:
    form = re.fullmatch(
        r"(?P<asked>.*)\nAnswer scale should be: (?P<scale>.*)\.", turn.question, re.DOTALL
    )
    return (
        turn if form is None else replace(turn, question=form["asked"]).noting(scale=form["scale"])
    )


def _separate_context(turn: Turn) -> Turn:
    context, newline, question = turn.question.rpartition("\n")
    return replace(turn, question=question).noting(context=context) if newline else turn


SHORTLY = Rule(
    "one of eight lines that ask for a short answer",
    _strip_last_line(*ANSWER_SHORTLY),
    Turn("How many dogs are there?\nQuick response, please.", "2."),
    Turn("How many dogs are there?", "2."),
)
BRIEFLY = Rule(
    "one of eleven other lines that ask for a short answer",
    _strip_last_line(*BREVITY_HINTS),
    Turn("What is the date?\nEnsure brevity in your answer. ", "1/8/93."),
    Turn("What is the date?", "1/8/93."),
)
BRIEFLY_ALL = Rule(
    "a line before the first question that asks for short answers to all",
    _strip_first_line(*BREVITY_OF_ALL),
    Turn("Keep your answers brief.\nWhat is the title of the graph?", "Exports of goods."),
    Turn("What is the title of the graph?", "Exports of goods."),
)
PERIOD = Rule(
    "a final period",
    _strip_period,
    Turn("What is the total?", "$ 12.50."),
    Turn("What is the total?", "$ 12.50"),
)
YES_OR_NO = Rule(
    "a last line that asks for yes or no",
    _strip_last_line("Answer yes or no."),
    Turn("Is Navy Blue the minimum?\nAnswer yes or no.", "No."),
    Turn("Is Navy Blue the minimum?", "No."),
)
YES_OR_NO_SENTENCE = Rule(
    "a last sentence that asks for yes or no",
    _strip_end(" Answer yes or no."),
    Turn('Is the claim "Two dogs run." valid? Answer yes or no.', "Yes."),
    Turn('Is the claim "Two dogs run." valid?', "Yes."),
)
BLANK = Rule(
    "a first sentence that says what (_) is",
    _strip_start("Fill in the blank. "),
    Turn("Fill in the blank. The clock shows (_) o'clock.", "3"),
    Turn("The clock shows (_) o'clock.", "3"),
)
CHOICE_PERIODS = Rule(
    "a final period after each choice",
    _strip_choice_periods,
    Turn(
        "Question: What is E?\nChoices:\nA. Mantle.\nB. Outer core.\nAnswer with the letter.",
        "Answer: B",
    ),
    Turn(
        "Question: What is E?\nChoices:\nA. Mantle\nB. Outer core\nAnswer with the letter.",
        "Answer: B",
    ),
)
LECTURE = Rule(
    "the lecture before a question and the hint behind it",
    _separate_lecture_and_hint,
    Turn(
        "Lecture: A solid keeps its shape.\nIt can break.\nQuestion: Is a rock a solid?\n"
        "Hint: Hold one.\nChoices:\nA. yes\nB. no\nAnswer with the letter.",
        "Answer: A",
    ),
    Turn(
        "Question: Is a rock a solid?\nChoices:\nA. yes\nB. no\nAnswer with the letter.",
        "Answer: A",
        {"lecture": "A solid keeps its shape.\nIt can break.", "hint": "Hold one."},
    ),
)
CHOICES = Rule(
    "a letter for an answer, and labels around the question and the choices",
    _list_choices,
    Turn(
        "Question: What eats grass?\nChoices:\nA. fox\nB. hare\nAnswer with the letter.",
        "Answer: B",
    ),
    Turn(
        "What eats grass?\nA. fox\nB. hare",
        "hare",
        {"choices": ["fox", "hare"], "letter": "B"},
    ),
)
OPTIONS = Rule(
    "an instruction to choose, and the options in one sentence",
    _list_options,
    Turn(
        "What pulls the cart?\nSelect the accurate response from the four choices given to answer "
        "the question.\nOptions: Horse, dog, ox, mule.",
        "Ox",
    ),
    Turn(
        "What pulls the cart?\nA. Horse\nB. dog\nC. ox\nD. mule",
        "ox",
        {"choices": ["Horse", "dog", "ox", "mule"], "letter": "C"},
    ),
)
RATIONALE = Rule(
    "a rationale behind the answer",
    _separate_rationale,
    Turn("What pulls the cart?", "Answer: ox.\nRationale: It has horns."),
    Turn("What pulls the cart?", "ox.", {"rationale": "It has horns."}),
)
DERIVATION = Rule(
    "a derivation before the answer",
    _separate_derivation,
    Turn("What is the change?", "\nComputations: (14 - 12)\nAnswer: 2."),
    Turn("What is the change?", "2.", {"derivation": "Computations: (14 - 12)"}),
)
SCALE = Rule(
    "a last line with the answer's scale",
    _separate_scale,
    Turn("What is the cost in 2019?\nAnswer scale should be: thousand.", "1,496."),
    Turn("What is the cost in 2019?", "1,496.", {"scale": "thousand"}),
)
CONTEXT = Rule(
    "the text around the table, before the question",
    _separate_context,
    Turn("Sales rose in 2009.\nCosts fell.\nWhat are the sales?", "14."),
    Turn("What are the sales?", "14.", {"context": "Sales rose in 2009.\nCosts fell."}),
)

RULES = (
    SHORTLY,
    BRIEFLY,
    BRIEFLY_ALL,
    PERIOD,
    YES_OR_NO,
    YES_OR_NO_SENTENCE,
    BLANK,
    CHOICE_PERIODS,
    LECTURE,
    CHOICES,
    OPTIONS,
    RATIONALE,
    DERIVATION,
    SCALE,
    CONTEXT,
)


@dataclass(frozen=True)
class Subset:
    """One of the fifty: its group, the rules that undo its formatting in order, and `long`: what
    its answers are where they are no answers to train a document reader on."""

    group: str
    rules: tuple[Rule, ...] = ()
    long: str = ""


SUBSETS = {
    "aokvqa": Subset("general", (RATIONALE, PERIOD, OPTIONS)),
    "cocoqa": Subset("general", (SHORTLY, PERIOD)),
    "hateful_memes": Subset("general", (YES_OR_NO, PERIOD)),
    "okvqa": Subset("general", (SHORTLY, PERIOD)),
    "tallyqa": Subset("general", (SHORTLY, PERIOD)),
    "visual7w": Subset("general", (CHOICES,)),
    "vqarad": Subset("general", (SHORTLY, PERIOD)),
    "vqav2": Subset("general", (SHORTLY, PERIOD)),
    "vsr": Subset("general", (YES_OR_NO, PERIOD)),
    "localized_narratives": Subset("captions"),
    "screen2words": Subset("captions", (PERIOD,)),
    "textcaps": Subset("captions"),
    "vistext": Subset("captions"),
    "diagram_image_to_text": Subset("documents"),
    "docvqa": Subset("documents", (BRIEFLY, PERIOD)),
    "iam": Subset("documents"),
    "infographic_vqa": Subset("documents", (SHORTLY, PERIOD)),
    "ocrvqa": Subset("documents", (BRIEFLY, PERIOD)),
    "rendered_text": Subset("documents"),
    "st_vqa": Subset("documents", (SHORTLY, PERIOD)),
    "textvqa": Subset("documents", (BRIEFLY, PERIOD)),
    "visualmrc": Subset("documents"),
    "chart2text": Subset("charts"),
    "chartqa": Subset("charts", (SHORTLY, PERIOD)),
    "dvqa": Subset("charts", (BRIEFLY, PERIOD)),
    "figureqa": Subset("charts", (YES_OR_NO, PERIOD)),
    "mapqa": Subset("charts", (SHORTLY, PERIOD)),
    "plotqa": Subset("charts", (BRIEFLY_ALL, BRIEFLY, PERIOD)),
    "finqa": Subset("tables", (CONTEXT, DERIVATION, PERIOD)),
    "hitab": Subset("tables", (PERIOD,)),
    "multihiertt": Subset("tables", (DERIVATION, PERIOD)),
    "robut_sqa": Subset("tables", (PERIOD,)),
    "robut_wikisql": Subset("tables", (PERIOD,)),
    "robut_wtq": Subset("tables", (PERIOD,)),
    "tabmwp": Subset("tables", long="chain of thought"),
    "tat_qa": Subset("tables", (SCALE, CONTEXT, DERIVATION, PERIOD)),
    "ai2d": Subset("reasoning", (CHOICES,)),
    "clevr": Subset("reasoning", (BRIEFLY, PERIOD)),
    "clevr_math": Subset("reasoning", (SHORTLY, PERIOD)),
    "geomverse": Subset("reasoning", long="chain of thought"),
    "iconqa": Subset("reasoning", (BLANK, CHOICES)),
    "intergps": Subset("reasoning", (CHOICES,)),
    "scienceqa": Subset("reasoning", (LECTURE, CHOICES)),
    "tqa": Subset("reasoning", (CHOICE_PERIODS, CHOICES)),
    "mimic_cgd": Subset("multi-image"),
    "nlvr2": Subset("multi-image", (YES_OR_NO_SENTENCE, PERIOD)),
    "raven": Subset("multi-image", (PERIOD,)),
    "spot_the_diff": Subset("multi-image"),
    "datikz": Subset("code", long="TikZ"),
    "websight": Subset("code", long="HTML"),
}

DOCVQA_LIKE = ("docvqa", "infographic_vqa", "ocrvqa", "st_vqa", "textvqa")
"""Short answers that are read off the page."""

GROUPS: dict[str, tuple[str, ...]] = {
    "docvqa-like": DOCVQA_LIKE,
    **{
        group: tuple(name for name, subset in SUBSETS.items() if subset.group == group)
        for group in dict.fromkeys(subset.group for subset in SUBSETS.values())
    },
}


def undo_formatting(subset: str, turn: Turn) -> Turn:
    """The turn as its source had it, as far as that can be known.

    A directory that is none of the fifty subsets has no rules, and is left alone.
    """
    for rule in SUBSETS[subset].rules if subset in SUBSETS else ():
        turn = rule.undo(turn)
    return turn


def long_form(subset: str, question: str) -> str:
    """What kind of long answer this question of a subset has, or the empty string."""
    if subset in SUBSETS and SUBSETS[subset].group == "tables" and question in PARSE_THE_TABLE:
        return "whole table"
    return SUBSETS[subset].long if subset in SUBSETS else ""
