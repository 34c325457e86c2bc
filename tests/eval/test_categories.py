"""Each category is what its definition says, and they are decided in the order of `CATEGORIES`."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from florence_eval import CATEGORIES, arrow_text, nls, score
from florence_eval.arrow_columns import strings
from florence_eval.folding import bare, skeletons, without_space, words
from florence_eval.pairs import QUESTIONS_AT_ONCE
from florence_eval.values import canonical_number, number, same_value


def categories(*rows: tuple[str, list[str]], doc_id: str | None = "page") -> list[str]:
    """The categories of questions on one document, of (prediction, answers)."""
    frame = pd.DataFrame(
        {
            "question_id": range(len(rows)),
            "prediction": [prediction for prediction, _ in rows],
            "answers": [answers for _, answers in rows],
            "doc_id": [doc_id] * len(rows),
        }
    )
    found: list[str] = score(frame).table["category"].tolist()
    return found


@pytest.mark.parametrize(
    ("prediction", "answers", "category"),
    [
        ("Paris", ["paris", "Paris"], "exact"),
        ("", [""], "exact"),
        ("PARIS ", ["Paris"], "case_or_space"),
        ("Coca Cola", ["CocaCola"], "case_or_space"),
        ("$ 975.00", ["$975.00"], "case_or_space"),
        (" ", [""], "case_or_space"),
        ("", ["Paris"], "empty"),
        (" \n", ["Paris"], "empty"),
        ("No", ["YES", "Yes"], "yes_no_flipped"),
        ("Yes, it is.", ["no"], "yes_no_flipped"),
        ("Nobody", ["yes"], "wrong"),
        ("yes.", ["Yes"], "punctuation"),
        ("**Weeks of Consumption**", ["weeks of consumption"], "punctuation"),
        ("ITC Welcomgroup", ["ITC-Welcomgroup"], "punctuation"),
        ("Ph.D", ["PhD"], "punctuation"),
        ("-11-", ["11"], "punctuation"),
        ("- 12", ["12"], "punctuation"),
        ("caf\u00e9 \u2013 bar", ["Caf\u00e9 bar"], "punctuation"),
        ("1000", ["1,000"], "number_format"),
        ("$ 7265516", ["7,265,516"], "number_format"),
        ("0.57", ["0.57%"], "number_format"),
        ("12.50", ["12.5"], "number_format"),
        ("2", ["two parts", "two"], "number_format"),
        ("(12)", ["12"], "punctuation"),
        ("January 17, 1968", ["jan17'68"], "number_format"),
        ("7/17/2003", ["17 July 2003"], "number_format"),
        ("2003-07-17", ["July 17th, 2003"], "number_format"),
        ("Tuesday, February 4", ["Tues. Feb. 4"], "number_format"),
        ("02/1971", ["Feb. 1971"], "number_format"),
        ("Feb. 4", ["Feb. 5"], "wrong_number"),
        ("Feb. 4", ["Feb. 4, 1990"], "truncated"),
        ("15", ["1.5"], "wrong_number"),
        ("-5", ["5"], "wrong_number"),
        ("the the the the the the the", ["cat"], "repetition"),
        (
            "Where the pages are bound, and so on and on, as it was said before in so many words. "
            * 3,
            ["42 dollars"],
            "repetition",
        ),
        ("...foo ...foo ...foo ", ["42"], "repetition"),
        ("0001 2,50001 2,50001 2,5", ["42"], "repetition"),
        ("abcabcabc1234567", ["42"], "repetition"),
        ("the cat and the cat and one", ["42"], "wrong"),
        ("ababababababababab", ["ab"], "repetition"),
        ("0.26", ["0.28"], "wrong_number"),
        ("2/5/10", ["Feb 8, 2010"], "wrong_number"),
        ("$184 million", ["$278 million"], "wrong_number"),
        ("The name is Paris.", ["paris"], "over_long"),
        ("The cost is $25.00, as listed", ["25.00"], "over_long"),
        ("5% of it all", ["5 of it", "it all"], "over_long"),
        ("5% of the sum", ["5 of", "qq"], "wrong"),
        ("54 mm Pinnacle shell", ["a 54 mm pinnacle shell", "pinnacle"], "truncated"),
        ("Kerala and Assam", ["Goa, Kerala and Assam"], "truncated"),
        ("University of Calif", ["university of california"], "truncated"),
        ("Cart", ["art"], "near_miss"),
        ("Dana Conrad", ["darla conrad"], "near_miss"),
        ("John", ["Peter"], "wrong"),
        ("!!!", ["Peter"], "wrong"),
    ],
)
def test_a_category_follows_from_the_questions_own_answers(
    prediction: str, answers: list[str], category: str
) -> None:
    assert categories((prediction, answers)) == [category]


def test_an_answer_to_another_question_of_the_document_is_the_wrong_field() -> None:
    rows = [("Malagnou", ["Helvetia"]), ("x", ["malagnou"]), ("1,250", ["31"]), ("y", ["1,250"])]
    assert categories(*rows) == ["wrong_field", "wrong", "wrong_field", "wrong"]
    assert categories(*rows, doc_id=None) == ["wrong", "wrong", "wrong_number", "wrong"]


def test_the_answer_to_another_question_is_no_near_miss_however_like_the_own() -> None:
    rows = [("heating in nitrogen", ["heating in sealed tube"]), ("x", ["Heating in nitrogen"])]
    assert categories(*rows)[0] == "wrong_field"
    assert categories(*rows, doc_id=None)[0] == "near_miss"


def test_texts_under_four_characters_equal_another_answer_by_chance() -> None:
    assert categories(("12", ["31"]), ("y", ["12"]))[0] == "wrong_number"
    assert categories(("pm", ["300R"]), ("y", ["PM"]))[0] == "wrong"


def test_nearly_an_answer_to_another_question_is_told_from_plainly_wrong() -> None:
    assert categories(("lagnou", ["Euro"]), ("Euro", ["Malagnou"])) == [
        "other_reference_nearer",
        "wrong_field",
    ]


def test_numbers_and_short_texts_are_near_by_chance_only() -> None:
    assert categories(("$100,000", ["four articles"]), ("q", ["$10,000"]))[0] == "wrong"
    assert categories(("ab", ["zzz"]), ("q", ["abc"]))[0] == "wrong"


def test_the_categories_of_a_question_do_not_depend_on_the_order_of_rows() -> None:
    rows = [("Malagnou", ["Helvetia"]), ("lagnou", ["x y"]), ("q", ["malagnou"]), ("a", ["A"])]
    assert categories(*rows) == categories(*reversed(rows))[::-1]


@given(st.lists(st.tuples(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1))))
def test_every_prediction_has_one_category_and_only_an_answer_is_exact(
    rows: list[tuple[str, list[str]]],
) -> None:
    if not rows:
        return
    found = categories(*rows)
    assert set(found) <= set(CATEGORIES)
    exact = [prediction in answers for prediction, answers in rows]
    assert [name == "exact" for name in found] == exact


def plain_category(row: int, rows: list[tuple[str, list[str]]]) -> str:
    """The definitions of docs/evaluation.md, one after the other, of one question on a document."""
    prediction, answers = rows[row]

    def alike(fold: Callable[[list[str]], list[str]]) -> list[bool]:
        return [fold([prediction]) == fold([answer]) for answer in answers]

    (own,) = bare([prediction])
    values = [same_value(prediction, answer) for answer in answers]
    similarities = [nls(prediction, [answer]) for answer in answers]
    distances = [normalised_distance(prediction, answer) for answer in answers]
    nearest = distances.index(min(distances))
    first_word = re.match(r"\W*(yes|no)\b", prediction, re.IGNORECASE)
    said = first_word[1].lower() if first_word else ""
    asked = {answer for answer in bare(answers) if answer in ("yes", "no")}
    one, other = skeletons([prediction, answers[nearest]])
    wrong_number = values[nearest] is False or ("#" in one and one == other)
    parts = [part(prediction, answer) for answer in answers]
    parts.insert(0, parts.pop(nearest))
    elsewhere = [
        answer for place, (_, theirs) in enumerate(rows) if place != row for answer in bare(theirs)
    ]
    fuzzy = not wrong_number and len(own) >= 4 and number(prediction) is None
    nearer = [
        answer for answer in elsewhere if Levenshtein.normalized_similarity(own, answer) > 0.5
    ]
    holds = {
        "exact": prediction in answers,
        "case_or_space": any(alike(without_space)),
        "empty": not prediction.strip(),
        "yes_no_flipped": bool(asked) and said != "" and said not in asked,
        "punctuation": own != ""
        and any(a and v is not False for a, v in zip(alike(bare), values, strict=True)),
        "number_format": True in values,
        "repetition": len(prediction) >= 16
        and len(prediction) > 2 * len(answers[nearest])
        and is_loop(prediction),
        "over_long": not wrong_number and next(filter(None, parts), "") == "over_long",
        "truncated": not wrong_number and next(filter(None, parts), "") == "truncated",
        "near_miss": not wrong_number and max(similarities) >= 0.5,
        "wrong_field": len(own) >= 4 and own in elsewhere,
        "wrong_number": wrong_number,
        "other_reference_nearer": fuzzy and bool(nearer),
        "wrong": True,
    }
    return next(category for category in CATEGORIES if holds.get(category))


def normalised_distance(prediction: str, answer: str) -> float:
    """The official evaluator's; over 1 where lower case is longer than upper case."""
    one, other = (" ".join(text.lower().split()) for text in (prediction, answer))
    length = max(len(prediction.upper()), len(answer.upper()))
    return Levenshtein.distance(one, other) / length if length else 0.0


