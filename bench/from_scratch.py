"""A small Florence-2 from random weights, asked about documents that it has never seen.

    OMP_NUM_THREADS=1 nice -n 15 python bench/from_scratch.py

A document has rows of a label and digits, a glyph in each cell of 32 x 32 pixels, which is what the
tower makes one token of: drawn in the faces of this machine at 20 to 26 pixels, moved by up to 3. A
question names a label, its answer is the row's digits. Every document is new, in training too, so
that nothing can be learnt by heart.

First the untrained model is looked at: do the features of pages differ, can a linear probe on them
read a digit, do gradients reach the tower? Then it is trained in two ways, with the trainer's
forward pass and loss: `cold` on questions alone, and `warm`, its tower first on the glyph of each
cell through a linear layer that is thrown away, and then the same. Answers are generated, and
scored by the evaluator. Writes `bench/results/from-scratch.md` and `.json` after each evaluation.
"""

from __future__ import annotations

import json
import os
import platform
import random
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageDraw
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from transformers import (
    BartConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2VisionConfig,
)

from florence_data.recipes.synthetic.fonts import installed_families
from florence_eval import score
from florence_train.batches import IGNORED, Batch
from florence_train.model import Florence, question_losses
from florence_train.predictor import answer
from florence_train.tiny import tiny_processor

RESULTS = Path(__file__).parent / "results"

CELL = 32
"""Pixels a side of a glyph's cell: the tower's stride."""

GLYPHS = string.digits + string.ascii_uppercase


@dataclass(frozen=True)
class Options:
    """What to train, and for how long."""

    ways: tuple[Literal["warm", "cold"], ...] = ("warm", "cold")
    rows: int = 3
    """Rows of a document, with a question each."""
    digits: int = 2
    """Digits of a row, behind its label."""
    glyph_steps: int = 500
    """Steps of the tower on glyphs."""
    steps: int = 1400
    """Steps on questions, of the way `warm`; `cold` gets those of the tower besides."""
    glyph_pages: int = 16
    """Pages a step of the tower on glyphs."""
    pages: int = 21
    """Documents a step on questions."""
    unseen: int = 85
    """Documents of another seed to be asked about."""
    every: int = 100
    """Steps between evaluations."""
    lr: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of documents and weights; `cold` gets the first only."""
    out: Path = RESULTS
    """Directory of the results."""


@dataclass(frozen=True)
class Look:
    """The untrained model, seen on pages of one digit each.

    A spread is the mean distance from the mean over pages, relative to the mean length: of the
    projected tokens, and of the scores of the answer's first character. `probe` is how many digits
    of other pages a ridge regression on the tower's output reads. Both gradients are relative to
    their weights.
    """

    std: float
    background: str
    token_spread: float
    score_spread: float
    probe: float
    stem_gradient: float
    text_gradient: float


@dataclass(frozen=True)
class Point:
    """The model at a step of a way: on unseen documents, in percent."""

    way: str
    seed: int
    step: int
    questions_seen: int
    cpu_seconds: float
    loss: float
    anls: float
    exact: float


def small_florence(std: float, seed: int) -> Florence:
    """A Florence-2 of a million parameters with the tiny model's processor, for any grid."""
    processor = tiny_processor()
    vision = Florence2VisionConfig(
        depths=(1, 1, 1, 1),
        embed_dim=(16, 32, 64, 128),
        num_heads=(1, 2, 4, 8),
        num_groups=(1, 2, 4, 8),
        window_size=4,
        projection_dim=128,
        drop_path_rate=0.0,
        initializer_range=std,
    )
    text = BartConfig(
        vocab_size=len(processor.tokenizer),
        d_model=128,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_position_embeddings=128,
        dropout=0.0,
        init_std=std,
    )
    config = Florence2Config(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_id=processor.image_token_id,
    )
    torch.manual_seed(seed)
    return Florence(Florence2ForConditionalGeneration(config), processor, template=None)


def draw(lines: list[str], rng: random.Random) -> Tensor:
    """Ink of a page with a glyph in each cell: [CELL * lines, CELL * columns], 0 to 1."""
    columns = max(map(len, lines))
    page = PIL.Image.new("L", (CELL * columns, CELL * len(lines)), 0)
    pen = PIL.ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        face = rng.choice(installed_families()).font(rng.randint(20, 26), rng.random() < 0.25)
        for column, glyph in enumerate(line):
            middle = [CELL * (place + 0.5) + rng.uniform(-3, 3) for place in (column, row)]
            pen.text(tuple(middle), glyph, font=face, fill=rng.randint(195, 255), anchor="mm")
    return torch.from_numpy(np.asarray(page, np.float32) / 255)


def pixels(inks: list[Tensor], background: str = "white") -> Tensor:
    """What the model reads: [P, 3, H, W], white as ImageNet's statistics have it, or zero."""
    ink = torch.stack(inks)[:, None].repeat(1, 3, 1, 1)
    return ink if background == "zero" else (1 - ink - 0.45) / 0.225


