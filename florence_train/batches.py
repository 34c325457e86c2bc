"""Batches: pages once, their questions grouped.

A plan says which questions make up each step. It needs only the numbers of questions, so step N of
epoch E is known without reading a page. Collating turns planned pages into tensors.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from florence_data import InputError, SampleSet
from florence_data.images import pixels
from florence_data.prompts import Example, PromptTemplate
from florence_train.feature_cache import FeatureCache
from florence_train.text import TextEncoder

IGNORED = -100
"""The only label that the loss leaves out; `<pad>` is counted."""


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the questions of one page: its position in its set, theirs on the page, which set."""

    page: int
    questions: tuple[int, ...]
    data: int = 0


Groups = tuple[Group, ...]


def count_questions(groups: Iterable[Group]) -> int:
    """How many questions some groups have together."""
    return sum(len(group.questions) for group in groups)


def pack(groups: Iterable[Group], limit: int) -> list[Groups]:
    """Divide groups, in their order, into parts of at most `limit` questions.

    A page's questions stay together; only a group of more than `limit` is divided.
    """
    parts: list[list[Group]] = []
    room = 0
    for group in groups:
        for start in range(0, len(group.questions), limit):
            piece = replace(group, questions=group.questions[start : start + limit])
            if len(piece.questions) > room:
                parts.append([])
                room = limit
            parts[-1].append(piece)
            room -= len(piece.questions)
    return [tuple(part) for part in parts]


def pack_apart(groups: Iterable[Group], limit: int) -> list[Groups]:
    """Like `pack` for groups of at most `limit` questions, with no two of one page in a part.

    A group whose page is in the part already waits for the next one, so a part is smaller where
    only such groups are left.
    """
    waiting = deque(groups)
    parts: list[Groups] = []
    while waiting:
        part: dict[tuple[int, int], Group] = {}
        late: list[Group] = []
        room = limit
        while waiting:
            group = waiting[0]
            if (group.data, group.page) in part:
                late.append(waiting.popleft())
            elif len(group.questions) <= room:
                part[group.data, group.page] = waiting.popleft()
                room -= len(group.questions)
            else:
                break
        waiting.extendleft(reversed(late))
        parts.append(tuple(part.values()))
    return parts


