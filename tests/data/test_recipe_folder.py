"""A person's own scans: a folder of images or PDFs, and a table of questions about them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.recipes import folder
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

RECORDS: list[dict[str, Any]] = [
    {"image": "scan 1.jpg", "question": "What is the total?", "answer": "33.90"},
    {"image": "scan 2.jpg", "question": "What is the total?", "answer": "12.00"},
    {"image": "scan 1.jpg", "question": "Which date?", "answer": "12-01-19"},
]


def scan(path: Path, colour: str) -> None:
    PIL.Image.new("RGB", (40, 60), colour).save(path)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    directory = tmp_path / "scans"
    directory.mkdir()
    scan(directory / "scan 1.jpg", "red")
    scan(directory / "scan 2.jpg", "blue")
    return directory


def write_csv(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = list(samples.source.read(0, len(samples), account))
    account.questions.kept = sum(len(page.supervisions) for page in pages)
    assert account.rows.balanced and account.questions.balanced
    return pages, account


def answers(page: Sample) -> dict[str, tuple[str, ...]]:
    return {s.question: s.answers for s in page.supervisions}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_about_one_file_become_one_page(scans: Path, suffix: str) -> None:
    path = scans / f"questions{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, RECORDS)))
    else:
        between = "," if suffix == ".csv" else "\t"
        lines = [between.join(r.values()) for r in RECORDS]
        write_csv(path, between.join(RECORDS[0]), *lines)
    pages, account = read(folder(str(scans)))
    assert [answers(page) for page in pages] == [
        {"What is the total?": ("33.90",), "Which date?": ("12-01-19",)},
        {"What is the total?": ("12.00",)},
    ]
    assert [page.image.read() for page in pages] == [
        (scans / "scan 1.jpg").read_bytes(),
        (scans / "scan 2.jpg").read_bytes(),
    ]
    assert [page.doc_id for page in pages] == ["scan 1.jpg", "scan 2.jpg"]
    assert account.rows.kept == 3


def test_ids_are_short_ascii_without_dots_unique_and_the_same_every_time(scans: Path) -> None:
    names = ["scan 1.jpg", "scan-1.jpg", "scan_1.png", "Bücher/Seite 9.png", "x" * 200 + ".png"]
    (scans / "Bücher").mkdir()
    for name in names:
        scan(scans / name, "red")
    table = write_csv(scans / "t.csv", "image,question,answer", *(f"{n},q,a" for n in names))
    ids = [page.id for page in folder(str(scans), table)]
    assert len(set(ids)) == len(names)
    assert all(i.isascii() and len(i) <= 80 and not set(i) & set("./ ") for i in ids)
    reversed_table = write_csv(
        scans / "t.csv", "image,question,answer", *(f"{n},q,a" for n in names[::-1])
    )
    assert [page.id for page in folder(str(scans), reversed_table)] == ids[::-1]


def test_columns_are_mapped_by_name(scans: Path) -> None:
    table = write_csv(
        scans.parent / "t.csv",
        "nr,file,frage,antwort,art,akte",
        "7,scan 1.jpg,Summe?,33.90|33.9,table,A",
        "8,scan 2.jpg,Summe?,12.00,table,A",
    )
    pages, _ = read(
        folder(
            str(scans),
            table,
            image_column="file",
            question_column="frage",
            answer_column="antwort",
            answer_separator="|",
            id_column="nr",
            document_column="akte",
            type_column="art",
            name="receipts",
            split="validation",
        )
    )
    first = pages[0].supervisions[0]
    assert (first.id, first.question, first.answers) == ("7", "Summe?", ("33.90", "33.9"))
    assert first.metadata == {"question_types": ["table"]}
    assert [(p.doc_id, p.source, p.split) for p in pages] == [("A", "receipts", "validation")] * 2


def test_a_list_of_answers_needs_no_separator(scans: Path) -> None:
    record = {**RECORDS[0], "answer": ["33.90", "RM 33.90", ""]}
    (scans / "t.jsonl").write_text(json.dumps(record))
    [page] = folder(str(scans))
    assert page.supervisions[0].answers == ("33.90", "RM 33.90")


def test_without_a_separator_a_cell_is_one_answer(scans: Path) -> None:
    table = write_csv(scans / "t.csv", "image,question,answer", 'scan 1.jpg,q,"a|b, c"')
    assert next(iter(folder(str(scans), table))).supervisions[0].answers == ("a|b, c",)


def test_a_spreadsheet_of_one_scan_a_row_is_asked_by_column(scans: Path) -> None:
    table = write_csv(
        scans / "t.csv", "file;total;date", "scan 1.jpg;33,90;12-01-19", "scan 2.jpg;12,00;"
    )
    pages, account = read(
        folder(
            str(scans),
            table,
            image_column="file",
            ask=("total=What is the total?", "date=What is the date?"),
        )
    )
    assert [answers(page) for page in pages] == [
        {"What is the total?": ("33,90",), "What is the date?": ("12-01-19",)},
        {"What is the total?": ("12,00",)},
    ]
    assert pages[0].supervisions[0].metadata == {"question_types": ["total"]}
    assert account.questions.dropped == {"empty answer": 1}
    with pytest.raises(InputError, match=r"'total'; expected COLUMN=QUESTION"):
        folder(str(scans), table, image_column="file", ask=("total",))


def test_questions_without_answers_are_for_prediction(scans: Path) -> None:
    table = write_csv(scans / "t.csv", "image,question", "scan 1.jpg,What is the total?")
    [page] = folder(str(scans), table, answer_column=None)
    assert page.supervisions[0].answers == ()


def test_a_byte_order_mark_and_line_breaks_in_cells_are_read_as_excel_writes_them(
    scans: Path,
) -> None:
    (scans / "t.csv").write_bytes(
        '\ufeffimage,question,answer\r\nscan 1.jpg,"Which\r\naddress?",Köln\r\n'.encode()
    )
    [page] = folder(str(scans))
    assert answers(page) == {"Which\naddress?": ("Köln",)}


def write_pdf(path: Path, colours: list[str]) -> None:
    pages = [PIL.Image.new("RGB", (144, 288), colour) for colour in colours]
    pages[0].save(path, "PDF", resolution=72, save_all=True, append_images=pages[1:])


def test_pdf_pages_are_rendered_at_the_resolution_asked_for(scans: Path) -> None:
    pytest.importorskip("pypdfium2")
    write_pdf(scans / "letter.pdf", ["red", "blue"])
    table = write_csv(
        scans / "t.csv",
        "image,page,question,answer",
        "letter.pdf,2,Which colour?,blue",
        "letter.pdf,1,Which colour?,red",
        "scan 2.jpg,,Which colour?,blue",
    )
    pages, _ = read(folder(str(scans), table, page_column="page", pdf_dpi=36))
    assert [(page.image.width, page.image.height) for page in pages] == [
        (72, 144),
        (72, 144),
        (40, 60),
    ]
    colours = [
        PIL.Image.open(io.BytesIO(page.image.read())).convert("RGB").getpixel((9, 9))
        for page in pages[:2]
    ]
    assert [max(range(3), key=colour.__getitem__) for colour in colours] == [2, 0]
    assert [page.doc_id for page in pages[:2]] == ["letter.pdf"] * 2


def test_files_that_cannot_be_used_are_dropped_with_their_reason(scans: Path) -> None:
    pytest.importorskip("pypdfium2")
    write_pdf(scans / "two.pdf", ["red", "blue"])
    (scans / "no.pdf").write_bytes(b"%PDF-1.7 no")
    (scans / "cut.jpg").write_bytes((scans / "scan 1.jpg").read_bytes()[:-40])
    cells = [
        "scan 1.jpg,,q,a",
        "two.pdf,,q,a",
        "two.pdf,3,q,a",
        "two.pdf,ii,q,a",
        "no.pdf,,q,a",
        "cut.jpg,,q,a",
        "gone.jpg,,q,a",
        "gone.pdf,,q,a",
        ",,q,a",
        "scan 2.jpg,,,a",
        "scan 2.jpg,,q,",
    ]
    table = write_csv(scans / "t.csv", "image,page,question,answer", *cells)
    pages, account = read(folder(str(scans), table, page_column="page"))
    assert [page.doc_id for page in pages] == ["scan 1.jpg"]
    assert account.rows.dropped == {
        "PDF of several pages without a page number": 1,
        "no such page in the PDF": 1,
        "page number that is none": 1,
        "PDF damaged or locked": 1,
        "image damaged": 1,
        "image missing": 3,
        "empty question": 1,
        "empty answer": 1,
    }


def test_pdf_files_without_the_renderer_are_one_clear_line(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    (scans / "new.pdf").write_bytes(b"%PDF")
    table = write_csv(scans / "t.csv", "image,question,answer", "new.pdf,q,a")
    with pytest.raises(InputError, match=r"new.pdf: PDF files need the pdf extra"):
        list(folder(str(scans), table))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "image,question\nscan 1.jpg,q\n",
            r"no column answer; found image, question; say",
        ),
        ("t.csv", "image,question,answer\nscan 1.jpg,q,a,b\n", r"t.csv: line 2: more cells than"),
        ("t.csv", "image,question,answer\n", r"t.csv: no rows"),
        ("t.csv", "image,question,answer\nscan1,q,a\n", r"none of the files .* 'scan1'; expected"),
        ("t.jsonl", '{"image": "scan 1.jpg"}\n{"image"\n', r"t.jsonl: line 2: not JSON"),
        ("t.jsonl", '"scan 1.jpg"\n', r"t.jsonl: line 1: expected an object"),
        ("t.xlsx", "PK", r"t.xlsx: a table in .csv, .* save a spreadsheet as CSV"),
        ("t.parquet", "PAR1", r"t.parquet: not a parquet file"),
    ],
)
def test_tables_that_cannot_be_used_are_named_with_what_is_accepted(
    scans: Path, name: str, content: str, message: str
) -> None:
    (scans / name).write_text(content)
    with pytest.raises(InputError, match=message):
        folder(str(scans), str(scans / name))


def test_folders_that_cannot_be_used_are_named_with_what_is_accepted(scans: Path) -> None:
    with pytest.raises(InputError, match=r"no such directory; expected the folder of the images"):
        folder(str(scans / "gone"))
    with pytest.raises(InputError, match=r"one table of questions is expected .* found none"):
        folder(str(scans))
    with pytest.raises(InputError, match=r"gone.csv: cannot be read \(No such file"):
        folder(str(scans), str(scans / "gone.csv"))
    (scans / "a.csv").write_bytes("image,question,answer\nx,ä,ö\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a.csv: not UTF-8 at byte 24; save it as UTF-8"):
        folder(str(scans))
    write_csv(scans / "b.csv", "image")
    with pytest.raises(InputError, match=r"found a.csv, b.csv; accepted are"):
        folder(str(scans))


def test_a_table_that_embeds_images_is_refused(scans: Path) -> None:
    record = {**RECORDS[0], "image": {"bytes": b"...", "path": "scan 1.jpg"}}
    pq.write_table(pa.Table.from_pylist([record]), scans / "t.parquet")
    with pytest.raises(InputError, match=r"column image holds images"):
        folder(str(scans))
