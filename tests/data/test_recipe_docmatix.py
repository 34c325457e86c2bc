"""Docmatix: documents of several pages, whose questions do not say which page they are about."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from florence_data.account import Account
from florence_data.recipes import docmatix
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

COLOURS = ("red", "lime", "blue")


def encoded(colour: str) -> bytes:
    data = io.BytesIO()
    PIL.Image.new("RGB", (20, 30), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def copy(tmp_path: Path) -> str:
    """Three documents, of one page, two and three."""
    rows = [
        {
            "images": [{"bytes": encoded(colour), "path": None} for colour in COLOURS[:pages]],
            "texts": [
                {
                    "user": f"Q{pages}.{number}?",
                    "assistant": "It is.",
                    "source": f"PDF key: {pages}",
                }
                for number in range(pages)
            ],
        }
        for pages in (1, 2, 3)
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train-00000-of-00001.parquet")
    return str(tmp_path)


def read(samples: SampleSet) -> tuple[list[Sample], Account]:
    account = Account()
    pages = list(samples.source.read(0, len(samples), account))
    account.questions.kept = sum(len(page.supervisions) for page in pages)
    assert account.rows.balanced and account.questions.balanced
    return pages, account


def test_only_documents_of_one_page_are_sure_to_show_the_answer(copy: str) -> None:
    [page], account = read(docmatix(copy))
    assert account.rows.dropped == {"row with several images": 2}
    assert account.questions.dropped == {"row with several images": 5}
    assert (page.id, page.source, page.image.read()) == (
        "docmatix_0000000",
        "docmatix",
        encoded("red"),
    )
    [supervision] = page.supervisions
    assert (supervision.question, supervision.answers) == ("Q1.0?", ("It is.",))
    assert supervision.metadata == {"source": "PDF key: 1"}


def test_first_keeps_every_question_with_the_first_page(copy: str) -> None:
    pages, account = read(docmatix(copy, pages="first"))
    assert [page.image.read() for page in pages] == [encoded("red")] * 3
    assert account.questions.kept == 6


def test_stitch_puts_the_pages_side_by_side_in_order(copy: str) -> None:
    pages, _ = read(docmatix(copy, pages="stitch"))
    assert [(page.image.width, page.image.height) for page in pages] == [
        (20, 30),
        (56, 30),
        (92, 30),
    ]
    picture = PIL.Image.open(io.BytesIO(pages[2].image.read()))
    assert [picture.getpixel((x, 5)) for x in (0, 36, 72)] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


def test_long_answers_are_dropped_and_counted(copy: str) -> None:
    pages, account = read(docmatix(copy, pages="first", max_target_tokens=1))
    assert not pages
    assert account.questions.dropped == {"answer over the token limit": 6}
    assert account.rows.dropped == {"no question left": 3}
