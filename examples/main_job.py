"""The main job on synthetic documents: shards, answers, training, answers again, scores.

Each step is a few lines of the Python API and prints the command that does the same.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from florence_data import InputError, ShardWriter, recipes
from florence_eval import score
from florence_train import PredictConfig, TrainConfig, predict, train

SPLITS = {"train": "the pages it was trained on", "validation": "held-out pages"}


@dataclass(frozen=True)
class MainJob:
    """Train the tiny offline model on synthetic documents and score it before and after."""

    out: Path = Path("demo")
    """A directory for everything that is made, a new or an empty one."""
    pages: int = 16
    """Pages to train on, and as many held-out ones."""
    steps: int = 150
    """Steps of training."""
    seed: int = 0
    """Seed of the documents, the weights and the order."""


def main(job: MainJob) -> None:
    """Run the job and print what came of it."""
    if job.out.is_file() or (job.out.is_dir() and any(job.out.iterdir())):
        raise InputError(f"{job.out}: there already; a new or an empty directory is accepted")
    console = Console(width=None if sys.stdout.isatty() else 100)
    began = time.perf_counter()

    def shown(command: str) -> None:
        console.print(f"[bold]$ python tools/{command}[/]", soft_wrap=True, highlight=False)

    for split in SPLITS:
        shards = job.out / "shards" / split
        shown(
            f"make_shards.py synthetic --pages {job.pages} --seed {job.seed} --split {split} "
            f"--fonts bundled --out {shards}"
        )
        documents = {"pages": job.pages, "seed": job.seed, "split": split, "fonts": "bundled"}
        with ShardWriter(shards) as writer:
            for sample in recipes.synthetic(**documents):
                writer.write(sample)

    anls: dict[tuple[str, str], float] = {}

    def answer_and_score(when: str, model: str) -> None:
        for split in SPLITS:
            predictions = job.out / f"{when}-{split}.jsonl"
            config = PredictConfig(
                model=model,
                data=str(job.out / "shards" / split),
                out=str(predictions),
                workers=0,
                seed=job.seed,
            )
            shown(
                f"predict.py --model {model} --data {config.data} --out {predictions} "
                f"--seed {job.seed}"
            )
            predict(config)
            scores = score(predictions)
            scores.write(job.out / f"scores-{when}-{split}")
            shown(f"score.py {predictions} --out {job.out}/scores-{when}-{split}")
            anls[when, split] = 100 * scores.summary["metrics"]["anls"]["mean"]

    answer_and_score("untrained", "tiny")
    config = TrainConfig(
        data=str(job.out / "shards" / "train"),
        out=str(job.out / "run"),
        model="tiny",
        epochs=job.steps,
        max_steps=job.steps,
        batch_size=64,
        lr=1e-3,
        beta2=0.98,
        warmup_steps=30,
        workers=0,
        seed=job.seed,
    )
    shown(
        f"train.py --model tiny --data {config.data[0]} --out {config.out} --epochs {job.steps} "
        f"--max-steps {job.steps} --batch-size 64 --lr 1e-3 --beta2 0.98 --warmup-steps 30 "
        f"--seed {job.seed}"
    )
    train(config)
    answer_and_score("trained", config.out)

    table = Table(title="ANLS (official), in percent")
    for heading in ("", "untrained", "trained"):
        table.add_column(heading, justify="left" if not heading else "right")
    for split, meaning in SPLITS.items():
        table.add_row(meaning, *(f"{anls[when, split]:.1f}" for when in ("untrained", "trained")))
    console.print(table)
    console.print(
        "The tiny model sees 64 x 64 pixels: it learns pages by heart and cannot read others.",
        f"Everything is in {job.out}/: shards, run, answers (*.jsonl) and tables (scores-*/).",
        f"{time.perf_counter() - began:.0f} seconds.",
        sep="\n",
        highlight=False,
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(MainJob))
    except InputError as error:
        print(f"main_job.py: {error}", file=sys.stderr)
        sys.exit(2)
