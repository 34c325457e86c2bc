"""Scores are the official ones on real predictions; tables, files and large inputs agree."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_eval import CATEGORIES, InputError, Scores, anls, compare, halves, nls, score
from florence_eval.metrics import Metric
from florence_eval.subsets import SUBSETS, standard_metric
from florence_eval.writing import write_whole

MODELS = ("llama_nemotron", "qwen2_vl_2b_instruct")


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"question_id": number, "answers": ["abcd"], **row} for number, row in enumerate(rows)]
    )


@pytest.fixture
def scores() -> Scores:
    return score(
        frame(
            [
                {"prediction": "abcd", "doc_id": "p1", "question_types": ["form", "layout"]},
                {"prediction": "abcx", "doc_id": "p1", "question_types": ["form"]},
                {"prediction": "zzzz", "doc_id": "p2", "question_types": []},
            ]
        )
    )


@pytest.mark.parametrize("model", MODELS)
def test_real_predictions_score_what_the_official_evaluator_gives(
    shared_data: Path, model: str
) -> None:
    folder = shared_data / "docvqa_predictions"
    official = json.loads((folder / f"{model}.official.json").read_text("utf-8"))
    scores = score(folder / f"{model}.jsonl")
    table = scores.table
    assert len(table) == 1000
    for identity, value in zip(table["question_id"], table["anls"], strict=True):
        assert value == pytest.approx(official["per_question"][identity], abs=1e-12)
    assert scores.score.mean == pytest.approx(official["mean"], abs=1e-12)
    assert scores.documents_by == "image"
    assert sum(scores.categories.values()) == 1000


@pytest.mark.parametrize("empty", ["", None])
def test_documents_are_told_apart_by_what_every_question_says(empty: str | None) -> None:
    """An empty id is none: all pages without one are not one document."""
    frame = pd.DataFrame(
        {
            "question_id": ["1", "2"],
            "prediction": ["a", "b"],
            "answers": [["a"], ["b"]],
            "doc_id": ["page", empty],
            "image": ["1.png", "2.png"],
        }
    )
    scores = score(frame)
    assert scores.documents_by == "image"
    assert scores.documents.tolist() == [0, 1]


def test_the_table_has_its_columns_and_the_best_answer(scores: Scores) -> None:
    assert list(scores.table.columns) == [
        "question_id", "doc_id", "source", "question_types", "question", "prediction", "answers",
        "best_answer", "best_index", "distance", "similarity", "anls", "exact", "category",
        "image", "metric", "score",
    ]  # fmt: skip
    table = score(frame([{"prediction": "abc", "answers": ["xyz", "abd", "abcd"]}])).table
    assert table.loc[0, "best_answer"] == "abcd"
    assert table.loc[0, ["best_index", "distance", "similarity"]].tolist() == [2, 1, 0.75]


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=3)),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_each_row_is_the_metric_of_its_question_in_any_order(
    pairs: list[tuple[str, list[str]]], shuffle: random.Random
) -> None:
    rows = [
        {"question_id": str(place), "prediction": prediction, "answers": answers}
        for place, (prediction, answers) in enumerate(pairs)
    ]
    shuffle.shuffle(rows)
    table = score(pd.DataFrame(rows)).table
    expected = [anls(row["prediction"], row["answers"]) for row in rows]
    assert table["anls"].tolist() == expected
    assert table["question_id"].tolist() == [row["question_id"] for row in rows]


# Normal forms have a letter for "h" with a line below, and none for "H" with one.
cased = st.lists(
    st.sampled_from(("a", "A", "B", "h\u0331", "H\u0331", "\u1e96", "\u0130", " ", ".")), max_size=4
).map("".join)


@pytest.mark.parametrize(
    "variant", ["official", "paper", "seed", "official+unicode=nfc", "official+fold_case=false"]
)
@given(st.lists(st.tuples(cased, cased, cased), min_size=1, max_size=6))
def test_the_nearest_answer_is_the_first_of_the_best_whatever_cases_answers_come_in(
    variant: str, drawn: list[tuple[str, str, str]]
) -> None:
    rows = [
        {"prediction": text.swapcase() + more, "answers": [other, text, text.swapcase(), text]}
        for other, text, more in drawn
    ]
    table = score(frame(rows), variant=variant).table
    for row, similarity, chosen in zip(rows, table["similarity"], table["best_index"], strict=True):
        prediction, answers = str(row["prediction"]), list(row["answers"])
        assert similarity == nls(prediction, answers, variant=variant)
        each = [nls(prediction, [answer], variant=variant) for answer in answers]
        if prediction in answers and variant != "seed":
            assert answers[chosen] == prediction
        elif similarity > 0:
            assert chosen == each.index(similarity)


def test_the_variant_is_named_with_every_number() -> None:
    found = score(frame([{"prediction": "abxy"}]), variant="paper+strip_period")
    assert found.headline == "anls (paper+strip_period)"
    assert "anls (paper+strip_period)" in repr(found)
    assert "anls (paper+strip_period)" in found._repr_html_()
    assert found.summary["variant"] == "paper+strip_period"
    assert found.summary["metrics"]["anls"]["variant"] == "paper+strip_period"
    assert found.score.mean == 0.0


def test_every_dataframe_names_the_variant_and_pandas_keeps_it(
    scores: Scores, tmp_path: Path
) -> None:
    comparison = compare(scores, scores)
    frames = [scores.table, scores.by("question_types"), scores.errors("wrong"), scores.worst(1)]
    for table in [*frames, comparison.flipped]:
        assert table.attrs["variant"] == "official"
        assert table.copy().attrs["variant"] == "official"
    scores.by("question_types").to_parquet(tmp_path / "by_pandas.parquet")
    scores.to_parquet(tmp_path / "table.parquet")
    for name in ("by_pandas.parquet", "table.parquet"):
        assert pd.read_parquet(tmp_path / name).attrs["variant"] == "official"


@pytest.mark.parametrize("metric", ["anls", "cer"])
@pytest.mark.parametrize("least", [5, 1.01, -0.1, float("nan"), float("inf")])
def test_the_score_to_reach_is_a_share(scores: Scores, metric: str, least: float) -> None:
    found = score(scores.table, metric=metric)
    with pytest.raises(InputError, match=r"from 0 to 1 is expected, found"):
        found.reaches(least)
    assert found.reaches(0.5)


def test_metrics_asked_for_are_columns_and_the_first_is_the_headline() -> None:
    found = score(frame([{"prediction": "ABCD"}]), metric=["exact_match", "cer"])
    assert found.table.loc[0, ["anls", "exact_match", "cer", "score"]].tolist() == [1, 1, 1, 1]
    assert found.headline == "exact_match"
    assert found.summary["metrics"]["cer"]["corpus"] == 1.0
    with pytest.raises(InputError, match="'wer' was not computed"):
        found.estimate("wer")


def test_the_name_of_a_metric_is_its_column_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    row = {"question_id": 1, "prediction": "abcx", "answers": ["abcd"], "cer": 9, "variant": "x"}
    path.write_text(json.dumps(row), encoding="utf-8")
    for source in (path, pd.DataFrame([row])):
        found = score(source, metric=["anls", "cer"], columns=["cer"])
        assert found.column("cer") == [0.25]
        with pytest.raises(InputError, match="'cer' is a metric that was not computed"):
            score(source, columns=["cer"])
        with pytest.raises(InputError, match="'variant' is the name of the variant"):
            score(source, columns=["variant"])


@pytest.mark.parametrize("metric", [["auto", "cer"], ["cer", "auto"], "auto+strip_period"])
def test_auto_stands_alone(metric: str | list[str]) -> None:
    with pytest.raises(InputError, match=r"auto .* stands alone"):
        score(frame([{"prediction": "a"}]), metric=metric)


def test_auto_takes_the_standard_metric_of_each_source() -> None:
    found = score(
        frame(
            [
                {"prediction": "abxy", "source": "docvqa"},
                {"prediction": "104", "answers": ["100"], "source": "cauldron/chartqa"},
                {"prediction": "abxy", "source": None},
                {"prediction": "ABCD", "source": "docvqa", "metric": "exact_match"},
                {"prediction": "the red", "answers": ["red"], "source": "vqav2"},
            ]
        )
    )
    table = found.table
    assert table["metric"].tolist() == [
        "anls", "relaxed_accuracy", "anls", "exact_match", "vqa_accuracy+any_answer",
    ]  # fmt: skip
    assert table["score"].tolist() == [0.5, 1.0, 0.5, 1.0, 1.0]
    assert table["relaxed_accuracy"].isna().tolist() == [True, False, True, True, True]
    assert found.headline == "mixed (official)"
    assert found.summary["metrics"]["relaxed_accuracy"]["questions"] == 1
    assert "score, mixed (official)" in repr(found)
    without = [{"prediction": "a", "metric": "cer"}, {"prediction": "a", "metric": "exact_match"}]
    assert score(frame(without)).headline == "mixed"


def test_an_unknown_metric_in_a_row_is_an_error() -> None:
    with pytest.raises(InputError, match="'accuracy' is not one of"):
        score(frame([{"prediction": "a", "metric": "accuracy"}]))


def test_every_subset_of_the_cauldron_has_a_metric(shared_data: Path) -> None:
    with (shared_data / "cauldron" / "subsets.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(SUBSETS) == [row["subset"] for row in rows] == sorted(STANDARD)
    assert len(rows) == 50
    # What the table calls the standard metrics that it read in code or papers.
    called = {
        "MC exact match": "multiple_choice",
        "relaxed accuracy 5% (human/augmented split)": "relaxed_accuracy",
        "ANLS (tau 0.5)": "anls",
        "ANLS in lmms-eval (accuracy in paper)": "anls",
        "ANLS": "anls",
        "exact match (lower+strip)": "exact_match",
        "VQA accuracy": "vqa_accuracy",
        "VQA accuracy (10 answers)": "vqa_accuracy",
        "VQA accuracy with EvalAI normaliser": "vqa_accuracy+evalai",
        "denotation accuracy": "exact_match",
        "CIDEr": "cider",
    }
    sure = [row for row in rows if row["metric_basis"] in ("read in code or docs", "definition")]
    assert len(sure) == 13
    for row in sure:
        assert standard_metric(row["subset"], 10) == called[row["standard_metric"]]


# What docs/evaluation.md says that `auto` takes.
STANDARD = {
    subset: metric
    for metric, subsets in {
        "anls": "docvqa iconqa infographic_vqa st_vqa",
        "cer": "iam rendered_text",
        "cider": "chart2text localized_narratives mimic_cgd screen2words spot_the_diff textcaps "
        "vistext visualmrc",
        "exact_match": "clevr clevr_math cocoqa dvqa figureqa hateful_memes mapqa nlvr2 ocrvqa "
        "robut_sqa robut_wikisql robut_wtq tallyqa vqarad vsr",
        "exact_match+final_answer": "finqa hitab multihiertt tabmwp",
        "multiple_choice": "ai2d aokvqa intergps raven scienceqa tqa visual7w",
        "nls": "datikz diagram_image_to_text websight",
        "relaxed_accuracy": "chartqa plotqa",
        "relaxed_accuracy+final_answer": "geomverse",
        "token_f1+final_answer": "tat_qa",
        "vqa_accuracy": "okvqa vqav2",
        "vqa_accuracy+evalai": "textvqa",
    }.items()
    for subset in subsets.split()
}


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_has_the_metric_that_the_documents_say(subset: str) -> None:
    assert standard_metric(f"cauldron/{subset}", 10) == STANDARD[subset]
    Metric.parse(STANDARD[subset])


@pytest.mark.parametrize(("answers", "further"), [(1, "+any_answer"), (3, "+any_answer"), (4, "")])
def test_of_fewer_than_four_annotators_a_match_with_any_counts(answers: int, further: str) -> None:
    assert standard_metric("vqav2", answers) == f"vqa_accuracy{further}"
    assert standard_metric("textvqa", answers) == f"vqa_accuracy+evalai{further}"
    assert standard_metric("docvqa", answers) == "anls"


def test_slices_count_a_question_once_for_each_of_its_labels(scores: Scores) -> None:
    found = score(frame([{"prediction": "abcd", "question_types": ["form", "form"]}]))
    assert found.by("question_types")["questions"].tolist() == [1]
    table = scores.by("question_types").set_index("question_types")
    assert table["questions"].to_dict() == {"form": 2, "(none)": 1, "layout": 1}
    assert table["mean"].to_dict() == {"form": 0.875, "(none)": 0.0, "layout": 1.0}
    with pytest.raises(InputError, match="'page' is not in the table"):
        scores.by("page")


def test_errors_and_worst_are_rows_of_the_table(scores: Scores) -> None:
    assert scores.errors("near_miss")["question_id"].tolist() == ["1"]
    assert scores.errors("truncated").empty
    assert scores.worst(2)["question_id"].tolist() == ["2", "1"]
    with pytest.raises(InputError, match="'nonsense' is not one of exact"):
        scores.errors("nonsense")
    rates = score(frame([{"prediction": "abcd"}, {"prediction": "zzzz"}]), metric="cer")
    assert rates.worst(1)["question_id"].tolist() == ["1"]


def test_parquet_holds_the_table_and_the_summary(scores: Scores, tmp_path: Path) -> None:
    scores.write(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / "table.parquet"
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "summary.json", "table.csv", "table.parquet",
    ]  # fmt: skip
    read = pq.read_table(path)
    assert read.drop_columns([]).to_pydict() == scores.rows.to_pydict()
    summary = json.loads((path.parent / "summary.json").read_text("utf-8"))
    assert json.loads(read.schema.metadata[b"florence_eval"]) == summary == scores.summary
    assert list(summary["categories"]) == list(CATEGORIES)


def test_no_text_in_the_csv_is_a_formula_and_each_can_be_had_back(tmp_path: Path) -> None:
    texts = ["=1+1", "+a", "-5", "@x", "\tx", "\rx", "'quoted", 'say "a, b"', "a\nb", "", "é🙂"]
    found = score(frame([{"prediction": text, "answers": [text, "=x"]} for text in texts]))
    found.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"].removeprefix("'") for row in rows] == [
        text.removeprefix("'") if text != "'quoted" else "'quoted" for text in texts
    ]
    assert [json.loads(row["answers"]) for row in rows] == [[text, "=x"] for text in texts]
    for row in rows:
        for name in ("prediction", "best_answer", "answers"):
            assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert {row["variant"] for row in rows} == {"official"}


def test_a_file_that_cannot_be_written_whole_leaves_the_older_one(tmp_path: Path) -> None:
    def broken(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no space")

    (tmp_path / "summary.json").write_text("older")
    with pytest.raises(InputError, match=r"summary.json: cannot be written: no space"):
        write_whole(tmp_path / "summary.json", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_text() == "older"


def test_a_folder_that_cannot_be_made_is_an_error(scores: Scores, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder is expected"):
        scores.write(tmp_path / "file")


def test_markup_in_a_label_stays_text_in_html_and_markdown() -> None:
    from florence_eval.rendering import html, markdown, summary_grids

    found = score(frame([{"prediction": "a", "question_types": ["<script>|[red]"]}]))
    grids = summary_grids(found, ["question_types"])
    assert "<script>" not in html(grids) and "<script>" not in markdown(grids)
    assert "&lt;script&gt;\\|" in markdown(grids)


def large(folder: Path, rows: int = 400, changed: int = 399, **changes: Any) -> Path:
    """A file of predictions whose documents are spread over all of it, one of them changed."""
    generator = random.Random(0)
    answers = ["".join(generator.choices("abcde ", k=6)) for _ in range(40)]
    path = folder / "large.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {
                "question_id": number,
                "prediction": generator.choice(answers),
                "answers": generator.sample(answers, 2),
                "doc_id": f"page {number % 37}",
                "source": "docvqa" if number < rows / 2 else "chartqa",
                "page": number % 3,
            }
            file.write(json.dumps({**row, **(changes if number == changed else {})}) + "\n")
    return path


def test_two_processes_give_the_table_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    alone = score(path, columns=["page"])
    monkeypatch.setattr(halves, "START_BYTES", 1)
    monkeypatch.setattr(halves, "_cores", lambda: 2)
    rows = halves.tabulate_large(path, None, alone.variant, ["page"])
    assert rows is not None
    together = score(path, columns=["page"])
    assert together.rows.to_pydict() == alone.rows.to_pydict() == rows.to_pydict()
    assert {"wrong_field", "wrong"} <= set(alone.table["category"])
    assert together.summary == alone.summary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_id": 0}, ":400: question_id '0' is there twice, first in line 1"),
        ({"prediction": None}, ":400: prediction"),
        ({"answers": None}, ":400: question '399' has no answers"),
        ({"metric": "nonsense"}, ":400: question '399': metric: 'nonsense' is not one of"),
        ({"metric": "vqa_accuracy"}, ":400: question '399': .*found 2"),
    ],
)
def test_two_processes_report_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(halves, "START_BYTES", 1)
    monkeypatch.setattr(halves, "_cores", lambda: 2)
    with pytest.raises(InputError, match=message):
        score(large(tmp_path, **changes))


def test_a_line_that_cannot_be_scored_may_be_in_the_first_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "START_BYTES", 1)
    monkeypatch.setattr(halves, "_cores", lambda: 2)
    path = large(tmp_path, changed=2, metric="nonsense")
    with pytest.raises(InputError, match=r":3: question '2': metric: 'nonsense' is not one of"):
        score(path)
    scores = score(path, on_bad_line="skip")
    assert len(scores) == 399
    assert [line.line for line in scores.skipped] == [3]


def test_a_document_missing_in_one_half_only_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path, doc_id=None)
    alone = score(path)
    monkeypatch.setattr(halves, "START_BYTES", 1)
    monkeypatch.setattr(halves, "_cores", lambda: 2)
    assert alone.documents_by == "question_id"
    assert score(path).rows.to_pydict() == alone.rows.to_pydict()


def test_importing_and_scoring_load_neither_torch_nor_pandas(tmp_path: Path) -> None:
    """Not even where a prediction has to be looked at more closely, or names its metric."""
    path = tmp_path / "p.jsonl"
    predictions = [
        "a",
        "A",
        "the cat",
        "12",
        "five",
        "no",
        "ha" * 20,
        "caf\u00e9 bar",
        "Jan 5, 1990",
    ]
    answers = ["a", "a", "cat", "1.2", "5", "yes", "x", "cafe bars", "1/6/90"]
    path.write_text(
        "\n".join(
            json.dumps(
                {"question_id": n, "prediction": p, "answers": [a], "doc_id": "d", "metric": "anls"}
            )
            for n, (p, a) in enumerate(zip(predictions, answers, strict=True))
        )
    )
    program = (
        "import sys, florence_eval as f\n"
        "loaded = {n.partition('.')[0] for n in sys.modules}\n"
        "assert not loaded & {'numpy', 'pyarrow', 'rapidfuzz', 'msgspec'}, loaded\n"
        f"f.score({str(path)!r}).write({str(tmp_path / 'out')!r})\n"
        "loaded = {n.partition('.')[0] for n in sys.modules}\n"
        "assert not loaded & {'torch', 'pandas', 'florence_data', 'florence_train'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_estimates_over_many_documents_leave_the_resampling_out() -> None:
    rows = 20_000
    found = score(
        pd.DataFrame(
            {
                "question_id": np.arange(rows).astype(str),
                "prediction": ["abcd", "zzzz"] * (rows // 2),
                "answers": [["abcd"]] * rows,
                "doc_id": np.arange(rows).astype(str),
            }
        )
    )
    assert found.score.standard_error == pytest.approx(0.5 / rows**0.5, rel=1e-3)
    assert np.isnan(found.score.bootstrap_low)
    assert found.summary["score"]["bootstrap_low"] is None
