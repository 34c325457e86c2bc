"""ANLS is the official evaluator's, bit for bit, and its variants are what their names say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_eval import InputError, Variant, anls, nls
from florence_eval.arrow_columns import string_lists, strings
from florence_eval.matching import Matches, match
from florence_eval.pairs import Pairs
from florence_eval.similarity import VARIANTS

texts = st.text(st.sampled_from("aAbB1 éßİ.\t,$"), max_size=12)
references = st.lists(texts, min_size=1, max_size=4)
variants = st.builds(
    Variant,
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    tie=st.sampled_from(["keep", "drop"]),
    length=st.sampled_from(["raw", "compared"]),
    fold_case=st.booleans(),
    collapse_space=st.booleans(),
    first_answer_only=st.booleans(),
    strip_period=st.booleans(),
    unicode=st.sampled_from(["none", "nfc", "nfkc"]),
    coerce_numbers=st.booleans(),
)


def edit_distance(one: str, other: str) -> int:
    """The textbook table, as an oracle."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            corner, row[j] = row[j], min(corner + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def matched(predictions: list[str], answers: list[list[str]], variant: Variant) -> Matches:
    return match(Pairs.of(strings(predictions), string_lists(answers)), variant)


def official(prediction: str, answers: list[str]) -> float:
    """The official procedure, written out."""
    values = []
    for answer in answers:
        one = " ".join(answer.strip().lower().split())
        other = " ".join(prediction.strip().lower().split())
        length = max(len(answer.upper()), len(prediction.upper()))
        values.append(edit_distance(one, other) / length if length else 0.0)
    similarity = 1 - min(values)
    return 0.0 if similarity < 0.5 else similarity


def test_all_conformance_cases_score_what_the_official_evaluator_gives(shared_data: Path) -> None:
    cases = [
        json.loads(line)
        for line in (shared_data / "anls" / "conformance.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    assert len(cases) == 114
    for case in cases:
        expected = pytest.approx(case["anls_expected"], abs=1e-12)
        assert anls(case["prediction"], case["answers"]) == expected, case["case"]
        vectorised = matched([case["prediction"]], [case["answers"]], Variant())
        assert vectorised.anls[0] == expected, case["case"]


@given(texts, references)
def test_the_default_is_the_official_procedure_bit_for_bit(
    prediction: str, answers: list[str]
) -> None:
    assert anls(prediction, answers) == official(prediction, answers)


@given(texts, references, variants)
def test_many_at_once_score_as_one_by_one_in_every_variant(
    prediction: str, answers: list[str], variant: Variant
) -> None:
    matches = matched([prediction, "x"], [answers, ["x", "y"]], variant)
    assert matches.anls[0] == anls(prediction, answers, variant=variant)
    assert matches.similarity[0] == nls(prediction, answers, variant=variant)
    best = answers[matches.best_index[0]]
    assert nls(prediction, [best], variant=variant) == matches.similarity[0]


@given(texts, references, variants)
def test_scores_lie_between_0_and_1(prediction: str, answers: list[str], variant: Variant) -> None:
    assert 0.0 <= anls(prediction, answers, variant=variant) <= 1.0


@given(references, variants)
def test_an_answer_itself_scores_1(answers: list[str], variant: Variant) -> None:
    if variant.threshold < 1 or variant.tie == "keep":
        assert anls(answers[0], answers, variant=variant) == 1.0


@given(texts, texts)
def test_one_answer_and_the_prediction_may_change_places(one: str, other: str) -> None:
    assert anls(one, [other]) == anls(other, [one])


@given(texts, references, st.randoms())
def test_the_order_of_answers_does_not_matter(prediction: str, answers: list[str], shuffle) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(answers)
    shuffle.shuffle(shuffled)
    assert anls(prediction, shuffled) == anls(prediction, answers)


@given(texts, references, texts)
def test_a_further_answer_never_lowers_the_score(
    prediction: str, answers: list[str], further: str
) -> None:
    assert anls(prediction, [*answers, further]) >= anls(prediction, answers)


@given(variants)
def test_a_variants_name_reads_back_as_the_variant(variant: Variant) -> None:
    assert Variant.parse(variant.name) == variant


def test_the_named_variants_keep_their_names() -> None:
    assert {name: variant.name for name, variant in VARIANTS.items()} == {
        name: name for name in VARIANTS
    }


@pytest.mark.parametrize(
    ("variant", "prediction", "answers", "expected"),
    [
        # Biten et al. 2019, eq. 1: 1 - NL where NL < 0.5, else 0; NL divides by what it compares.
        ("official", "ab", ["ac"], 0.5),
        ("paper", "ab", ["ac"], 0.0),
        ("official", "ab   ", ["abd"], 0.8),
        ("paper", "ab   ", ["abd"], 2 / 3),
        ("seed", "Paris", ["paris"], 0.8),
        ("seed", "Rome", ["Paris", "Rome"], 0.0),
        ("seed", "PARIS", ["paris"], 0.0),
        ("official+tie=drop", "ab", ["ac"], 0.0),
        ("official+threshold=0.6", "ab", ["ac"], 0.0),
        ("official+length=compared", "ab   ", ["abd"], 2 / 3),
        ("official+strip_period", "Paris.", ["Paris"], 1.0),
        ("official+strip_period", "Paris. ", ["Paris"], 1.0),
        # Without a period nothing is stripped: the official length counts the white space.
        ("official+strip_period", "ab   ", ["abd"], 0.8),
        ("official+unicode=nfc", "e\u0301", ["\u00e9"], 1.0),
        ("official+unicode=nfkc", "\ufb01t", ["fit"], 1.0),
        ("official", "$1,000.00", ["1000"], 0.0),
        ("official+coerce_numbers", "$1,000.00", ["1000"], 1.0),
        ("official+coerce_numbers", "5%", ["0.05"], 0.0),
    ],
)
def test_each_switch_does_what_it_says(
    variant: str, prediction: str, answers: list[str], expected: float
) -> None:
    assert anls(prediction, answers, variant=variant) == pytest.approx(expected, abs=1e-12)


def test_threshold_replaces_the_variants() -> None:
    assert anls("ab", ["ac"], threshold=0.51) == 0.0
    assert anls("abcd", ["axyz"], threshold=0.25) == 0.25
    assert nls("abcd", ["axyz"]) == 0.25


def test_a_lone_surrogate_is_a_character_like_any_other() -> None:
    assert anls("\ud800", ["\ud800"]) == 1.0
    assert anls("\ud800a", ["\ud800b"]) == 0.5


@pytest.mark.parametrize(
    ("prediction", "answers", "message"),
    [
        ("a", "abc", "found the string 'abc'"),
        ("a", [], "found an empty list"),
        ("a", ["a", 1], r"found \['a', 1\]"),
        (None, ["a"], "found None"),
        (["a"], ["a"], "a string is expected"),
    ],
)
def test_what_is_no_prediction_or_answers_is_refused(
    prediction: object, answers: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        anls(prediction, answers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "variant",
    ["offical", "official+nonsense", "official+tie=maybe", "official+threshold=x",
     "official+threshold=2", "official+fold_case=perhaps", "official+tie=keep+tie=drop"],
)  # fmt: skip
def test_unknown_variants_and_switches_are_refused(variant: str) -> None:
    with pytest.raises(InputError):
        anls("a", ["a"], variant=variant)


def test_switches_are_values_that_replace() -> None:
    assert replace(Variant(), strip_period=True).name == "official+strip_period"
