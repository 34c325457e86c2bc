"""Whether the trainer teaches: the tiny model on the pages it was trained on, on several seeds.

    OMP_NUM_THREADS=1 nice -n 10 python bench/learning.py

Three sets of synthetic documents with four questions a page, by the trainer as it stands:

as drawn    questions as the recipe writes them, which mostly name what is on their page
asked alike the same four questions on every page, so that answers must come from the picture
shuffled    asked alike, and every question taught another page's answer

Each model is asked for what it was taught, and the last one for what is true besides. Each seed has
its own documents, weights and order. Writes `bench/results/learning.md` and `.json`.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import torch
import tyro

from florence_data import Sample, ShardWriter, recipes
from florence_data.shard_format import ImageDescription
from florence_data.shard_writer import ShardOptions
from florence_eval import score
from florence_train import PredictConfig, TrainConfig, predict, train

RESULTS = Path(__file__).parent / "results"

QUESTIONS = 4
"""Questions a page."""


@dataclass(frozen=True)
class Options:
    """How much to train."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    pages: int = 16
    steps: int = 150
    every: int = 25
    """Steps between evaluations."""
    out: Path = RESULTS
    """Directory of the results."""


@dataclass(frozen=True)
class Result:
    """A model: ANLS in percent on what it was taught and on the truth, the evaluation from which it
    had 99 or more, and the seconds of its training, evaluations included."""

    taught: str
    seed: int
    on_taught: float
    on_truth: float
    reached_99: int | None
    cpu_seconds: float


def asked_alike(pages: list[Sample]) -> list[Sample]:
    """The same questions on every page."""
    return [
        _with(page, [(f"What is field {n}?", v.answers) for n, v in enumerate(page.supervisions)])
        for page in pages
    ]


def shuffled(pages: list[Sample]) -> list[Sample]:
    """Every question with the answers of the next question on the next page."""
    answers = [v.answers for page in pages for v in page.supervisions]
    others = iter(answers[QUESTIONS + 1 :] + answers[: QUESTIONS + 1])
    return [_with(page, [(v.question, next(others)) for v in page.supervisions]) for page in pages]


def _with(page: Sample, asked: list[tuple[str, tuple[str, ...]]]) -> Sample:
    supervisions = tuple(
        msgspec.structs.replace(v, question=question, answers=answers)
        for v, (question, answers) in zip(page.supervisions, asked, strict=True)
    )
    return msgspec.structs.replace(page, supervisions=supervisions)


def write(directory: Path, pages: list[Sample]) -> str:
    """A shard set of pages at the size that the tiny model sees."""
    images = ImageDescription(size=(64, 64), format="png")
    with ShardWriter(directory, options=ShardOptions(images=images)) as writer:
        for page in pages:
            writer.write(page)
    return str(directory)


def measure(taught: str, data: str, truth: str, out: Path, seed: int, options: Options) -> Result:
    """Train on `data` and ask for both."""
    began = time.process_time()
    train(
        TrainConfig(
            data=(data,),
            eval_data=(data,),
            out=str(out),
            model="tiny",
            epochs=options.steps,
            max_steps=options.steps,
            batch_size=options.pages * QUESTIONS,
            lr=1e-3,
            beta2=0.98,
            warmup_steps=30,
            eval_every=options.every,
            workers=0,
            seed=seed,
        )
    )
    seconds = time.process_time() - began
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    reached = [line["step"] for line in lines if line.get("eval_score", 0.0) >= 0.99]
    return Result(
        taught=taught,
        seed=seed,
        on_taught=anls(out, data),
        on_truth=anls(out, truth),
        reached_99=min(reached, default=None),
        cpu_seconds=seconds,
    )


def anls(run: Path, data: str) -> float:
    """The official score of a run's model on a shard set, in percent."""
    out = run / "predictions.jsonl"
    predict(PredictConfig(model=str(run), data=data, out=str(out), workers=0))
    return 100 * float(score(out).summary["metrics"]["anls"]["mean"])


def report(options: Options, results: list[Result]) -> str:
    """The results as Markdown."""
    lines = ["# Learning by heart", "", "From `python bench/learning.py`,"]
    lines += ["whose docstring says what the sets are.", ""]
    lines += [
        f"- machine: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"thread, Python {platform.python_version()}, torch {torch.__version__}",
        f"- load at the end: {os.getloadavg()[0]:.1f}",
        f"- work: {options.pages} pages with {QUESTIONS} questions, {options.steps} steps of all "
        f"of them, an evaluation every {options.every}",
        "",
        "| taught | seed | ANLS on what was taught | on the truth | 99 reached at step "
        "| CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.taught} | {r.seed} | {r.on_taught:.1f} | {r.on_truth:.1f} "
        f"| {r.reached_99 or 'not'} | {r.cpu_seconds:.0f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Measure, print, and write the results, seed by seed."""
    results: list[Result] = []
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for seed in options.seeds:
            folder = Path(name) / str(seed)
            drawn = list(recipes.synthetic(pages=options.pages, seed=seed))
            alike = asked_alike(drawn)
            sets = {"as drawn": drawn, "asked alike": alike, "shuffled": shuffled(alike)}
            data = {taught: write(folder / taught, pages) for taught, pages in sets.items()}
            for taught, path in data.items():
                truth = data["asked alike"] if taught == "shuffled" else path
                run = folder / f"run {taught}"
                results.append(measure(taught, path, truth, run, seed, options))
            text = report(options, results)
            (options.out / "learning.md").write_text(text)
            (options.out / "learning.json").write_text(
                json.dumps([asdict(result) for result in results], indent=1) + "\n"
            )
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
