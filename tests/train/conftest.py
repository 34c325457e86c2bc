"""Small pages with questions, and a shard set of them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest

from florence_data import Image, Sample, SampleSet, Supervision
from florence_data.shard_writer import ShardWriter
from florence_train import TrainConfig

FACTS = {
    "What is the total?": lambda rng: f"${rng.randint(1, 999)}.{rng.randint(10, 99)}",
    "What is the date?": lambda rng: f"{rng.randint(1, 28)}/{rng.randint(1, 12)}/1993",
    "Who signed?": lambda rng: "".join(rng.choices(["ka", "lo", "mi", "ter"], k=3)).title(),
    "Which number?": lambda rng: str(rng.randint(10**5, 10**6)),
}


def page(index: int, questions: int = 4) -> Sample:
    """A page of 320 x 416 pixels that states some facts, with a question for each."""
    rng = random.Random(index)
    picture = PIL.Image.new("RGB", (320, 416), "white")
    draw = PIL.ImageDraw.Draw(picture)
    supervisions = []
    for line, (question, fact) in enumerate(list(FACTS.items())[:questions]):
        answer = fact(rng)
        draw.text((10 + rng.randint(0, 90), 30 + 95 * line), answer, fill="black", font_size=32)
        supervisions.append(Supervision(id=f"{index}-{line}", question=question, answers=(answer,)))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=90)
    return Sample(
        id=f"page-{index:03}",
        source="test",
        split="train",
        doc_id=f"document-{index:03}",
        image=Image.from_bytes(encoded.getvalue(), f"page {index}"),
        supervisions=tuple(supervisions),
    )


@pytest.fixture(scope="session")
def write_shards() -> Callable[[Path, list[Sample]], Path]:
    """A function that writes a shard set of some pages."""

    def write(directory: Path, pages: list[Sample]) -> Path:
        with ShardWriter(directory) as writer:
            for sample in pages:
                writer.write(sample)
        return directory

    return write


@pytest.fixture(scope="session")
def pages() -> list[Sample]:
    """Eight pages with one to four questions."""
    return [page(index, questions=1 + index % 4) for index in range(8)]


@pytest.fixture(scope="session")
def shards(
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The eight pages as a shard set."""
    return write_shards(tmp_path_factory.mktemp("shards") / "set", pages)


@pytest.fixture(scope="session")
def samples(shards: Path) -> SampleSet:
    """The shard set, opened."""
    return SampleSet.from_shards(shards)


@pytest.fixture
def config(shards: Path, tmp_path: Path) -> TrainConfig:
    """A few steps of the tiny model on the eight pages, every one logged."""
    return TrainConfig(
        data=(str(shards),),
        out=str(tmp_path / "run"),
        model="tiny",
        lr=1e-3,
        epochs=10,
        max_steps=8,
        batch_size=8,
        log_every=1,
        save_every=2,
        workers=0,
    )