def documents(count: int, options: Options, florence: Florence, rng: random.Random) -> Batch:
    """So many new documents with a question for each row."""
    inks, questions, answers = [], [], []
    for _ in range(count):
        labels = rng.sample(string.ascii_uppercase, options.rows)
        values = ["".join(rng.choices(string.digits, k=options.digits)) for _ in labels]
        inks.append(draw([a + b for a, b in zip(labels, values, strict=True)], rng))
        questions += labels
        answers += values
    encode = florence.text_encoder.encode
    prompts = torch.tensor([encode((question,)) for question in questions])
    return Batch(
        pixels=pixels(inks),
        stored=None,
        page=torch.arange(count).repeat_interleave(options.rows),
        prompts=prompts,
        prompt_mask=torch.ones_like(prompts),
        labels=torch.tensor([encode((text,)) for text in answers]),
        examples=(),
    )


def look(std: float, background: str, pages: int = 600) -> Look:
    """Look at an untrained model."""
    rng = random.Random(0)
    florence = small_florence(std, seed=0)
    model = florence.model
    digits = [rng.choice(string.digits) for _ in range(pages)]
    images = pixels([draw([digit], rng) for digit in digits], background)
    with torch.no_grad():
        tower = model.model.vision_tower(images).last_hidden_state
        tokens = model.model.multi_modal_projector(tower)
    prompts = torch.tensor([[0, 2]]).repeat(64, 1)
    batch = Batch(
        pixels=images[:64],
        stored=None,
        page=torch.arange(64),
        prompts=prompts,
        prompt_mask=torch.ones_like(prompts),
        labels=torch.tensor([florence.text_encoder.encode((digit,)) for digit in digits[:64]]),
        examples=(),
    )
    logits = florence.grouped(batch)
    question_losses(logits, batch.labels).mean().backward()
    return Look(
        std=std,
        background=background,
        token_spread=spread(tokens),
        score_spread=spread(logits[:, 1].detach()),
        probe=probe(tower, torch.tensor([int(digit) for digit in digits])),
        stem_gradient=relative_gradient(model.model.vision_tower.convs[0]),
        text_gradient=relative_gradient(model.model.language_model),
    )


def spread(values: Tensor) -> float:
    """How far apart pages are, relative to how long they are."""
    flat = values.flatten(1)
    return float((flat - flat.mean(0)).norm(dim=1).mean() / flat.norm(dim=1).mean())


def probe(features: Tensor, digits: Tensor) -> float:
    """The share of the second half's digits that a ridge regression on the first half reads."""
    flat, half = features.flatten(1), len(features) // 2
    flat = (flat - flat[:half].mean(0)) / (flat[:half].std(0) + 1e-9)
    flat = functional.pad(flat, (0, 1), value=1.0)
    known = flat[:half]
    ridge = known.T @ known + 10 * torch.eye(known.shape[1])
    weights = torch.linalg.solve(ridge, known.T @ functional.one_hot(digits[:half], 10).float())
    return float(((flat[half:] @ weights).argmax(1) == digits[half:]).float().mean())


def relative_gradient(module: nn.Module) -> float:
    """Length of a module's gradient by that of its weights."""
    trained = [p for p in module.parameters() if p.grad is not None]
    gradient = sum(float(p.grad.square().sum()) for p in trained if p.grad is not None)
    return (gradient / sum(float(p.detach().square().sum()) for p in trained)) ** 0.5


