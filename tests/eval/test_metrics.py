"""The metrics beside ANLS agree with published implementations, or with their papers' examples."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_eval import (
    InputError,
    anls_star,
    cer,
    cider,
    exact_match,
    multiple_choice,
    relaxed_accuracy,
    token_f1,
    vqa_accuracy,
    wer,
)
from florence_eval.captions import caption_words
from florence_eval.choices import read_choices
from florence_eval.metrics import Metric, corpus_error_rate
from florence_eval.vqa import evalai_normalised, normalised

words = st.text(st.sampled_from("ab c\t\n"), max_size=12)
some_words = words.filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [("Yes ", ["yes"], 1.0), ("yes.", ["yes"], 0.0), ("b", ["a", "B"], 1.0), ("", [""], 1.0)],
)
def test_exact_match_ignores_case_and_white_space_around(
    prediction: str, answers: list[str], expected: float
) -> None:
    assert exact_match(prediction, answers) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("the cat sat", ["a cat sat down"], 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("The Beatles!", ["beatles"], 1.0),
        ("to be or not to be", ["to be"], 2 * (2 / 6) * 1 / (2 / 6 + 1)),
        ("x", ["y", "x y"], 2 / 3),
        ("the", ["a"], 1.0),
        ("", ["cat"], 0.0),
    ],
)
def test_token_f1_is_squads(prediction: str, answers: list[str], expected: float) -> None:
    assert token_f1(prediction, answers) == pytest.approx(expected)


def spaced(text: str) -> str:
    """A text with spaces for all white space: jiwer parts words at nothing else."""
    return re.sub(r"\s", " ", text)


@given(some_words, words)
def test_error_rates_are_jiwers(answer: str, prediction: str) -> None:
    jiwer = pytest.importorskip(
        "jiwer", reason="jiwer, the oracle of error rates, is not installed"
    )
    expected = jiwer.wer(spaced(answer), spaced(prediction))
    assert wer(prediction, [answer]) == pytest.approx(expected)
    assert cer(prediction, [answer]) == pytest.approx(jiwer.cer(answer, prediction))


@given(st.lists(st.tuples(some_words, words), min_size=1, max_size=5))
def test_the_corpus_error_rate_is_jiwers(pairs: list[tuple[str, str]]) -> None:
    jiwer = pytest.importorskip(
        "jiwer", reason="jiwer, the oracle of error rates, is not installed"
    )
    answers, predictions = (list(texts) for texts in zip(*pairs, strict=True))
    ours = corpus_error_rate(Metric("wer"), predictions, [[answer] for answer in answers])
    expected = jiwer.wer(list(map(spaced, answers)), list(map(spaced, predictions)))
    assert ours == pytest.approx(expected)


def test_error_rates_take_the_nearest_answer() -> None:
    assert cer("abd", ["xyz", "abc"]) == pytest.approx(1 / 3)
    assert wer("", [""]) == 0.0
    assert wer("a", [""]) == 1.0


def test_a_line_break_or_a_tab_parts_words() -> None:
    assert wer("two\nlines", ["two lines"]) == wer("two\tlines", ["two lines"]) == 0.0


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        # google-research/pix2struct metrics_test.py, and the definition in ChartQA, section 5.1.
        ("100%", "96%", 1.0),
        ("100%", "0.96", 1.0),
        ("100%", "0.94", 0.0),
        ("Don't", "don't", 1.0),
        ("Won't", "Don't", 0.0),
        ("105", "100", 1.0),
        ("105.1", "100", 0.0),
        ("-95", "-100", 1.0),
        ("0", "0", 1.0),
        ("0.0", "0", 0.0),
        ("nan", "1", 0.0),
        ("1", "inf", 0.0),
        ("inf", "inf", 0.0),
        ("1,000", "1000", 0.0),
        ("5%", "5", 0.0),
    ],
)
def test_relaxed_accuracy_as_published(prediction: str, answer: str, expected: float) -> None:
    assert relaxed_accuracy(prediction, [answer]) == expected


def test_relaxed_accuracy_reads_separators_and_units_where_switched_on() -> None:
    assert relaxed_accuracy("1,000", ["1000"], thousands=True) == 1.0
    assert relaxed_accuracy("-1,234,567.5", ["-1234567.5"], thousands=True) == 1.0
    assert relaxed_accuracy("5%", ["5"], percent_unit=True) == 1.0
    assert relaxed_accuracy("5%", ["0.05"], percent_unit=True) == 0.0


@pytest.mark.parametrize("text", ["1,2,3", "12,3", "1,,23", ",123", "1234,567"])
def test_commas_that_part_no_thousands_make_no_number(text: str) -> None:
    number = text.replace(",", "")
    assert relaxed_accuracy(text, [number], thousands=True) == 0.0


def leave_one_out(prediction: str, answers: list[str]) -> float:
    """The official script's loop over annotators, written out."""
    scores = []
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        scores.append(min(1.0, sum(other == prediction for other in others) / 3))
    return sum(scores) / len(scores)


