"""What some shard sets offer to training: one pass over their texts, before the first step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from florence_data import InputError, SampleSet
from florence_data.prompts import PromptTemplate
from florence_train.batches import Group
from florence_train.text import TextEncoder


@dataclass(frozen=True)
class Survey:
    """The questions that can be used, and what is known of them without decoding a page.

    `groups` has a list for each set, with a page's usable questions to a group; `documents` has the
    same groups by (source, document id). `left_out` counts the other questions by reason,
    `shortened` those whose prompt is too long as it is. `longest` is the group with the longest
    target. `images` has the content hash of each page that has a usable question, by set and
    position.
    """

    groups: tuple[tuple[Group, ...], ...]
    documents: dict[tuple[str, str], list[Group]]
    left_out: Counter[str]
    shortened: int
    longest: Group
    images: dict[tuple[int, int], str]

    def images_of(self, groups: Iterable[Group]) -> set[str]:
        """The content hashes of the pages of some groups."""
        return {self.images[group.data, group.page] for group in groups}

    def notes(self, max_prompt_tokens: int) -> Iterator[str]:
        """A line for each way in which questions are not used as they are, with their number."""
        for reason, count in self.left_out.items():
            yield f"{count} questions left out: {reason}"
        if self.shortened:
            yield f"{self.shortened} questions shortened to fit {max_prompt_tokens} tokens"

    def overlap(self, other: Survey) -> str | None:
        """A line that says how many documents and images two surveys share; None if none."""
        documents = len(self.documents.keys() & other.documents.keys())
        theirs = set(other.images.values())
        images = len(theirs & set(self.images.values()))
        if not documents and not images:
            return None
        return (
            f"{documents} of the {len(other.documents)} documents to evaluate on and {images} of "
            f"their {len(theirs)} images are also trained on"
        )


def survey(
    sets: Sequence[SampleSet],
    names: Sequence[str],
    template: PromptTemplate,
    encoder: TextEncoder,
    max_prompt_tokens: int,
    max_target_tokens: int | None = None,
) -> Survey:
    """Read the texts of the sets once; `names` stand for them in error messages.

    Questions without an answer, and with one of more than `max_target_tokens` if that is given,
    `<s>` and `</s>` included, are left out and counted. Raises `InputError` if a set has no other.
    """
    left_out: Counter[str] = Counter()
    groups: list[tuple[Group, ...]] = []
    documents: dict[tuple[str, str], list[Group]] = {}
    images: dict[tuple[int, int], str] = {}
    shortened, longest = 0, (0, Group(0, ()))
    for index, (samples, name) in enumerate(zip(sets, names, strict=True)):
        found, reasons = [], Counter[str]()
        for page, sample in enumerate(samples.texts()):
            questions, most = [], 0
            for number, example in enumerate(template.examples(sample)):
                tokens = encoder.count(example.target)
                if not any(example.target):
                    reasons["no answer"] += 1
                elif max_target_tokens is not None and tokens > max_target_tokens:
                    reasons[f"an answer of more than {max_target_tokens} tokens"] += 1
                else:
                    questions.append(number)
                    shortened += encoder.count(example.prompt) > max_prompt_tokens
                    most = max(most, tokens)
            if questions:
                group = Group(page, tuple(questions), index)
                found.append(group)
                images[index, page] = sample.image.sha256
                documents.setdefault((sample.source, sample.doc_id), []).append(group)
                longest = max(longest, (most, group), key=lambda pair: pair[0])
        if not found:
            why = ", ".join(f"{n} with {reason}" for reason, n in reasons.items())
            raise InputError(
                f"{name}: no question to use, found {why or 'none at all'}; questions with an "
                "answer are needed, in training one within --max-target-tokens"
            )
        left_out += reasons
        groups.append(tuple(found))
    return Survey(tuple(groups), documents, left_out, shortened, longest[1], images)


def set_fingerprints(sets: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each shard set's description, which holds the checksums of all of it."""
    return {
        path: hashlib.sha256((Path(path) / "dataset.json").read_bytes()).hexdigest()
        for path in sets
        if (Path(path) / "dataset.json").is_file()
    }
