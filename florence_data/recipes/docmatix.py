"""Docmatix: generated questions about documents of one or more pages.

Laurençon, Marafioti, Sanh and Tronchon, "Building and better understanding vision-language models",
2024. From https://huggingface.co/datasets/HuggingFaceM4/Docmatix, MIT; 1.27 million documents with
9.5 million questions, written by a language model from the text of PDF files. A row holds the page
images of a document and its questions, and no question says which page it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from florence_data.conversation_table import COLUMNS, Conversations, Turn
from florence_data.drop import DropError
from florence_data.hub import find_parquet, resolve_source
from florence_data.parquet import ParquetRows
from florence_data.sample_set import SampleSet
from florence_data.target_length import TargetLimit

HUB_REPOSITORY = "HuggingFaceM4/Docmatix"


def docmatix(
    source: str = "hub",
    split: Literal["train", "test"] = "train",
    pages: Literal["single-page-only", "first", "stitch"] = "single-page-only",
    max_target_tokens: int = 256,
    tokenizer: str | None = None,
) -> SampleSet:
    """Docmatix: generated questions about documents of one or more pages; one sample a document.

    A question does not say which page it is about. Only with documents of one page is its answer
    sure to be on the image.

    Args:
        source: `hub`, or the directory or URL of a copy.
        split: The main set has only `train`.
        pages: Documents of several pages: skip them (`single-page-only`), keep the first page with
            all questions (many of which it does not answer: a model learns to guess), or stitch the
            pages side by side (every answer is there, in print that shrinks with each page).
        max_target_tokens: Drop longer answers; 0 keeps them.
        tokenizer: Count tokens with this tokenizer (a file, directory or name on the hub) instead
            of estimating one for three characters.
    """
    root = resolve_source(source, HUB_REPOSITORY)
    return SampleSet(
        Conversations(
            ParquetRows.open(find_parquet(root, split), COLUMNS),
            "docmatix",
            split,
            "skip" if pages == "single-page-only" else pages,
            ReadDocmatixTurn(TargetLimit(max_target_tokens, tokenizer)),
        )
    )


@dataclass(frozen=True)
class ReadDocmatixTurn:
    """Takes a turn as it is, and drops long answers."""

    limit: TargetLimit

    def __call__(self, cell: Mapping[str, Any]) -> Turn:
        turn = Turn(cell["user"] or "", cell["assistant"] or "", {"source": cell["source"]})
        if self.limit.exceeded_by(turn.answer):
            raise DropError("answer over the token limit")
        return turn
