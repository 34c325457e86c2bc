"""The Cauldron: fifty visual question sets in one form.

Laurençon, Tronchon, Cord and Sanh, "What matters when building vision-language models?", 2024. From
https://huggingface.co/datasets/HuggingFaceM4/the_cauldron, each subset under its source's licence;
1.88 million rows, all of them for training. Most subsets were merged on the image by their authors,
so each row becomes one sample and its turns the sample's supervisions; `dedup` merges what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from florence_data.conversation_table import COLUMNS, Conversations, MultiImage, Turn
from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.hub import find_parquet, list_directories, resolve_source
from florence_data.operators import Concatenated
from florence_data.parquet import ParquetRows
from florence_data.recipes.cauldron_formatting import GROUPS, SUBSETS, long_form, undo_formatting
from florence_data.sample_set import SampleSet
from florence_data.target_length import TargetLimit

HUB_REPOSITORY = "HuggingFaceM4/the_cauldron"


def cauldron(
    source: str = "hub",
    subsets: str = "docvqa-like",
    split: Literal["train"] = "train",
    multi_image: MultiImage = "skip",
    keep_formatting: bool = False,
    multiple_choice: Literal["text", "letter"] = "text",
    long_answers: Literal["drop", "keep"] = "drop",
    max_target_tokens: int = 256,
    tokenizer: str | None = None,
) -> SampleSet:
    """The Cauldron: fifty visual question sets in one form; one sample a row.

    Args:
        source: `hub`, or the directory or URL of a copy that holds SUBSET/*.parquet.
        subsets: Subsets and groups of them, separated by commas, or `all` that the source holds.
            Groups: docvqa-like, documents, charts, tables, captions, general, reasoning,
            multi-image, code.
        split: The Cauldron has only `train`.
        multi_image: A row of several images: skip it, take its first image (its questions may ask
            about the others), or stitch them side by side.
        keep_formatting: Keep the text as The Cauldron formatted it: lines that ask for brevity,
            final periods, multiple choice, lectures and derivations within it.
        multiple_choice: What to answer where choices are listed: a choice's text or its letter.
        long_answers: Answers that are HTML, TikZ, a chain of thought or a whole table.
        max_target_tokens: Drop longer answers; 0 keeps them.
        tokenizer: Count tokens with this tokenizer (a file, directory or name on the hub) instead
            of estimating one for three characters.
    """
    root = resolve_source(source, HUB_REPOSITORY)
    limit = TargetLimit(max_target_tokens, tokenizer)
    return SampleSet(
        Concatenated(
            tuple(
                Conversations(
                    ParquetRows.open(find_parquet(f"{root}/{name}", split), COLUMNS),
                    name,
                    split,
                    multi_image,
                    ReadCauldronTurn(name, keep_formatting, multiple_choice, long_answers, limit),
                )
                for name in _chosen_subsets(subsets, root)
            )
        )
    )


@dataclass(frozen=True)
class ReadCauldronTurn:
    """Undoes a subset's formatting and drops long answers."""

    subset: str
    keep_formatting: bool
    multiple_choice: Literal["text", "letter"]
    long_answers: Literal["drop", "keep"]
    limit: TargetLimit

    def __call__(self, cell: Mapping[str, Any]) -> Turn:
        turn = Turn(cell["user"] or "", cell["assistant"] or "", {"subset": self.subset})
        form = long_form(self.subset, turn.question)
        if form and self.long_answers == "drop":
            raise DropError(f"long answer: {form}")
        if not self.keep_formatting:
            turn = undo_formatting(self.subset, turn)
            if self.multiple_choice == "letter":
                turn = replace(turn, answer=turn.metadata.get("letter", turn.answer))
        if self.limit.exceeded_by(turn.answer):
            raise DropError("answer over the token limit")
        return turn


def _chosen_subsets(subsets: str, root: str) -> list[str]:
    present = list_directories(root)
    chosen: list[str] = []
    for name in filter(None, (name.strip() for name in subsets.split(","))):
        if name != "all" and name not in GROUPS and name not in SUBSETS and name not in present:
            raise InputError(
                f"{name!r} is no subset; found in {root}: {', '.join(present) or 'none'}; groups: "
                f"all, {', '.join(GROUPS)}"
            )
        chosen += present if name == "all" else GROUPS.get(name, (name,))
    if absent := [name for name in chosen if name not in present]:
        raise InputError(
            f"{root}: no subset {', '.join(absent)}; found {', '.join(present) or 'none'}"
        )
    if not chosen:
        raise InputError(f"{root}: no subset in it; expected SUBSET/*.parquet")
    return list(dict.fromkeys(chosen))
