"""Prompt templates: from a supervision to what a Florence-2 model reads and is taught to write.

The released checkpoints were not taught to answer questions, so how a question is put to them is a
choice, and that choice is a template. The tasks they were taught have their own sentences
(`florence_data.prompts.tasks`), whatever the template.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from re import finditer
from typing import Literal, get_args

from florence_data.errors import InputError
from florence_data.prompts.tasks import QUESTION, TASKS, TEXT, Task, find_task
from florence_data.prompts.text import Text
from florence_data.sample import Image, Sample, Supervision

ReferenceChoice = Literal["first", "random", "most-common"]


@dataclass(frozen=True, slots=True)
class Example:
    """One (image, prompt, target, references) after templating.

    `target` is what training teaches; it is empty where the supervision has no answer. `references`
    are what an evaluation compares with. `shortened` says that the question was cut to fit.
    """

    image: Image
    prompt: Text
    target: Text
    references: tuple[str, ...]
    sample: Sample
    supervision: Supervision
    shortened: bool = False


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """How a question is put to the model: `format` with the question in place of `{question}`.

    The name is recorded with a run; a model trained with one template refuses another. A template
    without `{question}` would teach a model to answer without reading the question, and is refused.

    `reference` chooses the answer that is taught where there are several: the `first`, a `random`
    one (always the same for the same `seed`, sample and supervision), or the `most-common`, case
    and spacing aside (the first of those equally common).
    """

    name: str
    format: str
    reference: ReferenceChoice = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.format.count(QUESTION) != 1:
            raise InputError(
                f"prompt template {self.format!r}: {QUESTION} stands in it "
                f"{self.format.count(QUESTION)} times; exactly once is accepted, or the question "
                "would not reach the model"
            )
        if self.reference not in get_args(ReferenceChoice):
            raise InputError(
                f"choice of reference {self.reference!r} is unknown; "
                f"known: {', '.join(get_args(ReferenceChoice))}"
            )

    def example(self, sample: Sample, supervision: Supervision) -> Example:
        """Apply the template, or the task's own sentence where the task is not `vqa`.

        Raises `InputError` for an unknown task and for a supervision that lacks what its task
        needs, such as a question or a box.
        """
        task = self._task(supervision)
        try:
            prompt = task.prompt_text(sample.image, supervision, supervision.question.strip())
            target = task.target_text(
                sample.image, supervision, self._reference(sample, supervision)
            )
        except InputError as error:
            raise _at(sample, supervision, error) from None
        return Example(
            image=sample.image,
            prompt=prompt,
            target=target,
            references=supervision.answers,
            sample=sample,
            supervision=supervision,
        )

    def examples(self, sample: Sample) -> Iterator[Example]:
        """The examples of one page, in the order of its supervisions."""
        for supervision in sample.supervisions:
            yield self.example(sample, supervision)

    def fit(self, example: Example, limit: int, count_tokens: Callable[[Text], int]) -> Example:
        """The example, with its question shortened if its prompt has more than `limit` tokens.

        `count_tokens` is the length of a prompt as the model's tokenizer makes it. The question
        loses words at its end, as few as will do, and characters where its first word alone is too
        long; all else of the prompt stays. Returns the same object if nothing had to go. Raises
        `InputError` if not even one character of the question fits.
        """
        if count_tokens(example.prompt) <= limit:
            return example
        question = example.supervision.question.strip()
        task = self._task(example.supervision)

        def prompt(end: int) -> Text:
            return task.prompt_text(example.image, example.supervision, question[:end])

        def length(end: int) -> int:
            return count_tokens(prompt(end))

        word_ends = [match.end() for match in finditer(r"\S+", question)]
        for ends in (word_ends, range(1, len(question))):
            if fitting := bisect_right(ends, limit, key=length):
                return replace(example, prompt=prompt(ends[fitting - 1]), shortened=True)
        raise _at(
            example.sample,
            example.supervision,
            InputError(f"the prompt without its question already fills the {limit} tokens allowed"),
        )

    def _task(self, supervision: Supervision) -> Task:
        if supervision.task == "vqa":
            return Task("vqa", self.format, TEXT)
        return find_task(supervision.task)

    def _reference(self, sample: Sample, supervision: Supervision) -> str:
        answers = supervision.answers
        if len(answers) < 2 or self.reference == "first":
            return answers[0] if answers else ""
        if self.reference == "random":
            return random.Random(f"{self.seed} {sample.id} {supervision.id}").choice(answers)
        folded = [" ".join(answer.casefold().split()) for answer in answers]
        return answers[folded.index(Counter(folded).most_common(1)[0][0])]


def _at(sample: Sample, supervision: Supervision, error: InputError) -> InputError:
    return InputError(f"sample {sample.id}, supervision {supervision.id}: {error}")


_REGION_DESCRIPTION = TASKS["region_to_description"].prompt.replace("{region}", QUESTION)

TEMPLATES = {
    template.name: template
    for template in (
        PromptTemplate("docvqa", "<DocVQA>{question}"),
        PromptTemplate("vqa", "<VQA>{question}"),
        PromptTemplate("region", _REGION_DESCRIPTION),
    )
}
"""`docvqa` is the prefix of huggingface.co/blog/finetune-florence2; `region` asks as if for the
description of a region, the best of what that post tried before training."""


def prompt_template(
    name: str, *, reference: ReferenceChoice = "first", seed: int = 0
) -> PromptTemplate:
    """The template of that name, or one made from a format string such as `<Ask>{question}`.

    A template made from a format string is named by the string. Raises `InputError` for an unknown
    name and for a format string that leaves the question out.
    """
    if name in TEMPLATES:
        return replace(TEMPLATES[name], reference=reference, seed=seed)
    if QUESTION not in name:
        raise InputError(
            f"prompt template {name!r} is unknown; known: {', '.join(TEMPLATES)}, "
            f"or a format string with {QUESTION} in it"
        )
    return PromptTemplate(name, name, reference, seed)