def steps(
    parameters: list[nn.Parameter], lr: float, count: int, loss: Callable[[], Tensor]
) -> Iterator[tuple[int, float]]:
    """Train and tell each step and its loss, as the trainer does from scratch."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0, fused=True)
    for step in range(1, count + 1):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, step / 50, (count - step + 1) / (0.2 * count))
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield step, float(value.detach())


def warm_up(florence: Florence, options: Options, seed: int) -> float:
    """Teach tower and projector the glyph of each cell; returns the share read at the end."""
    rng = random.Random(f"glyphs {seed}")
    model = florence.model
    columns = 1 + options.digits
    head = nn.Linear(model.config.vision_config.projection_dim, len(GLYPHS))
    read: list[float] = []

    def loss() -> Tensor:
        texts = [
            ["".join(rng.choices(GLYPHS, k=columns)) for _ in range(options.rows)]
            for _ in range(options.glyph_pages)
        ]
        images = pixels([draw(lines, rng) for lines in texts])
        # The first token is the mean of the others.
        scores = head(model.get_image_features(images).pooler_output[:, 1:])
        wanted = torch.tensor([[GLYPHS.index(g) for g in "".join(lines)] for lines in texts])
        read.append(float((scores.argmax(-1) == wanted).float().mean()))
        value: Tensor = functional.cross_entropy(scores.flatten(0, 1), wanted.flatten())
        return value

    parts = (model.model.vision_tower, model.model.multi_modal_projector, head)
    for step, value in steps(
        [p for part in parts for p in part.parameters()], options.lr, options.glyph_steps, loss
    ):
        if step % options.every == 0:
            print(
                f"glyphs, step {step}: loss {value:.3f}, {np.mean(read[-20:]):.1%} read", flush=True
            )
    return float(np.mean(read[-20:]))


def train(
    way: str, florence: Florence, options: Options, seed: int, began: float
) -> Iterator[Point]:
    """Teach questions on new documents, and tell what it answers on unseen ones."""
    rng = random.Random(f"documents {seed}")
    held = documents(options.unseen, options, florence, random.Random(f"unseen {seed}"))
    model = florence.model
    count = options.steps + (options.glyph_steps if way == "cold" else 0)

    def loss() -> Tensor:
        model.train()
        batch = documents(options.pages, options, florence, rng)
        return question_losses(florence.grouped(batch), batch.labels).sum() / batch.target_tokens

    for step, value in steps(list(model.parameters()), options.lr, count, loss):
        if step % options.every == 0 or step == count:
            with torch.inference_mode():
                told = answer(florence, held, num_beams=1, max_new_tokens=options.digits + 3)
            anls, exact = scores_of([text for text, _ in told], references(florence, held))
            seen = step * options.pages * options.rows
            spent = time.process_time() - began
            point = Point(way, seed, step, seen, spent, value, anls, exact)
            print(point, flush=True)
            yield point


def references(florence: Florence, batch: Batch) -> list[str]:
    """The answers of a batch."""
    return [florence.text_encoder.decode(row[row != IGNORED].tolist()) for row in batch.labels]


def scores_of(predictions: list[str], answers: list[str]) -> tuple[float, float]:
    """ANLS and exact matches, in percent."""
    frame = pd.DataFrame(
        {
            "question_id": [str(number) for number in range(len(answers))],
            "prediction": predictions,
            "answers": [[text] for text in answers],
        }
    )
    exact = np.mean([a == b for a, b in zip(predictions, answers, strict=True)])
    return 100 * score(frame).summary["metrics"]["anls"]["mean"], 100 * float(exact)


def prior(options: Options) -> float:
    """ANLS of the best answer that does not look at the page: any digits, always the same."""
    seed = options.seeds[0]
    florence = small_florence(0.1, seed)
    held = documents(options.unseen, options, florence, random.Random(f"unseen {seed}"))
    answers = references(florence, held)
    return max(
        scores_of([digit * options.digits] * len(answers), answers)[0] for digit in string.digits
    )


def report(options: Options, looks: list[Look], points: list[Point], read: dict[int, float]) -> str:
    """The results as Markdown."""
    lines = ["# From scratch, on unseen documents", ""]
    lines += [
        "From `python bench/from_scratch.py`, whose docstring says what is drawn and asked.",
        "",
    ]
    lines += [
        f"- machine: {platform.machine()}, {os.cpu_count()} cores, one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        f"- documents: {options.rows} rows of a label and {options.digits} digits, "
        f"{CELL * (1 + options.digits)}x{CELL * options.rows} px; {options.rows} questions each; "
        f"{options.unseen * options.rows} questions on unseen ones",
        f"- faces: {', '.join(family.name for family in installed_families())}",
        f"- prior, the best constant answer: {prior(options):.1f} ANLS",
    ]
    if read:
        lines.append(
            f"- tower on glyphs: {options.glyph_steps} steps of {options.glyph_pages} pages; of "
            f"{len(GLYPHS)} glyphs on new pages were read at the end "
            + ", ".join(f"{share:.1%} (seed {seed})" for seed, share in read.items())
        )
    lines += ["", "## The untrained model on pages of one digit", ""]
    lines += [
        "| init std | background | spread of tokens | spread of scores | linear probe on the tower "
        "| gradient of the stem | of the language model |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {x.std} | {x.background} | {x.token_spread:.1%} | {x.score_spread:.2%} | {x.probe:.0%} "
        f"| {x.stem_gradient:.1e} | {x.text_gradient:.1e} |"
        for x in looks
    ]
    lines += ["", "## The curve", ""]
    lines += [
        "| way | seed | step | questions seen | CPU seconds | loss | ANLS, unseen "
        "| exact, unseen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.way} | {p.seed} | {p.step} | {p.questions_seen:,} | {p.cpu_seconds:.0f} "
        f"| {p.loss:.3f} | {p.anls:.1f} | {p.exact:.1f} |"
        for p in points
    ]
    notes = RESULTS / "from-scratch_findings.md"
    if notes.exists():
        lines += ["", notes.read_text().rstrip()]
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Look, train, and write the results."""
    torch.set_num_threads(1)
    looks = [look(std, background) for background in ("white", "zero") for std in (0.02, 0.1)]
    points: list[Point] = []
    read: dict[int, float] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [(way, s) for way in options.ways for s in options.seeds[: 1 if way == "cold" else None]]
    for way, seed in runs:
        began = time.process_time()
        florence = small_florence(0.1, seed)
        if way == "warm":
            read[seed] = warm_up(florence, options, seed)
        for point in train(way, florence, options, seed, began):
            points.append(point)
            text = report(options, looks, points, read)
            (options.out / "from-scratch.md").write_text(text)
            rows = {"looks": [asdict(x) for x in looks], "points": [asdict(p) for p in points]}
            (options.out / "from-scratch.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