@dataclass(frozen=True)
class Plan:
    """Which questions make up each step of a run; a function of its fields, so never stored.

    An epoch has as many groups as all sets together, shared out by `weights`; None leaves each set
    its own. A set with more than its share is drawn in part, one with less several times, in a
    seeded order of each of its own rounds: over the epochs its groups come equally often. With
    `page_questions`, no step has more questions of a page.
    """

    groups: tuple[tuple[Group, ...], ...]
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    page_questions: int | None = None

    def shares(self) -> list[int]:
        """How many groups of each set make an epoch, by largest remainder.

        Raises `InputError` for weights that leave a set none.
        """
        sizes = [len(groups) for groups in self.groups]
        if self.weights is None:
            return sizes
        exact = np.array(self.weights) / sum(self.weights) * sum(sizes)
        shares = np.floor(exact).astype(int)
        shares[np.argsort(shares - exact, kind="stable")[: sum(sizes) - shares.sum()]] += 1
        if not shares.all():
            raise InputError(
                f"weights is {self.weights}: of the {sum(sizes)} pages of an epoch, the sets get "
                f"{', '.join(map(str, shares))}; weights that give each set a page are accepted"
            )
        return [int(share) for share in shares]

    def epoch(self, epoch: int) -> list[Groups]:
        """The steps of an epoch, each of at most `batch_size` questions.

        Pages are kept together, so steps differ a little in size; gradients are weighted by target
        tokens. Raises what `shares` raises.
        """
        chosen = [
            self.groups[index][position]
            for index, share in enumerate(self.shares())
            for position in self._drawn(index, epoch * share, (epoch + 1) * share)
        ]
        limit = min(self.page_questions or self.batch_size, self.batch_size)
        pieces = [
            replace(group, questions=group.questions[start : start + limit])
            for group in chosen
            for start in range(0, len(group.questions), limit)
        ]
        order = np.random.default_rng((self.seed, epoch)).permutation(len(pieces))
        packed = pack if self.page_questions is None else pack_apart
        return packed((pieces[position] for position in order), self.batch_size)

    def _drawn(self, index: int, start: int, stop: int) -> list[int]:
        """Positions `start` to `stop` of a set's endless sequence of seeded rounds."""
        size = len(self.groups[index])
        drawn: list[int] = []
        while start < stop:
            round_, offset = divmod(start, size)
            order = np.random.default_rng((self.seed, index, round_, 1)).permutation(size)
            part = order[offset : offset + stop - start]
            drawn += part.tolist()
            start += len(part)
        return drawn


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of P pages and their Q questions.

    `pixels` float32 [P', 3, H, W] normalised, of the pages that are still to be encoded; `stored`
    bfloat16 [P - P', …], the features of the others, from a cache; `page` int64 [Q], the page of
    each question, those of `pixels` first; `prompts` and `prompt_mask` int64 [Q, L], padded;
    `labels` int64 [Q, T], `<s> answer </s>` and then -100; `examples` are the Q questions.
    """

    pixels: Tensor
    stored: Tensor | None
    page: Tensor
    prompts: Tensor
    prompt_mask: Tensor
    labels: Tensor
    examples: tuple[Example, ...]

    @property
    def images(self) -> list[str]:
        """The content hash of each page's image, in the order of `page`."""
        found = {int(p): e.image.sha256 for p, e in zip(self.page, self.examples, strict=True)}
        return [found[page] for page in sorted(found)]

    @property
    def question_tokens(self) -> Tensor:
        """How many labels of each question the loss counts, int64 [Q]."""
        return (self.labels != IGNORED).sum(dim=1)

    @property
    def target_tokens(self) -> int:
        """How many labels the loss counts."""
        return int(self.question_tokens.sum())

    def decoder_inputs(self, start: int, pad: int) -> Tensor:
        """The labels shifted right by one behind the decoder's start token, int64 [Q, T]."""
        shifted = torch.roll(self.labels, 1, dims=1)
        shifted[:, 0] = start
        return shifted.masked_fill(shifted == IGNORED, pad)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU copies from; the `DataLoader` calls it."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {n: move(v) if isinstance(v, Tensor) else v for n, v in values.items()}
        return Batch(**values)


@dataclass(frozen=True)
class Collator:
    """Turns examples, one group of them a page, into a `Batch`.

    Where the `cache` has a page's features, the page is not read. Of a target the first
    `max_target_tokens` become labels. A question with the `image_tokens` before it, and a target,
    are padded to a multiple of so many tokens. Raises `InputError` for an image that cannot be
    decoded or differs from what its sample recorded.
    """

    encoder: TextEncoder
    image_size: tuple[int, int]
    cache: FeatureCache | None = None
    max_target_tokens: int | None = None
    image_tokens: int = 0
    multiple: int = 1

    def __call__(self, groups: Sequence[Sequence[Example]]) -> Batch:
        features = [self._stored(group[0]) for group in groups]
        # Pages that are still to be encoded come first; the sort is stable.
        order = sorted(range(len(groups)), key=lambda page: features[page] is not None)
        stored = [row for page in order if (row := features[page]) is not None]
        examples = [example for page in order for example in groups[page]]
        prompts = [self.encoder.encode(example.prompt) for example in examples]
        targets = [self.encoder.encode(example.target) for example in examples]
        labels = [target[: self.max_target_tokens] for target in targets]
        width, height = self.image_size
        fresh = [self._pixels(groups[page][0]) for page in order if features[page] is None]
        pixels = np.stack(fresh) if fresh else np.empty((0, 3, height, width), np.float32)
        return Batch(
            pixels=torch.from_numpy(pixels),
            stored=torch.stack(stored) if stored else None,
            page=torch.tensor([at for at, page in enumerate(order) for _ in groups[page]]),
            prompts=self._padded(prompts, self.encoder.pad, behind=self.image_tokens),
            prompt_mask=self._padded([[1] * len(p) for p in prompts], 0, behind=self.image_tokens),
            labels=self._padded(labels, IGNORED),
            examples=tuple(examples),
        )

    def _padded(self, rows: Sequence[Sequence[int]], fill: int, behind: int = 0) -> Tensor:
        length = behind + max(len(row) for row in rows)
        width = -(-length // self.multiple) * self.multiple - behind
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

    def _stored(self, example: Example) -> Tensor | None:
        return self.cache.get(example.image.sha256) if self.cache is not None else None

    def _pixels(self, example: Example) -> NDArray[np.float32]:
        location = example.image.location
        where = f"{location.path}, " if location is not None else ""
        name = f"{where}sample {example.sample.id}"
        data = example.image.read()
        # A JPEG with damage inside decodes to another page. Hashing takes 0.2 ms of 16 (a scan of
        # 390 kB), and lets other threads run.
        if hashlib.sha256(data).hexdigest() != example.image.sha256:
            raise InputError(
                f"{name}: damaged, the SHA-256 of its image differs from the recorded one; a shard "
                "as it was written is accepted (make_shards.py check finds what else is damaged)"
            )
        return pixels(data, size=self.image_size, name=name)


@dataclass(frozen=True)
class PageReader:
    """Reads the pages of some sets as batches, for a model and a template.

    A question is shortened where its prompt has more than `max_prompt_tokens`. `workers` processes
    read ahead; 0 reads in this process.
    """

    sets: tuple[SampleSet, ...]
    template: PromptTemplate
    collate: Collator
    max_prompt_tokens: int
    workers: int

    def batches(self, plan: Sequence[Groups]) -> Iterator[Batch]:
        """The batches of a plan in its order. Raises `InputError` for a page it cannot use."""
        loader = DataLoader(
            _PlannedBatches(self, plan),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            # The loader draws a seed for its workers, which must not come out of the model's.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def batch(self, groups: Groups) -> Batch:
        """One batch, read here and now."""
        return self.collate([self._examples(group) for group in groups])

    def _examples(self, group: Group) -> list[Example]:
        sample = self.sets[group.data][group.page]
        examples = [self.template.example(sample, sample.supervisions[q]) for q in group.questions]
        count = self.collate.encoder.count
        return [self.template.fit(example, self.max_prompt_tokens, count) for example in examples]


@dataclass(frozen=True)
class _PlannedBatches(Dataset["Batch | InputError"]):
    """What worker processes read. An error is returned: raised, it would bring its traceback."""

    reader: PageReader
    plan: Sequence[Groups]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch | InputError:
        try:
            return self.reader.batch(self.plan[index])
        except InputError as error:
            return error
