"""Each way in which a file can be wrong has one message; every format gives the same scores."""

from __future__ import annotations

import csv
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from florence_eval import InputError, Scores, score

GOOD: dict[str, Any] = {"question_id": 1, "prediction": "Paris", "answers": ["paris"]}


def lines(*rows: Any) -> bytes:
    """JSON Lines; bytes stand as they are."""
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


def written(folder: Path, content: bytes, name: str = "predictions.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def row(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "question_id": 2, **changes}


BAD_LINES = {
    "answers as a bare string": (row(answers="abc"), "answers: .*letter by letter"),
    "empty answers": (row(answers=[]), "answers: at least one answer .* empty array"),
    "answers with a number": (row(answers=["a", 1]), "answers: .*the number 1"),
    "answers an object": (row(answers={"a": 1}), "answers: .*an object"),
    "null prediction": (row(prediction=None), "prediction: .*found null"),
    "numeric prediction": (row(prediction=3.5), "prediction: .*the number 3.5"),
    "boolean prediction": (row(prediction=True), "prediction: .*the boolean true"),
    "list prediction": (row(prediction=["a"]), "prediction: one string .*an array"),
    "no prediction": ({"question_id": 2}, "no 'prediction'"),
    "no id": ({"prediction": "a", "answers": ["a"]}, "no 'question_id'"),
    "empty id": (row(question_id=""), "question_id: .*an empty string"),
    "null id": (row(question_id=None), "question_id: .*null"),
    "boolean id": (row(question_id=False), "question_id: .*the boolean false"),
    "invalid JSON": (b'{"question_id": 2, "prediction": "a"', "invalid JSON"),
    "a key twice": (
        b'{"question_id": 2, "prediction": "a", "answers": ["a"], "answers": ["zz"]}',
        "invalid JSON: the key 'answers' is there twice",
    ),
    "two objects on a line": (b'{"question_id": 2} {"question_id": 3}', "invalid JSON"),
    "invalid UTF-8": (b'{"question_id": 2, "prediction": "\xff"}', "invalid UTF-8"),
    "a lone surrogate": (
        b'{"question_id": 2, "prediction": "a\\ud800", "answers": ["a"]}',
        "prediction: holds a lone surrogate",
    ),
    "an array": (b"[1, 2]", "an object is expected, found an array"),
    "question types of numbers": (row(question_types=[1]), "question_types"),
    "a numeric question": (row(question=7), "question: .*the number 7"),
    "deep nesting": (b'{"a":' * 100_000, "invalid JSON"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_with_its_file_number_and_problem(tmp_path: Path, case: str) -> None:
    bad, problem = BAD_LINES[case]
    path = written(tmp_path, lines(GOOD, b"", bad))
    with pytest.raises(InputError, match=problem) as caught:
        score(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_skipped_line_is_counted_and_listed(tmp_path: Path, case: str) -> None:
    bad, _ = BAD_LINES[case]
    scores = score(written(tmp_path, lines(GOOD, bad, row())), on_bad_line="skip")
    assert len(scores) == 2
    assert [line.line for line in scores.skipped] == [2]
    assert scores.summary["skipped_lines"][0]["line"] == 2
    assert "line 2: " in repr(scores).splitlines()[-1]


# Lines that can be read, but not scored by the metric that they are to be scored by.
UNSCORABLE = {
    "an unknown metric": (row(metric="accuracy"), "auto", "metric: 'accuracy' is not one of"),
    "a metric of auto": (row(metric="auto"), "auto", "metric: auto .* stands alone"),
    "too few annotators for its metric": (row(metric="vqa_accuracy"), "auto", "found 1"),
    "too few annotators": (row(), "vqa_accuracy", "counts the agreement of ten, found 1"),
}


@pytest.mark.parametrize("case", UNSCORABLE)
def test_a_line_that_its_metric_cannot_score_is_named_or_skipped(tmp_path: Path, case: str) -> None:
    bad, metric, problem = UNSCORABLE[case]
    good = {**GOOD, "answers": ["paris"] * 10}
    path = written(tmp_path, lines(good, b"", bad))
    with pytest.raises(InputError, match=f"jsonl:3: question '2': .*{problem}"):
        score(path, metric=metric)
    scores = score(path, metric=metric, on_bad_line="skip")
    assert scores.column("question_id") == ["1"]
    assert [line.line for line in scores.skipped] == [3]
    path = written(tmp_path, lines(good, bad))
    with pytest.raises(InputError, match=f"jsonl:2: question '2': .*{problem}"):
        score(path, metric=metric)
    with pytest.raises(InputError, match=f"row 0: question '2': .*{problem}"):
        score(pd.DataFrame([bad]), metric=metric, on_bad_line="skip")


def test_a_lines_own_metric_is_not_looked_at_where_another_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, lines({**GOOD, "metric": "accuracy"}))
    assert score(path, metric="anls").score.mean == 1.0


def test_a_missing_question_stays_missing_where_others_are_skipped(tmp_path: Path) -> None:
    said = [
        {"question_id": 1, "answers": ["a"], "metric": "vqa_accuracy"},
        {"question_id": 2, "answers": ["b"]},
        {"question_id": 3, "answers": ["c"], "metric": "vqa_accuracy"},
    ]
    predictions = [{"question_id": number, "prediction": "b"} for number in (1, 2)]
    scores = score(
        written(tmp_path, lines(*predictions)),
        written(tmp_path, lines(*said), "references.jsonl"),
        on_missing="zero",
        on_bad_line="skip",
    )
    assert scores.column("question_id") == ["2", "3"]
    assert scores.column("score") == [1.0, 0.0]
    assert scores.missing == ("3",)
    assert [line.line for line in scores.skipped] == [1]


def test_a_file_of_bad_lines_only_is_an_error_even_when_they_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="invalid JSON"):
        score(written(tmp_path, b"nonsense\n"), on_bad_line="skip")


@pytest.mark.parametrize(("content", "message"), [(b"", "empty file"), (b" \n\n", "empty file")])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(written(tmp_path, content))


def test_a_directory_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a directory"):
        score(tmp_path)
    for name in ("nothing.jsonl", "a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be read"):
            score(tmp_path / name)
        with pytest.raises(InputError, match="cannot be read"):
            score(pd.DataFrame([GOOD]), str(tmp_path / name))


def test_a_message_is_one_line_of_readable_length(tmp_path: Path) -> None:
    path = written(tmp_path, lines(row(answers="long " * 20_000)), "two\nlines.jsonl")
    with pytest.raises(InputError, match="letter by letter") as caught:
        score(path)
    assert "two\\nlines.jsonl:1: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("first", [GOOD, row(question_id="7", doc_id=None)])
def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path, first: dict[str, Any]) -> None:
    mark = b"\xef\xbb\xbf"
    scores = score(written(tmp_path, mark + lines(first, row())), on_bad_line="skip")
    assert len(scores) == 2 and not scores.skipped
    truth = lines({"dataset_name": "d", "data": [{"questionId": 1, "answers": ["paris"]}]})
    submission = lines([{"questionId": 1, "answer": "Paris"}])
    for references in (truth, lines({"question_id": 1, "answers": ["paris"]})):
        found = score(
            written(tmp_path, mark + submission, "submission.json"),
            written(tmp_path, mark + references, "references.json"),
        )
        assert found.score.mean == 1.0
    with pytest.raises(InputError, match="empty file"):
        score(written(tmp_path, mark))


def test_an_id_that_is_there_twice_is_an_error_also_as_number_and_string(tmp_path: Path) -> None:
    again = {**GOOD, "question_id": "1"}
    with pytest.raises(InputError, match=r"jsonl:3: question_id '1' is there twice, .* line 1;"):
        score(written(tmp_path, lines(GOOD, row(), again)))
    with pytest.raises(InputError, match=r"jsonl:5: question_id '1' is there twice, .* line 3;"):
        score(written(tmp_path, lines(row(), b"", GOOD, b"", again)))
    with pytest.raises(InputError, match=r"row 1: question_id '1' is there twice, .* row 0;"):
        score(pd.DataFrame([GOOD, again]))


def test_an_empty_id_is_no_id_also_among_others_that_are_text(tmp_path: Path) -> None:
    path = written(tmp_path, lines(row(question_id="a"), row(question_id="")))
    with pytest.raises(InputError, match=r"jsonl:2: question_id: an id is expected"):
        score(path)


def test_predictions_without_answers_need_references(tmp_path: Path) -> None:
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a"}))
    with pytest.raises(InputError, match=r"jsonl:1: question '1' has no answers"):
        score(path)
    path = written(tmp_path, lines(row(), b"", {"question_id": 1, "prediction": "a"}))
    with pytest.raises(InputError, match=r"jsonl:3: question '1' has no answers"):
        score(path)


@pytest.fixture
def references(tmp_path: Path) -> Path:
    return written(
        tmp_path,
        lines(
            {"question_id": "1", "answers": ["a"], "doc_id": "d", "question": "Which?"},
            {"question_id": 2, "answers": ["b"], "doc_id": "d"},
        ),
        "references.jsonl",
    )


def test_references_fill_in_what_the_predictions_lack(tmp_path: Path, references: Path) -> None:
    path = written(
        tmp_path,
        lines({"question_id": 2, "prediction": "b"}, {"question_id": 1, "prediction": "x"}),
    )
    table = score(path, references).table
    assert table["question_id"].tolist() == ["2", "1"]
    assert table["answers"].tolist() == [["b"], ["a"]]
    assert table["doc_id"].tolist() == ["d", "d"]
    assert table["question"].tolist()[1] == "Which?"
    assert table["anls"].tolist() == [1.0, 0.0]


def test_a_missing_prediction_is_an_error_or_scores_zero(tmp_path: Path, references: Path) -> None:
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a"}))
    with pytest.raises(InputError, match="no prediction for question '2'"):
        score(path, references)
    scores = score(path, references, on_missing="zero")
    assert scores.score.mean == 0.5
    assert scores.summary["missing"] == ["2"]
    assert "1 questions were not answered" in repr(scores)


def test_references_say_every_key_that_the_predictions_do_not(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        lines({"question_id": 1, "prediction": "A"}, {"question_id": 2, "prediction": "b"}),
    )
    said = [
        {"question_id": 1, "answers": ["a"], "page": 3, "metric": "exact_match", "tags": ["x"]},
        {"question_id": 2, "answers": ["b"], "page": 4, "metric": "cer", "tags": ["x", "y"]},
    ]
    references = written(tmp_path, lines(*said), "references.jsonl")
    for given in (references, pd.DataFrame(said)):
        scores = score(path, given, columns=["page", "tags"])
        assert scores.column("metric") == ["exact_match", "cer"]
        assert scores.column("score") == [1.0, 0.0]
        assert scores.column("page") == ["3", "4"]
        assert scores.column("tags") == [["x"], ["x", "y"]]


def test_references_may_be_a_dataframe(tmp_path: Path) -> None:
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a"}))
    assert score(path, pd.DataFrame([{"question_id": "1", "answers": ["a"]}])).score.mean == 1.0
    with pytest.raises(InputError, match=r"references: row 0: answers: .*letter by letter"):
        score(path, pd.DataFrame([{"question_id": "1", "answers": "a"}]))


def test_a_missing_prediction_is_the_worst_in_every_metric_and_never_exact(tmp_path: Path) -> None:
    metrics = ["anls", "nls", "exact_match", "token_f1", "cer", "wer", "vqa_accuracy"]
    references = written(
        tmp_path,
        lines({"question_id": 1, "answers": ["a b"] * 10}, {"question_id": 2, "answers": [""]}),
        "references.jsonl",
    )
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a b"}))
    scores = score(path, references, on_missing="zero", metric=metrics)
    row = scores.table.iloc[1]
    assert [row[name] for name in metrics] == [0, 0, 0, 0, 1, 1, 0]
    assert (row["exact"], row["category"], row["similarity"]) == (False, "empty", 0.0)
    assert scores.categories["exact"] == 1
    # One wrong character beside the three of the other answer; one wrong word beside its two.
    assert scores.summary["metrics"]["cer"]["corpus"] == pytest.approx(1 / 4)
    assert scores.summary["metrics"]["wer"]["corpus"] == pytest.approx(1 / 3)


def test_a_missing_prediction_scores_zero_even_for_an_empty_answer(tmp_path: Path) -> None:
    references = written(
        tmp_path, lines({"question_id": 1, "answers": ["a"]}, {"question_id": 2, "answers": [""]}),
        "references.jsonl",
    )  # fmt: skip
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a"}))
    scores = score(path, references, on_missing="zero", metric=["exact_match", "anls"])
    assert scores.estimate("anls").mean == scores.estimate("exact_match").mean == 0.5


def test_an_extra_prediction_is_an_error(tmp_path: Path, references: Path) -> None:
    rows = [{"question_id": number, "prediction": "a"} for number in range(1, 8)]
    with pytest.raises(InputError, match="jsonl:3: question '3', '4', '5' and 2 more not in"):
        score(written(tmp_path, lines(*rows)), references)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines({"question_id": 1, "answers": "a"}), ":1: answers: "),
        (lines({"question_id": 1, "answers": None}), ":1: answers: .*null"),
        (lines({"question_id": 1}), ":1: no 'answers'"),
        (lines({"question_id": 1, "answers": ["a"]}, {"question_id": "1", "answers": ["a"]}),
         ":2: question_id '1' is there twice"),
        (b"[]", "an array at the root is a submission"),
        (b"{", ":1: invalid JSON"),
        (lines({"questionId": 1, "answers": ["a"]}), ":1: no 'question_id'"),
        (lines({"questionId": 1, "answers": ["a"]}, {"questionId": 2, "answers": ["a"]}),
         ":1: no 'question_id'"),
        (lines(b'{"question_id": 1, "answers": ["a"}', {"question_id": 2, "answers": ["a"]}),
         ":1: invalid JSON"),
        (b'{"dataset_name": "d",\n"data": [{"questionId": 1,\n"answers": ["a"}]}',
         ":3: invalid JSON"),
        (b'{"dataset_name": "d", "data": [{"questionId": 1, "questionId": 2}]}',
         ": invalid JSON: the key 'questionId' is there twice"),
        (b'{"dataset_name": "d", "data": [{"questionId": ' + b"1" * 5000 + b"}]}",
         ": invalid JSON: .*digits"),
    ],
)  # fmt: skip
def test_bad_references_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, lines({"question_id": 1, "prediction": "a"}))
    with pytest.raises(InputError, match=message):
        score(path, written(tmp_path, content, "references.jsonl"))


