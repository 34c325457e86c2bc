"""InfographicVQA: questions about infographics, which need text, layout and some arithmetic.

Mathew, Bagal, Tito, Karatzas, Valveny and Jawahar, "InfographicVQA", WACV 2022. From
https://rrc.cvc.uab.es/?ch=17 (task 3), on the terms of the Robust Reading Competition: research,
after registration. Expected:

========== ========= ======
split      questions  pages
========== ========= ======
train         23,946  4,406
validation     2,801    500
test           3,288    579
========== ========= ======

The test split's answers are withheld.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from florence_data.errors import InputError
from florence_data.page_image import PageImage
from florence_data.question_table import Columns, QuestionPages, Records
from florence_data.rrc import find_annotations, find_image_directory, read_annotations
from florence_data.sample_set import SampleSet

QUESTION_TYPES = ("answer_type", "evidence", "operation/reasoning")
"""Lists of names in the files whose name ends in `_withQT`; empty names stand for none."""

COLUMNS = Columns(
    page=("page",),
    question="question",
    answers="answers",
    question_id="questionId",
    question_types="question_types",
    metadata=("image_url",),
)


def infographicvqa(
    source: str,
    split: Literal["train", "validation", "test"] = "train",
    images: str | None = None,
) -> SampleSet:
    """InfographicVQA: questions about infographics; one sample an image.

    Args:
        source: The directory or file of the competition's own JSON (infographicsVQA_*.json).
        split: Which split; the answers of `test` are withheld.
        images: The folder of the images, if it is not beside the file.
    """
    annotations = find_annotations(source, split)
    if annotations is None:
        raise InputError(
            f"{source}: no annotation file of split {split!r}; expected infographicsVQA_*.json in "
            "it or in a folder of it"
        )
    records = read_annotations(annotations, split, ("questionId", "question", "image_local_name"))
    table = Records(
        [
            {
                **record,
                "page": PurePosixPath(record["image_local_name"]).stem,
                "question_types": [
                    name for key in QUESTION_TYPES for name in record.get(key) or () if name
                ],
            }
            for record in records
        ]
    )
    names = [record["image_local_name"] for record in records]
    directory = find_image_directory(annotations, images, names)
    image = PageImage("image_local_name", directory)
    return SampleSet(
        QuestionPages.plan(
            table, COLUMNS, image, "infographicvqa", split, needs_answers=split != "test"
        )
    )
