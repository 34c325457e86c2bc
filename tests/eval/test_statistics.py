"""Intervals and tests equal slow plain ones, and cover what they should on simulated documents."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from florence_eval import InputError, Scores, compare, score
from florence_eval.arrow_columns import strings
from florence_eval.statistics import (
    bootstrap_interval,
    cluster_sums,
    clustered_error,
    detectable_difference,
    document_codes,
    estimate,
    permutation_p_value,
)

VALUES = np.array([1.0, 1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.75])
DOCUMENTS = np.array([0, 0, 0, 1, 1, 2, 3, 3])


def simulated(generator: np.random.Generator, documents: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Scores that go together within a document; their expected mean is 0.5."""
    sizes = generator.integers(1, 8, documents)
    chance = generator.beta(0.6, 0.6, documents)
    codes = np.repeat(np.arange(documents), sizes)
    return (generator.random(len(codes)) < chance[codes]).astype(float), codes


def test_the_clustered_error_is_the_sum_over_pairs_within_documents() -> None:
    residuals = VALUES - VALUES.mean()
    total = 0.0
    for i, j in itertools.product(range(8), repeat=2):
        if DOCUMENTS[i] == DOCUMENTS[j]:
            total += residuals[i] * residuals[j]
    expected = math.sqrt(4 / 3 * total) / 8
    assert clustered_error(*cluster_sums(VALUES, DOCUMENTS)) == pytest.approx(expected)


def test_of_one_question_a_document_it_is_the_usual_standard_error() -> None:
    error = clustered_error(*cluster_sums(VALUES, np.arange(8)))
    assert error == pytest.approx(VALUES.std(ddof=1) / math.sqrt(8))


def test_the_bootstrap_is_the_slow_one_over_documents() -> None:
    generator = np.random.default_rng(3)
    values, documents = simulated(generator, 60)
    by_document = [values[documents == document] for document in range(60)]
    slow = []
    for _ in range(3_000):
        drawn = generator.integers(0, 60, 60)
        slow.append(np.concatenate([by_document[document] for document in drawn]).mean())
    fast = bootstrap_interval(*cluster_sums(values, documents), resamples=10_000)
    assert fast == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    first = estimate(VALUES, DOCUMENTS, resamples=200, seed=1)
    assert first == estimate(VALUES, DOCUMENTS, resamples=200, seed=1)
    assert first != estimate(VALUES, DOCUMENTS, resamples=200, seed=2)


def test_both_intervals_cover_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(7)
    analytic = resampled = naive = 0
    trials = 400
    for trial in range(trials):
        values, documents = simulated(generator, 120)
        found = estimate(values, documents, resamples=400, seed=trial)
        analytic += found.low <= 0.5 <= found.high
        resampled += found.bootstrap_low <= 0.5 <= found.bootstrap_high
        naive_error = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        naive += abs(values.mean() - 0.5) <= naive_error
    # Binomial: 95 % of 400 is 380, give or take 4.4; 92 % to 97.5 % is over two deviations wide.
    assert 0.92 <= analytic / trials <= 0.975
    assert 0.92 <= resampled / trials <= 0.975
    assert naive / trials < 0.85


def test_estimates_of_little_say_that_they_know_nothing() -> None:
    one = estimate(np.array([1.0, 0.0]), np.array([0, 0]))
    assert (one.mean, one.questions, one.documents) == (0.5, 2, 1)
    assert math.isnan(one.standard_error) and math.isnan(one.bootstrap_low)
    none = estimate(np.zeros(0), np.zeros(0, np.int64))
    assert math.isnan(none.mean) and none.questions == none.documents == 0
    assert none.as_json()["mean"] is None


