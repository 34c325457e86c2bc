"""DocVQA and InfographicVQA: rows of questions become pages, whatever the source's layout."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes import docvqa, infographicvqa
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

PAGES = 7


def picture(page: int) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (20 + page, 30), (page, 0, 0))


def encoded(page: int, format: str = "PNG") -> bytes:
    data = io.BytesIO()
    picture(page).save(data, format)
    return data.getvalue()


def row(question: int, /, **changes: Any) -> dict[str, Any]:
    """Questions go round the pages, so that a page's rows lie far apart."""
    page = question % PAGES
    return {
        "questionId": str(1000 + question),
        "question": f"What is in line {question}?",
        "question_types": ["form", "layout"],
        "image": {"bytes": encoded(page), "path": f"{page}.png"},
        "docId": page,
        "ucsf_document_id": f"abcd{page // 2:04d}",
        "ucsf_document_page_no": str(page % 2),
        "answers": [f"line {question}", "the line"],
        **changes,
    }


def write_hub_layout(root: Path, rows: list[dict[str, Any]], split: str = "train") -> None:
    (root / "data").mkdir(parents=True, exist_ok=True)
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        pq.write_table(
            pa.Table.from_pylist(part),
            root / "data" / f"{split}-{number:05d}-of-00002.parquet",
            row_group_size=6,
        )


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = list(samples.source.read(0, len(samples), account))
    account.questions.kept = sum(len(page.supervisions) for page in pages)
    return pages, account


def colour(sample: Sample) -> int:
    """The page number that `picture` painted."""
    return PIL.Image.open(io.BytesIO(sample.image.read())).getpixel((0, 0))[0]


@pytest.fixture
def hub_copy(tmp_path: Path) -> Path:
    write_hub_layout(tmp_path, [row(question) for question in range(40)])
    return tmp_path


def test_each_page_is_one_sample_with_all_of_its_questions(hub_copy: Path) -> None:
    pages, account = read(docvqa(str(hub_copy)))
    asked = {page.id: [int(s.id) - 1000 for s in page.supervisions] for page in pages}
    assert asked == {
        f"abcd{page // 2:04d}_{page % 2}": list(range(page, 40, PAGES)) for page in range(PAGES)
    }
    assert [colour(page) for page in pages] == list(range(PAGES))
    assert (account.rows.read, account.rows.kept, account.questions.kept) == (40, 40, 40)
    assert account.rows.balanced and account.questions.balanced


def test_ids_answers_types_document_and_page_are_kept(hub_copy: Path) -> None:
    pages, _ = read(docvqa(str(hub_copy)))
    page = pages[3]
    assert (page.id, page.doc_id, page.source, page.split) == (
        "abcd0001_1",
        "abcd0001",
        "docvqa",
        "train",
    )
    first = page.supervisions[0]
    assert (first.id, first.question, first.answers) == (
        "1003",
        "What is in line 3?",
        ("line 3", "the line"),
    )
    assert first.metadata == {
        "question_types": ["form", "layout"],
        "docId": 3,
        "ucsf_document_page_no": "1",
    }


def test_any_range_reads_the_pages_of_the_whole(hub_copy: Path) -> None:
    samples = docvqa(str(hub_copy))
    whole, _ = read(samples)
    source = pickle.loads(pickle.dumps(samples.source))
    for start in range(PAGES):
        for stop in range(start, PAGES + 1):
            assert list(source.read(start, stop, Account())) == whole[start:stop]