@given(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), min_size=10, max_size=10))
def test_vqa_accuracy_leaves_each_annotator_out(prediction: str, answers: list[str]) -> None:
    # Lone letters but "a" are not changed by the normaliser.
    prediction, answers = prediction + "x", [answer + "x" for answer in answers]
    expected = pytest.approx(leave_one_out(prediction, answers))
    assert vqa_accuracy(prediction, answers) == expected


@pytest.mark.parametrize(
    ("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_vqa_accuracy_of_ten_answers_is_the_well_known_staircase(
    matches: int, expected: float
) -> None:
    answers = ["red"] * matches + [f"other{n}" for n in range(10 - matches)]
    assert vqa_accuracy("red", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "official", "evalai"),
    [
        ("The Red Car", "red car", "red car"),
        ("two", "2", "2"),
        ("dont", "don't", "don't"),
        ("1,000", "1000", "1000"),
        ("3.5", "3.5", "3.5"),
        ("U.S.A.", "usa", "usa"),
        ("black/white", "black white", "black white"),
        ("black, white", "black white", "black white"),
        ("john's", "john's", "john 's"),
        ("what?", "what", "what"),
        ("aint", "ain't", "ain't"),
        ("somebody'd", "somebodyd", "somebodyd"),
        # The official script passes re.UNICODE, which is 32, as the number of periods to remove.
        ("a" + "." * 33, "a.", "a."),
    ],
)
def test_the_normalisers_give_the_official_forms(text: str, official: str, evalai: str) -> None:
    assert normalised(text) == official
    assert evalai_normalised(text) == evalai


def test_unanimous_answers_are_compared_as_they_stand() -> None:
    assert vqa_accuracy("Red", ["red"] * 10) == 0.0
    assert vqa_accuracy("Red", ["red"] * 9 + ["blue"]) == 1.0
    assert vqa_accuracy("Red", ["red"] * 10, evalai=True) == 1.0


def test_annotators_who_differ_by_white_space_only_are_unanimous() -> None:
    # vqaEval.py puts spaces for line breaks and tabs and strips before it asks who disagrees.
    for same in ("red ", "\tred", "red\n"):
        assert vqa_accuracy("Red", [same] + ["red"] * 9) == 0.0
        assert vqa_accuracy("red", [same] + ["red"] * 9) == 1.0
    assert vqa_accuracy("Red Car", ["red\ncar"] + ["red car"] * 9) == 0.0


def test_vqa_accuracy_of_few_answers_is_refused_unless_any_counts() -> None:
    with pytest.raises(InputError, match="any_answer"):
        vqa_accuracy("red", ["red"])
    assert vqa_accuracy("the red", ["red"], any_answer=True) == 1.0


QUESTION = "Question: Which?\nChoices:\nA. Paris\nB. New York\nAnswer with the letter."


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("B", "Answer: B", 1.0),
        ("(b)", "B", 1.0),
        ("B.", "B", 1.0),
        ("new york.", "B", 1.0),
        ("B. New York", "B", 1.0),
        ("b. New York", "B", 1.0),
        ("b) the city", "B", 1.0),
        ("A. some other town", "A", 1.0),
        ("A. some other town", "B", 0.0),
        ("d. none of them", "B", 0.0),
        ("The answer is B", "B", 1.0),
        ("B", "New York", 1.0),
        ("A", "B", 0.0),
        ("Paris", "B", 0.0),
        ("London", "B", 0.0),
    ],
)
def test_a_choice_is_named_by_letter_or_text(prediction: str, answer: str, expected: float) -> None:
    assert multiple_choice(prediction, [answer], read_choices(QUESTION)) == expected


def test_without_choices_a_small_letter_before_a_text_names_none() -> None:
    assert multiple_choice("B. because it is", ["B"]) == 1.0
    assert multiple_choice("a. m.", ["a. p."]) == 0.0