def is_loop(text: str) -> bool:
    """Whether over half of a text is one unit three times running or more."""
    spans = ((start, end) for end in range(len(text) + 1) for start in range(end))
    return any(
        text[start:end] == text[start : start + size] * ((end - start) // size)
        for start, end in spans
        if 2 * (end - start) > len(text)
        for size in range(1, (end - start) // 3 + 1)
    )


def part(prediction: str, answer: str) -> str:
    """ "over_long", "truncated" or "", of a prediction and one answer."""
    own, theirs = bare([prediction, answer])
    if not (own in theirs or theirs in own):
        return ""
    own, theirs = words([prediction, answer])
    if not own.strip():
        return ""
    if theirs.strip() and own.find(theirs) >= 0:
        return "over_long"
    begins = len(own.strip()) >= 4 and theirs.startswith(own.rstrip())
    return "truncated" if own in theirs or begins else ""


pieces = st.sampled_from(
    (
        *("yes", "No", "12", "1,000", "1000", "$", "5%", "jan 5, 1990", "1/5/90", "five", "(12)"),
        *("0", "007", "1,00,000", "Peter", "peter", "pet", " ", ".", "-", "the", "3 4"),
        *("\u00e9", "\u2019", "\u0661", "\u0130", "\x1c"),
    )
)
pieced = st.lists(pieces, max_size=3).map("".join)
# Answers often come in more than one case.
in_cases = st.tuples(pieced, st.sampled_from((1, 1, 2, 3))).map(
    lambda drawn: [drawn[0], drawn[0].swapcase(), drawn[0]][: drawn[1]]
)
answered = st.lists(in_cases, min_size=1, max_size=3).map(lambda cases: list(chain(*cases)))


@settings(max_examples=200)
@given(st.lists(st.tuples(pieced, answered), min_size=1, max_size=6))
def test_all_categories_at_once_are_the_definitions_one_by_one(
    rows: list[tuple[str, list[str]]],
) -> None:
    assert categories(*rows) == [plain_category(row, rows) for row in range(len(rows))]


@given(st.lists(st.text() | pieced, min_size=1))
def test_a_column_is_folded_as_its_texts_are(many: list[str]) -> None:
    assert arrow_text.bare(strings(many)).to_pylist() == [bare([text])[0] for text in many]
    for texts in (strings(many), strings(many).cast(pa.large_string())):
        assert arrow_text.words(texts) == [words([text])[0] for text in many]
    assert arrow_text.lengths(strings(many)).tolist() == list(map(len, many))
    assert arrow_text.upper_lengths(strings(many)).tolist() == [len(t.upper()) for t in many]
    lowered = [" ".join(text.lower().split()) for text in many]
    assert arrow_text.collapsed(strings(many)).to_pylist() == lowered
    for column in (strings(many), strings(many).cast(pa.large_string())):
        taken = cpdist(arrow_text.characters(column), many[::-1], scorer=Levenshtein.distance)
        assert taken.tolist() == list(map(Levenshtein.distance, many, many[::-1]))
    counts = [sum("a" <= character <= "z" for character in text) for text in many]
    assert arrow_text.letters(strings(many)).tolist() == counts


@given(st.lists(st.text(max_size=3) | st.text(min_size=7, max_size=9), max_size=20))
def test_a_text_that_is_there_twice_is_seen(many: list[str]) -> None:
    assert arrow_text.all_differ(strings(many)) == (len(set(many)) == len(many))
    assert not arrow_text.all_differ(strings([*many, "twice", "twice"]))
    assert arrow_text.all_differ(strings(["more than eight", *many])[:1])


def test_a_column_longer_than_a_block_is_categorised_as_its_parts_are() -> None:
    rows = [("Malagnou", ["Helvetia"]), ("a", ["A"]), ("x", ["malagnou", "y"]), ("12", ["13"])]
    many = QUESTIONS_AT_ONCE // 2
    frame = pd.DataFrame(
        {
            "question_id": range(4 * many),
            "prediction": [prediction for prediction, _ in rows] * many,
            "answers": [answers for _, answers in rows] * many,
            "doc_id": [str(row // 4) for row in range(4 * many)],
        }
    )
    assert score(frame).table["category"].tolist() == categories(*rows) * many


loops = st.tuples(
    st.text("abcé "), st.text("abcé ", min_size=1), st.integers(1, 5), st.text("abcé ")
).map(lambda drawn: drawn[0] + drawn[1] * drawn[2] + drawn[3])


@given(st.lists(loops, min_size=1, max_size=3))
def test_a_loop_is_found_wherever_it_is_and_however_long_its_unit(many: list[str]) -> None:
    rows = [(text, ["q"]) for text in many]
    found = [category == "repetition" for category in categories(*rows, doc_id=None)]
    assert found == [plain_category(0, [row]) == "repetition" for row in rows]


texts = st.lists(
    st.text(st.sampled_from("aB1.,-/ \t\0\x01\u00e9\u2019$%_"), max_size=10), max_size=6
)


@given(texts)
def test_folding_many_texts_gives_what_folding_each_gives(many: list[str]) -> None:
    for fold in (without_space, bare, skeletons, words):
        assert fold(many) == [fold([text])[0] for text in many]


@given(texts)
def test_a_nul_in_a_text_counts_as_a_space(many: list[str]) -> None:
    spaced = [text.replace("\0", " ") for text in many]
    for fold in (without_space, bare, skeletons, words):
        assert fold(many) == fold(spaced)


def test_folding_keeps_what_belongs_to_numbers() -> None:
    assert without_space([" New\tYork "]) == ["newyork"]
    assert bare(["St. Louis, 1,000.50-"]) == bare(["st louis 1,000.50"]) != bare(["stlouis100050"])
    assert bare(["$5 (net)", "_a_"]) == ["$5net", "a"]
    assert skeletons(["Rs. 1,000.50 of 3"]) == ["rs.#of#"]
    assert words(["D.C.  is here!"]) == [" d c is here "]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$1,000.50", "1000.5"),
        ("1,00,000", "100000"),
        ("(12)", "-12"),
        ("\u2212 5", None),
        ("-5", "-5"),
        ("5 %", "5"),
        ("40 percent", "40"),
        (".5", "0.5"),
        ("10", "10"),
        ("1,0", None),
        ("1.2.3", None),
        ("ten", None),
        ("", None),
    ],
)
def test_a_number_is_read_from_the_whole_of_a_text(text: str, plain: str | None) -> None:
    assert canonical_number(text) == plain


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1/5/90", "5 January 1990", True),
        ("1/5/90", "May 1st, 1990", True),
        ("1/5/90", "2 May 1990", False),
        ("Fri. Jan. 5", "5th of January", True),
        ("Jan. 5", "January 5, 1990", None),
        ("Jan. 5, 1990", "Jan. 1991", False),
        ("Mayor 5", "May 5", None),
        ("31/12/1999", "12-31-99", True),
        ("30 Feb 1990", "1 March 1990", None),
        ("1-2-" + "9" * 5000, "1-2-3", None),
        ("12", "twelve", True),
        ("12", "(12)", True),
        ("12", "a dozen", None),
        ("May", "5", None),
    ],
)
def test_two_texts_write_the_same_value_or_do_not_or_write_none(
    one: str, other: str, same: bool | None
) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same