# What each of the official evaluator's own 15 cases gives here: its score, or our error where it
# fails too. Of one it gives a score that is an accident (it compares a bare string letter by
# letter), and of one a score of nothing: both are errors here.
CONTRACT = {
    "missing prediction": "no prediction for question '2'",
    "extra prediction": "question '2' not in",
    "order does not matter": 1.0,
    "duplicate id": "'1' is there twice",
    "string id vs int id": "the ground truth has 1, found '1'",
    "list answer": "item 1: answer: one string is expected, found an array",
    "int answer": "item 1: answer: a string is expected, found the number 1",
    "null answer": "item 1: answer: a string is expected, found null",
    "no answer key": "item 1: no 'answer'",
    "empty answers list": "item 1: answers: at least one answer",
    "answers is a bare string (iterates characters)": "item 1: answers: .*letter by letter",
    "no dataset_name": "no 'dataset_name'",
    "empty set": "expected, found none",
    "submission is an object": "no 'question_id'",
    "extra keys ignored": 1.0,
}


@pytest.mark.parametrize("case", CONTRACT)
def test_the_official_evaluators_contract(tmp_path: Path, shared_data: Path, case: str) -> None:
    cases = [
        json.loads(line)
        for line in (shared_data / "anls" / "contract.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    assert {each["case"] for each in cases} == set(CONTRACT)
    files = next(each for each in cases if each["case"] == case)
    truth = written(tmp_path, json.dumps(files["gt"]).encode(), "truth.json")
    submission = written(tmp_path, json.dumps(files["submission"]).encode(), "submission.json")
    expected = CONTRACT[case]
    if isinstance(expected, float):
        assert score(submission, truth).score.mean == expected == files["result"]["score"]
    else:
        with pytest.raises(InputError, match=expected):
            score(submission, truth)


def test_a_broken_submission_is_named_by_line(tmp_path: Path) -> None:
    truth = written(
        tmp_path,
        json.dumps({"dataset_name": "d", "data": [{"questionId": 1, "answers": ["a"]}]}).encode(),
        "truth.json",
    )
    with pytest.raises(InputError, match=r"submission.json:2: invalid JSON"):
        score(written(tmp_path, b"[{},\n nonsense]", "submission.json"), truth)
    for broken, problem in (
        (b'[{"questionId": ' + b"1" * 5000 + b', "answer": "a"}]', "digits"),
        (b'[{"questionId": 1, "answer": "a", "answer": "b"}]', "the key 'answer' is there twice"),
    ):
        with pytest.raises(InputError, match=f"submission.json: invalid JSON: .*{problem}"):
            score(written(tmp_path, broken, "submission.json"), truth)


def assert_same_scores(scores: Scores) -> None:
    table = scores.table
    assert table["question_id"].tolist() == ["7", "8"]
    assert table["question"].tolist() == ["Which city?", "Which year?"]
    assert table["answers"].tolist() == [["paris", "Paris, France"], ["1990"]]
    assert table["anls"].tolist() == [1.0, 0.75]
    assert table["category"].tolist() == ["case_or_space", "wrong_number"]


ANSWERS = [["paris", "Paris, France"], ["1990"]]


@pytest.mark.parametrize("responses", [("Paris", "1991"), (["Paris"], [["1991"]])])
def test_lmms_eval_sample_logs_are_read(tmp_path: Path, responses: tuple[Any, Any]) -> None:
    samples = [
        {
            "doc_id": place,
            "doc": {"questionId": str(7 + place), "question": question, "answers": answers},
            "target": str(answers),
            "filtered_resps": response,
            "anls": 1.0,
        }
        for place, (question, answers, response) in enumerate(
            zip(["Which city?", "Which year?"], ANSWERS, responses, strict=True)
        )
    ]
    assert_same_scores(score(written(tmp_path, lines(*samples))))
    for sample in samples:
        sample["doc"] = {"questionId": sample["doc"]["questionId"]}
    scores = score(written(tmp_path, lines(*samples)))
    assert scores.table["answers"].tolist() == ANSWERS


def test_a_samples_own_row_is_not_taken_for_our_keys(tmp_path: Path) -> None:
    doc = {"image": {"bytes": 3}, "source": 3, "metric": "accuracy", "split": "val", "page": 4}
    sample = {"doc_id": 0, "doc": doc, "target": "paris", "filtered_resps": "Paris"}
    scores = score(written(tmp_path, lines(sample)), columns=["page"])
    assert scores.column("metric") == ["anls"]
    assert scores.column("image") == scores.column("source") == [None]
    assert scores.column("page") == ["4"]


def test_a_sample_is_known_by_its_rows_id_else_by_its_position(tmp_path: Path) -> None:
    docs = [{"id": "x", "docId": 5}, {"question_id": 8, "image_id": "p"}, {}]
    samples = [
        {"doc_id": place, "doc": doc, "target": "['a', 'b']", "filtered_resps": "b"}
        for place, doc in enumerate(docs)
    ]
    scores = score(written(tmp_path, lines(*samples[:2])))
    assert scores.column("question_id") == ["x", "8"]
    assert scores.column("doc_id") == ["5", "p"]
    assert scores.documents_by == "doc_id"
    assert score(written(tmp_path, lines(*samples))).column("question_id") == ["x", "8", "2"]


@pytest.mark.parametrize(
    ("suffix", "delimiter"), [(".tsv", "\t"), (".csv", ","), (".TSV", "\t"), (".CSV", ",")]
)
def test_vlmevalkit_tables_are_read(tmp_path: Path, suffix: str, delimiter: str) -> None:
    path = tmp_path / f"model_DocVQA_VAL{suffix}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["index", "question", "answer", "prediction"])
        writer.writerow([7, "Which city?", str(ANSWERS[0]), "Paris"])
        writer.writerow([8, "Which year?", "1990", "1991"])
    assert_same_scores(score(path))


def test_empty_rows_of_a_table_are_no_questions(tmp_path: Path) -> None:
    content = b"index\tquestion\tanswer\tprediction\n1\tWhich?\ta\ta\n\n\t\t\t\n2\t\tb\n"
    path = written(tmp_path, content, "model.tsv")
    with pytest.raises(InputError, match="row 5: another number of cells"):
        score(path)
    assert score(path, on_bad_line="skip").column("question_id") == ["1"]
    path = written(tmp_path, content.replace(b"2\t\tb\n", b"\tWhich?\ta\ta\n"), "model.tsv")
    with pytest.raises(InputError, match="row 5: index: an id is expected, found an empty string"):
        score(path)


def test_vlmevalkits_choices_reach_the_metric(tmp_path: Path) -> None:
    content = b"index\tquestion\tA\tB\tanswer\tprediction\n1\tWhich?\tred\tblue\tB\tBlue\n"
    path = written(tmp_path, content, "model_AI2D.tsv")
    assert score(path, metric="multiple_choice").score.mean == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"index\tprediction\n1\ta\n", "no column answer"),
        (b"index\tanswer\tanswer\tprediction\n1\ta\tb\ta\n", "column 'answer' is there twice"),
        (b"index\tanswer\tprediction\n1\ta\n", "row 2: another number of cells"),
        (b"index\tanswer\tprediction\n1\t\xff\ta\n", ":2: invalid UTF-8"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(written(tmp_path, content, "model.tsv"))


def test_dataframes_are_read() -> None:
    frame = pd.DataFrame(
        {
            "question_id": [7, 8],
            "prediction": ["Paris", "1991"],
            "answers": ANSWERS,
            "question": ["Which city?", "Which year?"],
            "doc_id": [float("nan"), "d"],
        }
    )
    assert_same_scores(score(frame))
    assert score(frame).documents_by == "question_id"
    assert_same_scores(score(frame.convert_dtypes()))


def test_a_part_of_a_dataframe_scores_as_its_rows_do() -> None:
    frame = pd.DataFrame(
        [row(question_id=str(number), prediction=f"p{number}") for number in range(9)]
    )
    part = score(frame[3:7]).table
    assert part["question_id"].tolist() == ["3", "4", "5", "6"]
    assert part["prediction"].tolist() == ["p3", "p4", "p5", "p6"]
    assert part["anls"].tolist() == score(frame).table["anls"].tolist()[3:7]


def test_bytes_in_a_dataframe_are_read_as_utf8() -> None:
    answered = pd.DataFrame([{**GOOD, "answers": [b"caf\xc3\xa9"], "prediction": "caf\u00e9"}])
    assert score(answered).score.mean == 1.0
    predicted = pd.DataFrame([{**GOOD, "answers": ["caf\u00e9"], "prediction": b"caf\xc3\xa9"}])
    assert score(predicted).score.mean == 1.0
    with pytest.raises(InputError, match=r"row 0: answers: .* found the bytes b'\\xff' in it"):
        score(pd.DataFrame([{**GOOD, "answers": [b"\xff"]}]))


@pytest.mark.parametrize("case", [c for c in BAD_LINES if isinstance(BAD_LINES[c][0], dict)])
def test_a_bad_row_of_a_dataframe_is_named(case: str) -> None:
    bad, problem = BAD_LINES[case]
    frame = pd.DataFrame([GOOD, bad], dtype=object)
    if case in ("no prediction", "no id"):
        problem = problem.replace("no '", "").replace("'", ": .*null")
    if case == "null id":
        problem = "question_id"
    with pytest.raises(InputError, match=f"^predictions: row 1: {problem}"):
        score(frame)


def test_a_lone_surrogate_in_a_dataframe_is_named() -> None:
    frame = pd.DataFrame([{**GOOD, "prediction": "\ud800"}], dtype=object)
    with pytest.raises(InputError, match="row 0: prediction: holds a lone surrogate"):
        score(frame)


@pytest.mark.parametrize("other", [[GOOD], GOOD, None, b"p.jsonl", pd.Series(["a"])])
def test_what_is_neither_a_path_nor_a_dataframe_is_refused(other: Any) -> None:
    with pytest.raises(InputError, match=r"^predictions: a path or a pandas DataFrame is expected"):
        score(other)
    if other is not None:
        with pytest.raises(InputError, match=r"^references: a path or a pandas DataFrame"):
            score(pd.DataFrame([GOOD]), other)


@pytest.mark.parametrize("option", ["on_bad_line", "on_missing"])
def test_an_option_that_is_none_is_refused(option: str) -> None:
    frame = pd.DataFrame([GOOD, row(prediction=None)])
    with pytest.raises(InputError, match=f"^{option}: error or .* is accepted, found 'raise'"):
        score(frame, **{option: "raise"})  # type: ignore[arg-type]


def test_a_column_that_is_there_twice_is_refused_if_it_is_used() -> None:
    frame = pd.DataFrame([[1, "a", ["a"], "x", "y"]])
    frame.columns = ["question_id", "prediction", "answers", "page", "page"]
    assert score(frame).score.mean == 1.0
    with pytest.raises(InputError, match="predictions: the column 'page' is there twice"):
        score(frame, columns=["page"])


def test_an_id_of_any_size_is_an_id(tmp_path: Path) -> None:
    large = 2**64 + 1
    frame = pd.DataFrame([{**GOOD, "question_id": large}], dtype=object)
    assert score(frame).column("question_id") == [str(large)]
    assert score(written(tmp_path, lines({**GOOD, "question_id": large}))).column(
        "question_id"
    ) == [str(large)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (pd.Timestamp("2024-01-05"), "2024-01-05 00:00:00"),
        (b"ab", "ab"),
        (b"\xff", r"b'\xff'"),
        ({"x"}, ["x"]),
        ({1}, "[1]"),
        (Decimal("1.50"), "1.50"),
        ({("a", 1): 2}, "{('a', 1): 2}"),
        ({"day": date(2024, 1, 5)}, '{"day": "2024-01-05"}'),
        (1.5, "1.5"),
    ],
)
def test_any_cell_of_a_dataframe_can_be_sliced_by(cell: Any, expected: object) -> None:
    frame = pd.DataFrame({**{key: [value] for key, value in GOOD.items()}, "date": [cell]})
    assert score(frame, columns=["date"]).column("date") == [expected]


def test_columns_asked_for_are_carried_along(tmp_path: Path) -> None:
    path = written(tmp_path, lines({**GOOD, "page": 3, "tags": ["x", "y"]}, row(tags=["y"])))
    scores = score(path, columns=["page", "tags"])
    assert scores.table["page"].tolist()[0] == "3"
    assert {each.label: each.estimate.questions for each in scores.slices("tags")} == {
        "x": 1,
        "y": 2,
    }
    assert {each.label for each in scores.slices("page")} == {"3", "(none)"}


def test_vlmevalkits_spreadsheets_are_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="the package openpyxl is not installed")
    book = openpyxl.Workbook()
    book.active.append(["index", "question", "answer", "prediction"])
    book.active.append([7, "Which city?", str(ANSWERS[0]), "Paris"])
    book.active.append([8, "Which year?", 1990, "1991"])
    book.save(tmp_path / "model.xlsx")
    assert_same_scores(score(tmp_path / "model.xlsx"))
    book.active.insert_rows(3, 2)
    book.active["F9"] = " "
    book.save(tmp_path / "model.XLSX")
    assert_same_scores(score(tmp_path / "model.XLSX"))
    with pytest.raises(InputError, match="not an XLSX table"):
        score(written(tmp_path, b"nonsense", "other.xlsx"))