def test_documents_are_numbered_in_order_of_appearance() -> None:
    assert document_codes(strings(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]


def test_the_permutation_p_value_is_the_share_of_all_sign_flips() -> None:
    sums = np.array([1.0, 0.5, -0.25, 2.0, 0.0, 1.5, -0.5, 1.0])
    flips = itertools.product((-1, 1), repeat=len(sums))
    exact = np.mean([abs(np.dot(flip, sums)) >= abs(sums.sum()) for flip in flips])
    assert permutation_p_value(sums, resamples=20_000) == pytest.approx(exact, abs=0.01)


def test_without_a_difference_p_is_uniform() -> None:
    generator = np.random.default_rng(5)
    p_values = []
    for trial in range(300):
        values, documents = simulated(generator, 40)
        sums = generator.choice([-1.0, 1.0], 40) * np.bincount(documents, weights=values)
        p_values.append(permutation_p_value(sums, resamples=300, seed=trial))
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert permutation_p_value(np.zeros(5)) == 1.0


def test_the_p_value_counts_the_difference_seen_among_the_resamples() -> None:
    # Of 2^60 flips two are as far from 0; no sample of a hundred has one of them.
    assert permutation_p_value(np.ones(60), resamples=100) == 1 / 101


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(11)
    error = 0.02
    effect = detectable_difference(error)
    found = np.abs(generator.normal(effect, error, 20_000)) > 1.959964 * error
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def scored(name: str, scores: dict[str, float], metric: str = "anls") -> Scores:
    """Scores of questions "1" … whose prediction is right (1), half right (0.5) or wrong (0)."""
    written = {1.0: "abcd", 0.5: "abxy", 0.0: "wxyz"}
    frame = pd.DataFrame(
        {
            "question_id": list(scores),
            "prediction": [written[value] for value in scores.values()],
            "answers": [["abcd"]] * len(scores),
            "doc_id": [f"page{int(key) % 5}" for key in scores],
            "question_types": [["odd" if int(key) % 2 else "even"] for key in scores],
        }
    )
    return score(frame, metric=metric)


A = {str(n): value for n, value in enumerate([1.0, 1.0, 0.5, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0])}
B = {str(n): value for n, value in enumerate([1.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0, 1.0, 0.0])}


def test_a_comparison_counts_what_changed() -> None:
    comparison = compare(scored("a", A), scored("b", dict(reversed(B.items()))))
    differences = np.array([A[key] - B[key] for key in A])
    assert comparison.difference.mean == pytest.approx(differences.mean())
    assert (comparison.wins, comparison.losses, comparison.ties) == (4, 1, 5)
    documents = np.array([int(key) % 5 for key in A])
    expected = clustered_error(*cluster_sums(differences, documents))
    assert comparison.difference.standard_error == pytest.approx(expected)
    assert comparison.detectable == pytest.approx(2.8015852 * expected)
    assert comparison.flipped["question_id"].tolist() == ["1", "2", "7", "3"]
    assert comparison.flipped["prediction_a"].tolist() == ["abcd", "abxy", "abcd", "wxyz"]
    by_type = {each.label: each.estimate.mean for each in comparison.slices("question_types")}
    assert by_type == pytest.approx(
        {"odd": differences[1::2].mean(), "even": differences[::2].mean()}
    )


def test_swapping_the_models_turns_the_difference_round() -> None:
    one, other = compare(scored("a", A), scored("b", B)), compare(scored("b", B), scored("a", A))
    assert one.difference.mean == -other.difference.mean
    assert one.p_value == other.p_value
    assert (one.wins, one.losses) == (other.losses, other.wins)


def test_a_model_compared_with_itself_does_not_differ() -> None:
    comparison = compare(scored("a", A), scored("a", A))
    assert comparison.difference.mean == 0.0
    assert comparison.p_value == 1.0
    assert comparison.ties == 10


def test_for_an_error_rate_the_lower_one_wins() -> None:
    comparison = compare(scored("a", A, "cer"), scored("b", B, "cer"))
    assert (comparison.wins, comparison.losses) == (4, 1)
    assert comparison.difference.mean < 0
    assert comparison.flipped["question_id"].tolist() == ["1", "2", "7", "3"]
    assert (len(comparison.flipped_to_a), len(comparison.flipped_to_b)) == (3, 1)
    assert "a better 4, b better 1, equal 5; flipped 3 to a, 1 to b" in repr(comparison)


def test_of_one_document_nothing_is_known_and_json_says_null(tmp_path: Path) -> None:
    comparison = compare(scored("a", {"0": 1.0, "5": 1.0}), scored("b", {"0": 0.0, "5": 1.0}))
    assert comparison.summary["detectable_difference"] is None
    comparison.to_json(tmp_path / "comparison.json", by=["question_types"])
    found = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert found == comparison.summary_by(["question_types"])
    assert found["by"]["question_types"]["even"]["mean"] == 1.0
    assert "could have been shown -\n" in repr(comparison)


def test_what_either_side_lacks_is_listed() -> None:
    frame = pd.DataFrame(
        {"question_id": ["1", "2"], "prediction": ["a", None], "answers": [["a"], ["b"]]}
    )
    skipping = score(frame, on_bad_line="skip")
    absent = score(frame[:1], frame[["question_id", "answers"]], on_missing="zero")
    for comparison, side in ((compare(absent, skipping), "b"), (compare(skipping, absent), "a")):
        other = "b" if side == "a" else "a"
        assert [each["line"] for each in comparison.summary[f"skipped_lines_{side}"]] == [1]
        assert comparison.summary[f"missing_{other}"] == ["2"]
        assert comparison.summary[f"skipped_lines_{other}"] == []
        assert f"1 lines in {side} could not be scored" in repr(comparison)
        assert "line 1: prediction: " in repr(comparison)
        assert f"1 questions were not answered in {other}" in repr(comparison)


def test_questions_with_other_references_on_either_side_are_counted() -> None:
    frame = pd.DataFrame(
        {"question_id": [1, 2, 3], "prediction": ["a"] * 3, "answers": [["a", "b"]] * 3}
    )
    other = frame.assign(answers=[["b", "a"], ["a"], ["a", "c"]])
    comparison = compare(score(frame), score(other))
    assert comparison.other_references == comparison.summary["other_references"] == 2
    assert "2 questions have other references in b than in a" in repr(comparison)
    assert "other references" not in repr(compare(score(frame), score(frame)))


def test_questions_of_one_side_only_are_counted_and_left_out() -> None:
    comparison = compare(scored("a", A), scored("b", {"1": 0.0, "99": 1.0}))
    assert (len(comparison), comparison.only_in_a, comparison.only_in_b) == (1, 9, 1)
    with pytest.raises(InputError, match="no question in common"):
        compare(scored("a", {"1": 1.0}), scored("b", {"2": 1.0}))


def test_different_variants_and_metrics_are_not_compared() -> None:
    frame = pd.DataFrame({"question_id": [1], "prediction": ["a"], "answers": [["a"]]})
    with pytest.raises(InputError, match="one variant for both"):
        compare(score(frame), score(frame, variant="paper"))
    with pytest.raises(InputError, match="scored with anls"):
        compare(score(frame), score(frame, metric="exact_match"))