def test_the_pages_are_planned_without_reading_an_image(
    hub_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[str] = []
    read_columns = pq.ParquetFile.read

    def spy(file: pq.ParquetFile, columns: list[str]) -> pa.Table:
        asked_for.extend(columns)
        return read_columns(file, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read", spy)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    assert len(docvqa(str(hub_copy))) == PAGES
    assert asked_for and "image" not in asked_for


def test_other_json_files_in_a_copy_of_the_hub_do_not_mislead(hub_copy: Path) -> None:
    (hub_copy / "dataset_infos.json").write_text("{}")
    assert len(docvqa(str(hub_copy))) == PAGES


def test_the_same_layout_is_read_from_any_filesystem(hub_copy: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(hub_copy / "data"), "/docvqa-copy/data", recursive=True)
    try:
        assert read(docvqa("memory://docvqa-copy"))[0] == read(docvqa(str(hub_copy)))[0]
    finally:
        memory.rm("/docvqa-copy", recursive=True)


def test_the_answers_of_the_test_split_are_withheld_and_its_questions_kept(tmp_path: Path) -> None:
    rows = [row(question, answers=None, question_types=None) for question in range(9)]
    write_hub_layout(tmp_path, rows, "test")
    pages, account = read(docvqa(str(tmp_path), split="test"))
    assert sum(len(page.supervisions) for page in pages) == 9
    assert {supervision.answers for page in pages for supervision in page.supervisions} == {()}
    assert account.questions.balanced


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path: Path) -> None:
    rows = [row(question) for question in range(14)]
    rows[1] = row(1, image={"bytes": encoded(1)[:-20], "path": "1.png"})
    rows[2] = row(2, image={"bytes": b"GIF, honest", "path": "2.png"})
    rows[3] = row(3, image=None)
    rows[4] = row(4, question=" ")
    rows[5] = row(5, answers=[])
    write_hub_layout(tmp_path, rows)
    pages, account = read(docvqa(str(tmp_path)))
    assert [colour(page) for page in pages] == [0, 4, 5, 6]
    assert account.questions.dropped == {
        "image damaged": 4,
        "image missing": 2,
        "empty question": 1,
        "empty answer": 1,
    }
    assert account.rows.dropped == account.questions.dropped
    assert account.rows.balanced and account.questions.balanced


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_an_image_cut_short_anywhere_is_dropped_as_pillow_would_refuse_it(
    tmp_path: Path, format: str
) -> None:
    noise = PIL.Image.effect_noise((60, 60), 80).convert("RGB")
    data = io.BytesIO()
    noise.save(data, format)
    whole = data.getvalue()
    cuts = [*range(0, len(whole), max(1, len(whole) // 40)), len(whole)]
    rows = []
    for number, cut in enumerate(cuts):
        cell = {"bytes": whole[:cut], "path": None}
        rows.append(row(number, image=cell, ucsf_document_id=f"cut{number:04d}"))
    write_hub_layout(tmp_path, rows)
    kept = {sample.doc_id for sample in docvqa(str(tmp_path))}

    def decodes(cut: int) -> bool:
        try:
            PIL.Image.open(io.BytesIO(whole[:cut])).load()
        except Exception:
            return False
        return True

    readable = {f"cut{number:04d}" for number, cut in enumerate(cuts) if decodes(cut)}
    assert kept <= readable
    assert readable - kept <= ({f"cut{len(cuts) - 2:04d}"} if format == "PNG" else set())
    assert f"cut{len(cuts) - 1:04d}" in kept


def test_pages_without_a_library_id_are_told_apart_by_their_document_number(
    tmp_path: Path,
) -> None:
    write_hub_layout(tmp_path, [row(question, ucsf_document_id=None) for question in range(9)])
    pages, _ = read(docvqa(str(tmp_path)))
    assert [page.id for page in pages] == [str(page) for page in range(PAGES)]


def test_sources_that_cannot_be_used_are_named_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such directory; a local copy of"):
        docvqa(str(tmp_path / "nowhere"))
    message = r"no parquet file of split 'train'; found no parquet file .*, or the competition's"
    with pytest.raises(InputError, match=message):
        docvqa(str(tmp_path))
    write_hub_layout(tmp_path, [row(0), row(1)])
    with pytest.raises(InputError, match=r"of split 'test'; found files of: train"):
        docvqa(str(tmp_path), split="test")
    broken = tmp_path / "data" / "train-00000-of-00002.parquet"
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"00000-of-00002.parquet: not a parquet file"):
        docvqa(str(tmp_path))
    pq.write_table(pa.table({"questionId": [1], "text": ["?"]}), broken)
    with pytest.raises(
        InputError, match=r"columns missing: question, .*; found: questionId, text; needed: "
    ):
        docvqa(str(tmp_path))


def test_the_hub_without_its_client_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "hf", raising=False)
    with pytest.raises(InputError, match=r"DocumentVQA: the hub extra is not installed"):
        docvqa("hub")


def competition_record(question: int) -> dict[str, Any]:
    record = row(question)
    page = record["docId"]
    return {**record, "image": f"documents/page_{page}.png", "data_split": "train"}


def write_competition(root: Path, records: list[dict[str, Any]], name: str) -> Path:
    (root / "qas").mkdir(parents=True, exist_ok=True)
    images = root / "spdocvqa_images"
    images.mkdir(exist_ok=True)
    for page in range(PAGES):
        (images / f"page_{page}.png").write_bytes(encoded(page))
    path = root / "qas" / name
    path.write_text(json.dumps({"dataset_split": "train", "data": records}))
    return path


def test_the_competitions_json_gives_the_same_pages_as_the_hubs_parquet(
    hub_copy: Path, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    records = [competition_record(question) for question in range(40)]
    write_competition(original, records, "train_v1.0_withQT.json")
    assert read(docvqa(str(original)))[0] == read(docvqa(str(hub_copy)))[0]


def test_the_competitions_json_may_leave_out_types_and_withheld_answers(tmp_path: Path) -> None:
    records = [competition_record(question) for question in range(9)]
    for record in records:
        del record["answers"], record["question_types"]
    path = write_competition(tmp_path, records, "test_v1.0.json")
    path.write_text(path.read_text().replace('"train", "data"', '"test", "data"'))
    pages, _ = read(docvqa(str(path), split="test", images=str(tmp_path / "spdocvqa_images")))
    assert len(pages) == PAGES
    assert pages[0].supervisions[0].answers == ()


def test_json_that_cannot_be_used_is_named_with_what_is_accepted(tmp_path: Path) -> None:
    path = write_competition(tmp_path, [competition_record(0)], "train_v1.0.json")
    with pytest.raises(InputError, match=r"holds split 'train'; 'test' was asked for"):
        docvqa(str(path), split="test")
    with pytest.raises(InputError, match=r"its images, such as page_0.png, are not in "):
        docvqa(str(path), images=str(tmp_path))
    path.write_text(json.dumps({"data": [{"questionId": 1, "image": "a.png"}]}))
    with pytest.raises(InputError, match=r"data\[0\] lacks question, docId.*found questionId"):
        docvqa(str(path))
    path.write_text('{"data": []}')
    with pytest.raises(InputError, match=r'"data" is empty'):
        docvqa(str(path))
    path.write_text("{")
    with pytest.raises(InputError, match=r"train_v1.0.json: not JSON"):
        docvqa(str(path))


def test_infographics_are_grouped_by_image_with_all_kinds_of_type(tmp_path: Path) -> None:
    records = [
        {
            "questionId": 60000 + question,
            "question": f"How many in part {question}?",
            "image_local_name": f"page_{question % 3}.png",
            "image_url": f"http://example.org/{question % 3}",
            "ocr_output_file": "0.json",
            "answers": [str(question)],
            "answer_type": ["single span"],
            "evidence": ["figure", ""],
            "operation/reasoning": ["counting"],
        }
        for question in range(8)
    ]
    write_competition(tmp_path, records, "infographicsVQA_train_v1.0_withQT.json")
    pages, account = read(infographicvqa(str(tmp_path)))
    assert [page.id for page in pages] == ["page_0", "page_1", "page_2"]
    assert [colour(page) for page in pages] == [0, 1, 2]
    assert [s.id for s in pages[1].supervisions] == ["60001", "60004", "60007"]
    assert pages[1].supervisions[0].metadata["question_types"] == [
        "single span",
        "figure",
        "counting",
    ]
    assert account.questions.balanced and account.rows.kept == 8
    with pytest.raises(InputError, match=r"no annotation file of split 'validation'"):
        infographicvqa(str(tmp_path), split="validation")
