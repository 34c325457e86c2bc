"""The tiny model learns its pages by heart: what a picture and a question say together.

All pages have the same questions, so that an answer must come from the picture. (Those of synthetic
documents name what is on their page: a model learns them without looking.)
"""

from __future__ import annotations

import io
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import PIL.Image
import PIL.ImageDraw
import pytest

from florence_data import Image, Sample, Supervision
from florence_eval import score
from florence_train import PredictConfig, TrainConfig, predict, train

QUESTIONS = ("What is the number?", "Who signed?", "Which account?", "What is the code?")

COLLAPSED = 10
"""ANLS of another question's answer: six random characters, some alike by chance."""

Write = Callable[[Path, list[Sample]], Path]


def documents(count: int, seed: int) -> list[Sample]:
    """Pages of 128 x 128 pixels with four codes, and the same four questions on each."""
    rng = random.Random(seed)
    return [document(number, rng) for number in range(count)]


def document(number: int, rng: random.Random) -> Sample:
    picture = PIL.Image.new("L", (128, 128), "white")
    pen = PIL.ImageDraw.Draw(picture)
    asked = []
    for line, question in enumerate(QUESTIONS):
        code = "".join(rng.choices(string.ascii_uppercase + string.digits, k=6))
        pen.text((rng.randint(2, 30), 4 + 31 * line), code, fill="black", font_size=24)
        asked.append(Supervision(id=f"{number}-{line}", question=question, answers=(code,)))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return Sample(
        id=f"page-{number}",
        source="codes",
        split="train",
        doc_id=f"page-{number}",
        image=Image.from_bytes(encoded.getvalue(), f"page {number}"),
        supervisions=tuple(asked),
    )


def reassigned(pages: list[Sample]) -> list[Sample]:
    """The same pages and questions; each question has the answers of one on another page."""
    answers = [asked.answers for page in pages for asked in page.supervisions]
    others: Iterator[tuple[str, ...]] = iter(answers[5:] + answers[:5])
    return [
        msgspec.structs.replace(
            page,
            supervisions=tuple(
                msgspec.structs.replace(asked, answers=next(others)) for asked in page.supervisions
            ),
        )
        for page in pages
    ]


def exchanged(pages: list[Sample]) -> list[Sample]:
    """The same questions and answers; each page has the picture of another one."""
    images = [page.image for page in pages[1:] + pages[:1]]
    return [
        msgspec.structs.replace(page, image=image)
        for page, image in zip(pages, images, strict=True)
    ]


def trained(shards: Path, out: Path, seed: int, steps: int) -> Path:
    """A run of the tiny model, every question in every step."""
    train(
        TrainConfig(
            data=(str(shards),),
            out=str(out),
            model="tiny",
            epochs=steps,
            max_steps=steps,
            batch_size=64,
            lr=1e-3,
            beta2=0.98,
            warmup_steps=30,
            workers=0,
            seed=seed,
        )
    )
    return out


def anls(run: Path, shards: Path) -> float:
    """The official score of a run's model on a shard set, in percent."""
    out = run / f"{shards.name}.jsonl"
    predict(PredictConfig(model=str(run), data=str(shards), out=str(out), workers=0))
    return 100 * float(score(out).summary["metrics"]["anls"]["mean"])


@pytest.fixture(scope="module")
def sets(write_shards: Write, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages as they are, with answers of other questions, and with pictures of other pages."""
    folder = tmp_path_factory.mktemp("sets")
    pages = documents(8, seed=1)
    return {
        "right": write_shards(folder / "right", pages),
        "reassigned": write_shards(folder / "reassigned", reassigned(pages)),
        "exchanged": write_shards(folder / "exchanged", exchanged(pages)),
    }


@pytest.fixture(scope="module")
def run(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(sets["right"], tmp_path_factory.mktemp("runs") / "right", seed=0, steps=90)


def test_the_tiny_model_learns_its_pages(run: Path, sets: dict[str, Path]) -> None:
    assert anls(run, sets["right"]) >= 99


def test_what_it_learnt_hangs_on_the_picture(run: Path, sets: dict[str, Path]) -> None:
    assert anls(run, sets["exchanged"]) < COLLAPSED


def test_trained_with_shuffled_questions_its_score_collapses(
    sets: dict[str, Path], tmp_path: Path
) -> None:
    """Not because it learnt nothing: it learnt what it was told."""
    run = trained(sets["reassigned"], tmp_path / "run", seed=0, steps=90)
    assert anls(run, sets["reassigned"]) >= 90
    assert anls(run, sets["right"]) < COLLAPSED


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_every_seed_learns_sixteen_pages(seed: int, write_shards: Write, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", documents(16, seed))
    assert anls(trained(shards, tmp_path / "run", seed, steps=200), shards) >= 99
