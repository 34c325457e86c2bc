"""DocVQA: questions about single pages of industry documents.

Mathew, Karatzas and Jawahar, "DocVQA: A Dataset for VQA on Document Images", WACV 2021. From
https://rrc.cvc.uab.es/?ch=17 (task 1), on the terms of the Robust Reading Competition: research,
after registration. The hub has a copy in parquet. Expected:

========== ========= ======
split      questions  pages
========== ========= ======
train         39,463 10,194
validation     5,349  1,286
test           5,188  1,287
========== ========= ======

The test split's answers are withheld.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

import pyarrow.compute as pc

from florence_data.hub import find_parquet, resolve_source
from florence_data.page_image import PageImage
from florence_data.parquet import ParquetRows
from florence_data.question_table import Columns, QuestionPages, Records, Table
from florence_data.rrc import find_annotations, find_image_directory, read_annotations
from florence_data.sample_set import SampleSet

HUB_REPOSITORY = "HuggingFaceM4/DocumentVQA"

COLUMNS = Columns(
    page=("ucsf_document_id", "ucsf_document_page_no"),
    question="question",
    answers="answers",
    question_id="questionId",
    question_types="question_types",
    document="ucsf_document_id",
    metadata=("docId", "ucsf_document_page_no"),
)
REQUIRED = (
    "questionId",
    "question",
    "question_types",
    "image",
    "docId",
    "ucsf_document_id",
    "ucsf_document_page_no",
    "answers",
)
COLUMNS_WITHOUT_UCSF = replace(COLUMNS, page=("docId",), document="docId")
"""For copies in which some pages have no id in the UCSF library."""

OR_JSON = ", or the competition's train_*.json, val_*.json or test_*.json"

WITHHELD = ("answers", "question_types")
"""What the competition's JSON leaves out of some splits."""


def docvqa(
    source: str = "hub",
    split: Literal["train", "validation", "test"] = "train",
    images: str | None = None,
) -> SampleSet:
    """DocVQA: questions about single pages of industry documents; one sample a page.

    Args:
        source: `hub`, the directory or URL of a copy in parquet, or the directory or file of the
            competition's own JSON (train_v1.0_withQT.json and so on).
        split: Which split; the answers of `test` are withheld.
        images: For JSON: the folder of the images, if it is not beside the file.
    """
    table: Table
    annotations = None if source == "hub" or "://" in source else find_annotations(source, split)
    if annotations is None:
        root = resolve_source(source, HUB_REPOSITORY)
        table = ParquetRows.open(find_parquet(root, split, OR_JSON), REQUIRED)
        directory = ""
    else:
        required = [name for name in REQUIRED if name not in WITHHELD]
        records = read_annotations(annotations, split, required)
        table = Records(
            [{**record, "image": PurePosixPath(record["image"]).name} for record in records]
        )
        names = [record["image"] for record in table.rows]
        directory = find_image_directory(annotations, images, names)
    document_ids = table.column_texts(("ucsf_document_id",)).column(0)
    incomplete = pc.any(pc.equal(document_ids, "")).as_py()
    columns = COLUMNS_WITHOUT_UCSF if incomplete else COLUMNS
    image = PageImage("image", directory)
    return SampleSet(
        QuestionPages.plan(table, columns, image, "docvqa", split, needs_answers=split != "test")
    )
