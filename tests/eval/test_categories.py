"""Each category is what its definition says, and they are decided in the order of `CATEGORIES`."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_eval import CATEGORIES, score
from florence_eval.folding import bare, skeletons, without_space, words
from florence_eval.values import canonical_number, same_value


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
        ("15", ["1.5"], "wrong_number"),
        ("-5", ["5"], "wrong_number"),
        ("the the the the the the the", ["cat"], "repetition"),
        ("ababababababababab", ["ab"], "repetition"),
        ("0.26", ["0.28"], "wrong_number"),
        ("2/5/10", ["Feb 8, 2010"], "wrong_number"),
        ("$184 million", ["$278 million"], "wrong_number"),
        ("The name is Paris.", ["paris"], "over_long"),
        ("The cost is $25.00, as listed", ["25.00"], "over_long"),
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
    rows = [("Malagnou", ["Helvetia"]), ("x", ["malagnou"]), ("12", ["31"]), ("y", ["12"])]
    assert categories(*rows) == ["wrong_field", "wrong", "wrong_field", "wrong"]
    assert categories(*rows, doc_id=None) == ["wrong", "wrong", "wrong_number", "wrong"]


def test_nearly_an_answer_to_another_question_is_told_from_plainly_wrong() -> None:
    assert categories(("lagnou", ["EUR"]), ("EUR", ["Malagnou"])) == [
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


texts = st.lists(
    st.text(st.sampled_from("aB1.,-/ \t\0\x01\u00e9\u2019$%_"), max_size=10), max_size=6
)


@given(texts)
def test_folding_many_texts_gives_what_folding_each_gives(many: list[str]) -> None:
    for fold in (without_space, bare, skeletons, words):
        assert fold(many) == [fold([text])[0] for text in many]


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