def test_choices_are_read_in_each_of_the_cauldrons_forms() -> None:
    assert read_choices(QUESTION) == {"A": "Paris", "B": "New York"}
    assert read_choices("Which?\nOptions: red, blue.") == {"A": "red", "B": "blue"}
    assert read_choices("Which?\n(A) red\n(B) blue") == {"A": "red", "B": "blue"}
    assert read_choices("What is it?") == {}
    assert read_choices(None) == {}


def test_anls_star_scores_lists_and_dictionaries_as_its_package_does() -> None:
    package = pytest.importorskip("anls_star", reason="the package anls_star is not installed")
    assert anls_star('["a", "b"]', ['["b", "a"]']) == 1.0
    expected = package.anls_score(gt={"x": "abcd", "y": ["1"]}, pred={"x": "abcx"})
    assert anls_star({"x": "abcx"}, ['{"x": "abcd", "y": ["1"]}']) == pytest.approx(expected)
    assert anls_star("Paris", ["paris", "Rome"]) == 1.0


def test_anls_star_gives_its_authors_worked_examples() -> None:
    """Of the package's readme, each worked out by hand: the mean of the similarities of all leaves,
    a list matched in the order that fits best."""
    pytest.importorskip("anls_star", reason="the package anls_star is not installed")
    assert anls_star("Hello Wrld", ["Hello World"]) == pytest.approx(1 - 1 / 11)
    truth = {"a": ("hello", "world"), "b": ["this", "is", "a", "test"]}
    predicted = {"a": "hello!", "b": ["a", "test", "this", "be"]}
    expected = pytest.approx((5 / 6 + 1 + 1 + 1 + 0) / 5)
    assert anls_star(predicted, [truth]) == expected
    assert anls_star(json.dumps(predicted), [truth]) == expected


@pytest.mark.parametrize("looping", ["[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 100_000])
def test_anls_star_compares_a_looping_prediction_as_text(looping: str) -> None:
    pytest.importorskip("anls_star", reason="the package anls_star is not installed")
    assert anls_star(looping, ["a"]) == 0.0
    assert anls_star(looping, ["a", '["b"]']) == 0.0
    with pytest.raises(InputError, match="an answer nested so deeply"):
        anls_star("a", ["[" * 900 + "]" * 900])


def test_a_caption_is_its_words_in_lower_case() -> None:
    assert caption_words("A dog, runs at 1.5 MPH! It's") == "a dog runs at 1.5 mph it's"


def test_cider_is_highest_for_the_reference_itself_and_0_without_a_common_word() -> None:
    pytest.importorskip("pycocoevalcap", reason="the package pycocoevalcap is not installed")
    answers = [["a dog runs on the beach"], ["two cats sleep here"], ["the red car stops now"]]
    same = cider([each[0] for each in answers], answers)
    assert all(value == pytest.approx(10.0) for value in same)
    other = cider(["A dog, runs on the beach!", "nothing alike", "the red car drives now"], answers)
    assert other[0] == pytest.approx(10.0)
    assert other[1] == 0.0
    assert 0.0 < other[2] < 10.0
    assert all(map(math.isfinite, other))


@pytest.mark.parametrize(
    "name",
    ["anls", "exact_match+final_answer", "relaxed_accuracy+thousands+percent_unit",
     "vqa_accuracy+evalai"],
)  # fmt: skip
def test_a_metrics_name_reads_back(name: str) -> None:
    assert str(Metric.parse(name)) == name


@pytest.mark.parametrize(
    "name", ["f1", "anls+strip_period", "cer+thousands", "cer+strip_period+strip_period", ""]
)
def test_unknown_metrics_and_switches_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="metric"):
        Metric.parse(name)


def test_strip_period_takes_one_period_and_leaves_a_text_without_one_as_it_is() -> None:
    metric = Metric.parse("relaxed_accuracy+strip_period")
    predictions = ["Yes", "Yes.", "Yes. ", "Yes..", "Yes ", "Yes"]
    answers = [["yes"], ["yes"], ["yes"], ["yes"], ["yes"], ["yes."]]
    assert metric.values(predictions, answers, [None] * 6).tolist() == [1, 1, 1, 0, 0, 1]


def test_final_answer_keeps_what_follows_the_last_answer() -> None:
    metric = Metric.parse("exact_match+final_answer+strip_period")
    values = metric.values(["So 3 + 4 = 7.\nAnswer: 7."], [["The answer is 7."]], [None])
    assert values.tolist() == [1.0]
