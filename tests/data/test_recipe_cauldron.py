"""The Cauldron: every subset imports, and its formatting is undone as its rules say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from florence_data.account import Account
from florence_data.conversation_table import Turn
from florence_data.errors import InputError
from florence_data.recipes import cauldron
from florence_data.recipes.cauldron_formatting import (
    GROUPS,
    PARSE_THE_TABLE,
    RULES,
    SUBSETS,
    Rule,
    undo_formatting,
)
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

# One row of each subset as The Cauldron has it (question, answer), then as its source had it, as
# far as that can be told. Written from the text of real rows' forms, not by the code under test.
ROWS: dict[str, tuple[str, str, str, str]] = {
    "ai2d": (
        "Question: Which is a producer?\nChoices:\nA. hawk\nB. grass\nC. mouse\n"
        "Answer with the letter.",
        "Answer: B",
        "Which is a producer?\nA. hawk\nB. grass\nC. mouse",
        "grass",
    ),
    "aokvqa": (
        "What is the dog on?\nMake your selection and explain in format: 'Answer: answer\n"
        "Rationale: rationale.'\nOptions: Sofa, rug, bed, car.",
        "Answer: rug.\nRationale: It lies on the floor. It is woven.",
        "What is the dog on?\nA. Sofa\nB. rug\nC. bed\nD. car",
        "rug",
    ),
    "chart2text": (
        "Please describe the key points or trends indicated by this graph.",
        "Sales rose to 3.4 million.",
        "Please describe the key points or trends indicated by this graph.",
        "Sales rose to 3.4 million.",
    ),
    "chartqa": (
        "What is the value in 2014?\nShort answer required.",
        "0.57.",
        "What is the value in 2014?",
        "0.57",
    ),
    "clevr": ("Is it red?\nKeep it short and to the point.", "No.", "Is it red?", "No"),
    "clevr_math": (
        "Subtract all cubes. How many are left?\nBe succinct.",
        "4.",
        "Subtract all cubes. How many are left?",
        "4",
    ),
    "cocoqa": ("What flies?\nAnswer briefly.", "Kite.", "What flies?", "Kite"),
    "datikz": (
        "Recreate this figure using TikZ code.",
        "\\begin{tikzpicture}\\end{tikzpicture}",
        "Recreate this figure using TikZ code.",
        "\\begin{tikzpicture}\\end{tikzpicture}",
    ),
    "diagram_image_to_text": (
        "Review the diagram and comment on the linkage and flow among entities.",
        "A leads to B.",
        "Review the diagram and comment on the linkage and flow among entities.",
        "A leads to B.",
    ),
    "docvqa": (
        "What is the date?\nEnsure brevity in your answer. ",
        "1/8/93.",
        "What is the date?",
        "1/8/93",
    ),
    "dvqa": (
        "What is the label of the second bar?\nOffer a very short reply.",
        "Ham.",
        "What is the label of the second bar?",
        "Ham",
    ),
    "figureqa": (
        "Is Red the low median?\nAnswer yes or no.",
        "No.",
        "Is Red the low median?",
        "No",
    ),
    "finqa": (
        "Sales rose in 2009.\nCosts fell.\nWhat was the change?",
        "\nRationale: Subtract.\nComputations: (14 - 12)\nAnswer: 2.0.",
        "What was the change?",
        "2.0",
    ),
    "geomverse": (
        "What is the area?",
        "The side is 3.\nTherefore the final answer is 9.",
        "What is the area?",
        "The side is 3.\nTherefore the final answer is 9.",
    ),
    "hateful_memes": (
        "Is the language used in this meme hateful?\nAnswer yes or no.",
        "Yes.",
        "Is the language used in this meme hateful?",
        "Yes",
    ),
    "hitab": ("What was the share?", "41.2.", "What was the share?", "41.2"),
    "iam": (
        "What is scribbled in this image?",
        "a note .",
        "What is scribbled in this image?",
        "a note .",
    ),
    "iconqa": (
        "Fill in the blank. The ball is (_) inches long.",
        "4",
        "The ball is (_) inches long.",
        "4",
    ),
    "infographic_vqa": (
        "What share is online?\nKeep it brief.",
        "61%.",
        "What share is online?",
        "61%",
    ),
    "intergps": (
        "Question: Find x.\nChoices:\nA. 4.0\nB. 12.5\nAnswer with the letter.",
        "Answer: B",
        "Find x.\nA. 4.0\nB. 12.5",
        "12.5",
    ),
    "localized_narratives": (
        "Could you give a brief overview of what you see in this image?",
        "In this image there is a dog.",
        "Could you give a brief overview of what you see in this image?",
        "In this image there is a dog.",
    ),
    "mapqa": (
        "Which states have the highest value?\nAnswer briefly.",
        "Ohio, Utah.",
        "Which states have the highest value?",
        "Ohio, Utah",
    ),
    "mimic_cgd": (
        "What changed?",
        "The second image has a car.",
        "What changed?",
        "The second image has a car.",
    ),
    "multihiertt": (
        "What is the sum?",
        "\nComputations: 1 + 2\nAnswer: 3.",
        "What is the sum?",
        "3",
    ),
    "nlvr2": (
        "The first image is the image on the left, the second image is the image on the right. "
        'For the images shown, is this caption "Two dogs." true? Answer yes or no.',
        "No.",
        "The first image is the image on the left, the second image is the image on the right. "
        'For the images shown, is this caption "Two dogs." true?',
        "No",
    ),
    "ocrvqa": (
        "Who wrote this book?\nYour answer should be compact.",
        "Ann Lee.",
        "Who wrote this book?",
        "Ann Lee",
    ),
    "okvqa": ("What is it for?\nQuick response, please.", "Tennis.", "What is it for?", "Tennis"),
    "plotqa": (
        "Make your answers short.\nWhat is the title?",
        "Exports.",
        "What is the title?",
        "Exports",
    ),
    "raven": (
        "Which figure should complete the logical sequence?",
        "F",
        "Which figure should complete the logical sequence?",
        "F",
    ),
    "rendered_text": (
        "What does the text say?",
        "The quick brown fox.",
        "What does the text say?",
        "The quick brown fox.",
    ),
    "robut_sqa": ("Who won in 2004?", "Greece.", "Who won in 2004?", "Greece"),
    "robut_wikisql": (
        "Which city is first?",
        "Oslo, Bergen.",
        "Which city is first?",
        "Oslo, Bergen",
    ),
    "robut_wtq": ("How many in all?", "12.", "How many in all?", "12"),
    "scienceqa": (
        "Lecture: A solid keeps its shape.\nQuestion: Is a rock a solid?\nHint: Hold one.\n"
        "Choices:\nA. yes\nB. no\nAnswer with the letter.",
        "Answer: A",
        "Is a rock a solid?\nA. yes\nB. no",
        "yes",
    ),
    "screen2words": (
        "Describe this image in words.",
        "Page of a shop.",
        "Describe this image in words.",
        "Page of a shop",
    ),
    "spot_the_diff": (
        "Detect the changes between these images.",
        "A car is gone. A man came.",
        "Detect the changes between these images.",
        "A car is gone. A man came.",
    ),
    "st_vqa": ("What is the sign?\nAnswer briefly.", "Stop.", "What is the sign?", "Stop"),
    "tabmwp": (
        "How much is left?",
        "Subtract.\n$5 - $2 = $3",
        "How much is left?",
        "Subtract.\n$5 - $2 = $3",
    ),
    "tallyqa": ("How many cups?\nBe succinct.", "0.", "How many cups?", "0"),
    "tat_qa": (
        "The table shows costs.\nWhat is the cost?\nAnswer scale should be: thousand.",
        "1,496 - 1,000\nAnswer: 496.",
        "What is the cost?",
        "496",
    ),
    "textcaps": ("Caption this image.", "A red sign.", "Caption this image.", "A red sign."),
    "textvqa": (
        "What brand?\nYour response must be concise.",
        "Nokia.",
        "What brand?",
        "Nokia",
    ),
    "tqa": (
        "Question: What is E?\nChoices:\nA. Mantle.\nB. Outer core.\nAnswer with the letter.",
        "Answer: B",
        "What is E?\nA. Mantle\nB. Outer core",
        "Outer core",
    ),
    "vistext": ("Describe this chart.", "A bar chart.", "Describe this chart.", "A bar chart."),
    "visual7w": (
        "Question: Where is it?\nChoices:\nA. At home.\nB. On a hill.\nAnswer with the letter.",
        "Answer: A",
        "Where is it?\nA. At home.\nB. On a hill.",
        "At home.",
    ),
    "visualmrc": ("Who founded it?", "Ann founded it.", "Who founded it?", "Ann founded it."),
    "vqarad": ("Is it a ct?\nAnswer briefly.", "Yes.", "Is it a ct?", "Yes"),
    "vqav2": ("What colour?\nAnswer briefly.", "Blue.", "What colour?", "Blue"),
    "vsr": (
        'Does the image validate the caption "A cat."?\nAnswer yes or no.',
        "Yes.",
        'Does the image validate the caption "A cat."?',
        "Yes",
    ),
    "websight": (
        "Transform this website screenshot into HTML code.",
        "<html></html>",
        "Transform this website screenshot into HTML code.",
        "<html></html>",
    ),
}
LONG = {"datikz", "geomverse", "tabmwp", "websight"}
SEVERAL_IMAGES = {"mimic_cgd", "nlvr2", "spot_the_diff"}


def encoded(colour: str = "white", size: tuple[int, int] = (20, 30)) -> bytes:
    data = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def row(*turns: tuple[str, str], images: tuple[bytes, ...] = (encoded(),)) -> dict[str, Any]:
    return {
        "images": [{"bytes": image, "path": None} for image in images],
        "texts": [{"user": user, "assistant": said, "source": "?"} for user, said in turns],
    }


def write(root: Path, subset: str, *rows: dict[str, Any]) -> Path:
    (root / subset).mkdir(parents=True, exist_ok=True)
    path = root / subset / "train-00000-of-00001-abc123.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=3)
    return root


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = list(samples.source.read(0, len(samples), account))
    account.questions.kept = sum(len(page.supervisions) for page in pages)
    assert account.rows.balanced and account.questions.balanced
    assert account.rows.kept == len(pages)
    return pages, account


def only(samples: SampleSet) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    [page] = samples
    [supervision] = page.supervisions
    return supervision.question, supervision.answers, supervision.metadata


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
def test_a_rule_turns_its_example_into_the_plain_one_and_leaves_that_alone(rule: Rule) -> None:
    assert rule.undo(rule.formatted) == rule.plain
    assert rule.undo(rule.plain) == rule.plain


def test_the_table_names_the_fifty_subsets(shared_data: Path) -> None:
    with (shared_data / "cauldron" / "subsets.csv").open() as file:
        names = {record["subset"] for record in csv.DictReader(file)}
    assert set(SUBSETS) == names == set(ROWS)


def test_every_published_suffix_is_stripped_in_its_subsets(shared_data: Path) -> None:
    published = json.loads((shared_data / "cauldron" / "brevity_suffixes.json").read_text())
    for form in (published["answer_shortly"], published["brevity_hint"]):
        for subset in form["subsets"]:
            for suffix in form["suffixes"]:
                plain = undo_formatting(subset, Turn("What is it?" + suffix, "A boat."))
                assert plain == Turn("What is it?", "A boat")


@pytest.mark.parametrize("subset", ROWS)
def test_a_row_of_every_subset_is_imported_as_its_source_had_it(
    tmp_path: Path, subset: str
) -> None:
    question, answer, plain_question, plain_answer = ROWS[subset]
    images = (encoded(),) * (2 if subset in SEVERAL_IMAGES else 1)
    source = str(write(tmp_path, subset, row((question, answer), images=images)))
    got = only(cauldron(source, subset, multi_image="first", long_answers="keep"))
    assert got[:2] == (plain_question, (plain_answer,))
    assert got[2]["subset"] == subset
    kept = only(
        cauldron(source, subset, multi_image="first", long_answers="keep", keep_formatting=True)
    )
    assert kept == (question.strip(), (answer.strip(),), {"subset": subset})
    pages, account = read(cauldron(source, subset))
    reasons = sorted(account.rows.dropped)
    if subset in LONG:
        assert reasons == ["no question left"] and not pages
    elif subset in SEVERAL_IMAGES:
        assert reasons == ["row with several images"] and not pages
    else:
        assert not reasons and len(pages) == 1


def test_what_was_written_around_a_question_is_kept_beside_it(tmp_path: Path) -> None:
    for subset, expected in {
        "scienceqa": {
            "lecture": "A solid keeps its shape.",
            "hint": "Hold one.",
            "choices": ["yes", "no"],
            "letter": "A",
        },
        "tat_qa": {
            "scale": "thousand",
            "context": "The table shows costs.",
            "derivation": "1,496 - 1,000",
        },
        "aokvqa": {
            "rationale": "It lies on the floor. It is woven.",
            "choices": ["Sofa", "rug", "bed", "car"],
            "letter": "B",
        },
    }.items():
        source = str(write(tmp_path, subset, row(ROWS[subset][:2])))
        assert only(cauldron(source, subset))[2] == {"subset": subset, **expected}


def test_multiple_choice_is_answered_by_letter_on_request(tmp_path: Path) -> None:
    source = str(write(tmp_path, "ai2d", row(ROWS["ai2d"][:2])))
    question, answers, _ = only(cauldron(source, "ai2d", multiple_choice="letter"))
    assert answers == ("B",)
    assert question.splitlines()[2] == "B. grass"


def test_choices_of_several_lines_and_answers_that_are_no_choice_survive() -> None:
    turn = Turn(
        "Question: Which?\nChoices:\nA. one\nmore of one\nB. two\nAnswer with the letter.",
        "Answer: A",
    )
    assert undo_formatting("ai2d", turn).answer == "one\nmore of one"
    beyond = Turn("Question: Which?\nChoices:\nA. one\nAnswer with the letter.", "Answer: D")
    assert undo_formatting("ai2d", beyond) == beyond


def test_a_capitalised_answer_stays_so_and_three_dots_stay_three() -> None:
    turn = undo_formatting("docvqa", Turn("Which phone?\nOffer a terse response.", "Iphone."))
    assert turn.answer == "Iphone"
    assert undo_formatting("docvqa", Turn("What follows?", "And so on...")).answer == "And so on..."


def test_a_turn_is_a_supervision_of_its_own_with_stable_ids(tmp_path: Path) -> None:
    turns = [("Q1?\nBe succinct.", "One."), ("Q2?\nBe succinct.", "Two.")]
    source = str(write(tmp_path, "st_vqa", row(("Q0?", "Zero.")), row(*turns)))
    pages, account = read(cauldron(source, "st_vqa"))
    assert [page.id for page in pages] == ["st_vqa_0000000", "st_vqa_0000001"]
    assert [(s.id, s.question, s.answers) for s in pages[1].supervisions] == [
        ("st_vqa_0000001_0", "Q1?", ("One",)),
        ("st_vqa_0000001_1", "Q2?", ("Two",)),
    ]
    assert pages[1].source == "st_vqa"
    assert account.questions.kept == 3


def test_several_images_are_skipped_cut_to_the_first_or_stitched(tmp_path: Path) -> None:
    images = (encoded("red", (20, 30)), encoded("blue", (10, 40)))
    source = str(write(tmp_path, "nlvr2", row(ROWS["nlvr2"][:2], images=images)))
    assert read(cauldron(source, "nlvr2"))[1].rows.dropped == {"row with several images": 1}
    [first] = cauldron(source, "nlvr2", multi_image="first")
    assert first.image.read() == images[0]
    [stitched] = cauldron(source, "nlvr2", multi_image="stitch")
    picture = PIL.Image.open(io.BytesIO(stitched.image.read()))
    assert picture.size == (20 + 16 + 10, 40) == (stitched.image.width, stitched.image.height)
    assert [picture.getpixel(xy) for xy in ((0, 0), (19, 29), (20, 0), (36, 39), (0, 30))] == [
        (255, 0, 0),
        (255, 0, 0),
        (255, 255, 255),
        (0, 0, 255),
        (255, 255, 255),
    ]


def test_long_answers_and_whole_tables_are_dropped_and_counted(tmp_path: Path) -> None:
    table = (sorted(PARSE_THE_TABLE)[0], "{'a': [1, 2]}")
    long = ("What does it say?", "word " * 300)
    source = str(write(tmp_path, "robut_wtq", row(table, long, ("Who won?", "Greece."))))
    pages, account = read(cauldron(source, "robut_wtq"))
    assert [s.answers for s in pages[0].supervisions] == [("Greece",)]
    assert account.questions.dropped == {
        "long answer: whole table": 1,
        "answer over the token limit": 1,
    }
    pages, _ = read(
        cauldron(source, "robut_wtq", long_answers="keep", max_target_tokens=0),
    )
    assert [len(page.supervisions) for page in pages] == [3]


def test_tokens_are_counted_with_a_tokenizer_where_one_is_given(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    turns = [("Q1?", "one two three"), ("Q2?", "incomprehensibilities unquestionably")]
    source = str(write(tmp_path / "copy", "robut_wtq", row(*turns)))
    pages, _ = read(
        cauldron(source, "robut_wtq", max_target_tokens=2, tokenizer=str(tmp_path)),
    )
    assert [s.question for s in pages[0].supervisions] == ["Q2?"]
    with pytest.raises(InputError, match=r"missing.json: no tokenizer can be read there"):
        list(cauldron(source, "robut_wtq", tokenizer=str(tmp_path / "missing.json")))


def test_rows_that_cannot_be_used_are_dropped_with_their_reason(tmp_path: Path) -> None:
    source = str(
        write(
            tmp_path,
            "iam",
            row(("What?", "ink")),
            row(("What?", "ink"), images=()),
            row(("What?", "ink"), images=(encoded()[:40],)),
            row(("What?", "ink"), images=(b"",)),
            row(("", "ink"), ("What?", " ")),
            row(),
        )
    )
    pages, account = read(cauldron(source, "iam"))
    assert [page.id for page in pages] == ["iam_0000000"]
    assert account.rows.dropped == {
        "row without an image": 1,
        "image damaged": 1,
        "image missing": 1,
        "no question left": 2,
    }
    assert account.questions.dropped == {
        "row without an image": 1,
        "image damaged": 1,
        "image missing": 1,
        "empty question": 1,
        "empty answer": 1,
    }


def test_subsets_are_named_one_by_one_by_group_or_all(tmp_path: Path) -> None:
    for subset in (*GROUPS["docvqa-like"], "iam"):
        write(tmp_path, subset, row(("What?", "ink.")))
    source = str(tmp_path)

    def sources(subsets: str) -> list[str]:
        return [page.source for page in cauldron(source, subsets)]

    assert sources("iam, docvqa,iam") == ["iam", "docvqa"]
    assert sources("docvqa-like") == list(GROUPS["docvqa-like"])
    assert sources("all") == sorted((*GROUPS["docvqa-like"], "iam"))
    with pytest.raises(InputError, match=r"'docvpa' is no subset; found in .*: docvqa, iam, .*all"):
        cauldron(source, "docvpa")
    with pytest.raises(InputError, match=r"no subset chart2text, chartqa, .*; found docvqa, iam"):
        cauldron(source, "iam,charts")
    assert {name for group in GROUPS.values() for name in group} == set(SUBSETS)


def test_a_range_runs_across_subsets(tmp_path: Path) -> None:
    for subset in ("docvqa", "iam"):
        write(tmp_path, subset, *(row((f"Q{number}?", "ink")) for number in range(5)))
    samples = cauldron(str(tmp_path), "docvqa,iam")
    whole = [page.id for page in samples]
    for start in range(11):
        for stop in range(start, 11):
            got = [page.id for page in samples.source.read(start, stop, Account())]
            assert got == whole[start:stop]


def test_sources_that_cannot_be_used_are_named_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such directory"):
        cauldron(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no subset in it; expected SUBSET/\*.parquet"):
        cauldron(str(tmp_path), "all")
    (tmp_path / "iam").mkdir()
    with pytest.raises(InputError, match=r"iam: no parquet file of split 'train'"):
        cauldron(str(tmp_path), "iam")
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "iam" / "train.parquet")
    with pytest.raises(InputError, match=r"columns missing: images, texts; found: image"):
        cauldron(str(tmp_path), "iam")


def test_the_real_receipts_and_report_pages_come_through_whole(shared_data: Path) -> None:
    pages, account = read(cauldron(str(shared_data / "documents"), "all"))
    assert (account.rows.kept, account.questions.kept) == (140, 311)
    raw = pq.read_table(
        shared_data / "documents" / "sroie" / "train-00000-of-00001.parquet"
    ).to_pylist()
    receipts = [page for page in pages if page.source == "sroie"]
    assert [page.image.read() for page in receipts] == [r["images"][0]["bytes"] for r in raw]
    assert [[(s.question, s.answers[0]) for s in page.supervisions] for page in receipts] == [
        [(turn["user"], turn["assistant"]) for turn in r["texts"]] for r in raw
    ]