@pytest.mark.parametrize(
    "content",
    [
        b'{"question_id": 1, "prediction": "a",\n"answers": ["a"]}',
        b'{"question_id": 1, "prediction": "a", "x":\n{}} {"question_id": 2, "prediction": "a"}',
        b'{"question_id": 1, "prediction": "a"} {"question_id": 2, "prediction": "a"}\n\n',
    ],
)
def test_an_object_that_is_not_on_a_line_of_its_own_is_no_line(
    tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(InputError, match=r"predictions.jsonl:1: invalid JSON"):
        score(written(tmp_path, content))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b" \n\t\n"])
@pytest.mark.parametrize("identity", [7, "7"])
def test_ids_and_ends_of_lines_of_either_kind_give_the_same_table(
    tmp_path: Path, end: bytes, identity: int | str
) -> None:
    rows = [{**GOOD, "question_id": identity, "doc_id": identity, "n": 3}, row(doc_id=8, n=None)]
    if isinstance(identity, str):
        rows[1].update(question_id="2", doc_id="8")
    content = b"".join(json.dumps(each).encode() + end for each in rows)
    table = score(written(tmp_path, content), columns=["n"]).table
    assert table["question_id"].tolist() == ["7", "2"]
    assert table["doc_id"].tolist() == ["7", "8"]
    assert table["n"].fillna("").tolist() == ["3", ""]
