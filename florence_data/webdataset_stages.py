"""Our decoding and templating as stages of a `webdataset` pipeline.

For those who live in webdataset: each stage is a function from an iterator to an iterator, so that
it fits `WebDataset(...).compose(stage)`. None of them imports webdataset::

    dataset = (
        webdataset.WebDataset("shards/train-{000000..000025}.tar", shardshuffle=100)
        .compose(to_samples)
        .shuffle(1000)
        .compose(functools.partial(to_examples, template=prompt_template("docvqa")))
        .compose(functools.partial(with_pixels, size=(768, 768)))
    )
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from florence_data.errors import InputError
from florence_data.images import MODEL_SIZE, pixels
from florence_data.prompts import Example, PromptTemplate
from florence_data.sample import Sample
from florence_data.shard_format import SUFFIXES


def to_samples(members: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    """From webdataset's undecoded dictionaries of one sample's members to samples.

    Raises `InputError` for one without a `json` or an image.
    """
    for sample in members:
        name = f"{sample.get('__url__', 'tar')}, {sample['__key__']}"
        data = next((sample[suffix] for suffix in SUFFIXES.values() if suffix in sample), None)
        if data is None or "json" not in sample:
            found = ", ".join(key for key in sample if not key.startswith("__"))
            raise InputError(
                f"{name}: members {found}; expected json and one of {', '.join(SUFFIXES.values())}"
            )
        described = Sample.from_json(sample["json"], name)
        yield replace(described, image=replace(described.image, data=data))


def to_examples(samples: Iterable[Sample], template: PromptTemplate) -> Iterator[Example]:
    """From samples to one example a question. Raises what the template raises."""
    for sample in samples:
        yield from template.examples(sample)


def with_pixels(
    examples: Iterable[Example], size: tuple[int, int] = MODEL_SIZE
) -> Iterator[tuple[NDArray[np.float32], Example]]:
    """Each example with its page as the model reads it, float32 [3, height, width].

    Examples of one page that follow each other share the same array; it is decoded once.
    """
    digest, values = "", np.empty(0, np.float32)
    for example in examples:
        if example.image.sha256 != digest:
            values = pixels(example.image.read(), size, f"sample {example.sample.id}")
            digest = example.image.sha256
        yield values, example
