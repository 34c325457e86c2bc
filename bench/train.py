"""How many questions a second train, as the well-known recipe does it and as this trainer does.

    nice -n 10 python bench/train.py [--quick]

Lines, each at 1, 2, 4 and 8 questions a page, in one run with the same model and the same
questions, by the trainer's own plan, reader, forward pass, loss, clock and count of operations:

ungrouped        one page a question, as the recipe does it: the tower runs for every question, and
                 is trained, since what should freeze it there (`is_trainable = False`) does nothing
grouped          the tower runs once a page; everything is trained
grouped, frozen  the tower runs once a page and is not trained
cached           the frozen tower's output comes from the feature cache, filled before the clock
grouped, compiled  as grouped, with `--compile` of training; on CUDA only

Random weights of the published sizes. On a CUDA device: base and large, 768 px, bfloat16. On a CPU:
base at 384 px in float32, where the tower and the image tokens are a quarter of those at 768 px, a
few questions a step and one step by the clock. The model without a vocabulary file writes bytes, so
questions are shortened and answers cut to what BART's vocabulary would make of DocVQA's. Writes
`bench/results/train-cpu.md` and `.json`, or `train-cuda.*`; what bounds each line is told there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path

import msgspec
import torch
import tyro
from accelerate import Accelerator
from torch.optim import AdamW
from transformers import (
    BartConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2VisionConfig,
)

from florence_data import Sample, SampleSet, ShardWriter, recipes
from florence_data.prompts import prompt_template
from florence_train.attention import set_attention
from florence_train.batches import Group, Groups, PageReader, Plan, pack
from florence_train.compilation import compile_layers
from florence_train.feature_cache import FeatureCache, feature_identity, feature_shape
from florence_train.flops import Shapes, Trained, forward_flops, peak_flops, training_flops
from florence_train.measurements import Measurements
from florence_train.model import Florence, freeze_vision, question_losses, set_train_mode
from florence_train.timing import Stopwatch
from florence_train.tiny import tiny_processor

RESULTS = Path(__file__).parent / "results"

MOST_QUESTIONS = 8
"""Questions that every page has; the lines with fewer use the first of them."""

PROMPT_TOKENS, ANSWER_BYTES = 20, 8
"""A question's prompt and, with `<s>` and `</s>`, ten tokens of answer."""

AIMS = {"grouped": 2.5, "cached": 6.0}
"""Times ungrouped, at four questions a page."""


@dataclass(frozen=True)
class Line:
    """A way to train: whether questions share their page, and what becomes of the tower."""

    name: str
    grouped: bool = True
    frozen: bool = False
    cached: bool = False
    compiled: bool = False


LINES = (
    Line("ungrouped", grouped=False),
    Line("grouped"),
    Line("grouped, frozen", frozen=True),
    Line("cached", frozen=True, cached=True),
    Line("grouped, compiled", compiled=True),
)


@dataclass(frozen=True)
class Options:
    """What to measure; what is left out follows from the device."""

    sizes: tuple[str, ...] = ()
    """base, large, or both."""
    lines: tuple[str, ...] = ()
    """Which lines, the first one included if ratios are wanted: all on CUDA, on a CPU those that
    are not compiled."""
    questions_a_page: tuple[int, ...] = (1, 2, 4, 8)
    image_size: int | None = None
    """Pixels a side: 768 on CUDA, 384 on a CPU."""
    precision: str | None = None
    """bf16 or no: bfloat16 on CUDA, float32 on a CPU."""
    batch_size: int | None = None
    """Questions a step: 64 on CUDA, 8 on a CPU."""
    pages_at_a_time: int | None = None
    """Pages in the device's memory at most; by default a step's. Halved until they fit."""
    steps: int | None = None
    """Steps by the clock of each line: 20 on CUDA, 1 on a CPU."""
    warm_steps: int | None = None
    """Steps before the clock: 4 on CUDA, 1 on a CPU, since the first one waits for fresh memory."""
    workers: int | None = None
    """Processes that decode pages: 12 on CUDA, 0 on a CPU."""
    quick: bool = False
    """At 1 and 4 questions a page, 192 px."""
    seed: int = 0
    out: Path = RESULTS
    """Directory of the results."""

    @property
    def chosen(self) -> tuple[Line, ...]:
        """The lines to measure, in their order."""
        return tuple(line for line in LINES if line.name in self.lines)

    def for_device(self, cuda: bool) -> Options:
        """With everything that was left out."""
        chosen = {
            "sizes": ("base", "large") if cuda else ("base",),
            "lines": tuple(line.name for line in LINES if cuda or not line.compiled),
            "image_size": 768 if cuda else 384,
            "precision": "bf16" if cuda else "no",
            "batch_size": 64 if cuda else 8,
            "steps": 20 if cuda else 1,
            "warm_steps": 4 if cuda else 1,
            "workers": 12 if cuda else 0,
        }
        if self.quick:
            chosen["image_size"] = 192
        left_out = {name: value for name, value in chosen.items() if not getattr(self, name)}
        asked = (1, 4) if self.quick else self.questions_a_page
        return replace(self, questions_a_page=asked, **left_out)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Result:
    """One line at one number of questions a page.

    `part` is how many questions were in the device's memory at a time, `memory_gb` the device's
    peak; `tower` the share of the tower in the operations that ran, forward and backward.
    """

    size: str
    line: str
    questions_a_page: int
    batch_size: int
    part: int
    questions_per_second: float
    data_share: float
    optimizer_share: float
    flops_per_question: float
    flops_per_second: float
    tower: float
    mfu: float | None
    memory_gb: float | None

    @property
    def bound(self) -> str:
        """What a faster run would need most."""
        if self.data_share > 0.3:
            return "reading and decoding pages"
        if self.optimizer_share > 0.3:
            return "the optimiser"
        if self.tower > 0.5:
            return "the tower"
        return "the language model"


@dataclass
class Bench:
    """The model, the pages, and what was measured so far."""

    options: Options
    size: str
    folder: Path
    accelerator: Accelerator
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        with torch.device(self.accelerator.device):
            self.florence = random_florence(self.size, self.options.image_size, self.options.seed)
        set_attention(self.florence.model, "sdpa")
        if any(line.compiled for line in self.options.chosen):
            compile_layers(self.florence.model)
        self.samples = SampleSet.from_shards(self.folder / "shards")
        self.reader = PageReader(
            sets=(self.samples,),
            template=prompt_template("docvqa"),
            collate=self.florence.collator,
            max_prompt_tokens=PROMPT_TOKENS,
            workers=self.options.workers or 0,
        )

    def measure(self, line: Line, questions_a_page: int, batch_size: int) -> None:
        """Run a line in the largest parts that the device's memory takes."""
        part = batch_size
        if self.options.pages_at_a_time is not None:
            together = questions_a_page if line.grouped else 1
            part = min(part, self.options.pages_at_a_time * together)
        while True:
            try:
                result = self._run(line, questions_a_page, batch_size, part)
                break
            except torch.OutOfMemoryError:
                if part == 1:
                    raise
                part //= 2
            # Behind the handler, whose exception would keep what the failed run had.
            self.accelerator.free_memory()
            self.florence.model.zero_grad()
            torch.cuda.empty_cache()
        self.results.append(result)
        print(
            f"{self.size}, {line.name}, {questions_a_page} a page: "
            f"{result.questions_per_second:.3g} questions/s, "
            f"{result.flops_per_second / 1e9:.3g} GFLOP/s",
            flush=True,
        )

    def _run(self, line: Line, questions_a_page: int, batch_size: int, part: int) -> Result:
        options, device = self.options, self.accelerator.device
        cuda = device.type == "cuda"
        model = self.florence.model.requires_grad_(True)
        if line.frozen:
            freeze_vision(model)
        steps = list(
            islice(
                self._steps(questions_a_page if line.grouped else 1, questions_a_page, batch_size),
                (options.warm_steps or 0) + (options.steps or 1),
            )
        )
        as_it_is = "default" if line.compiled else "force_eager"
        with torch.compiler.set_stance(as_it_is), self._cache(line, steps) as florence:
            reader = replace(self.reader, collate=florence.collator)
            optimizer = AdamW(
                [p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True
            )
            grouped, prepared = self.accelerator.prepare(florence.grouped, optimizer)
            set_train_mode(model)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            trained, tower = Trained.of(model), 0
            measured = Measurements()
            parts = [pack(step, part) for step in steps]
            batches = reader.batches([groups for step in parts for groups in step])
            for number, step in enumerate(parts):
                watch = Stopwatch(device)
                watch.mark()
                tokens, shapes = 0, []
                for _ in step:
                    batch = watch.wait(batches)
                    tokens += batch.target_tokens
                    shapes.append(
                        Shapes(
                            pages=len(batch.images),
                            questions=len(batch.examples),
                            prompt_tokens=batch.prompts.shape[1],
                            target_tokens=batch.labels.shape[1],
                            image_size=florence.image_size,
                        )
                    )
                    batch = batch.to(device)
                    losses = question_losses(grouped(batch), batch.labels)
                    self.accelerator.backward(losses.sum())
                watch.mark()
                gradients = [p.grad for p in model.parameters() if p.grad is not None]
                torch._foreach_mul_(gradients, 1 / tokens)
                self.accelerator.clip_grad_norm_(model.parameters(), 1.0)
                prepared.step()
                prepared.zero_grad()
                watch.mark()
                if number < (options.warm_steps or 0):
                    continue
                measured.add_times(watch.read())
                for shape in shapes:
                    measured.questions += shape.questions
                    measured.pages += shape.pages
                    measured.flops += training_flops(model.config, shape, trained, line.cached)
                    if not line.cached:
                        passes = 1 if line.frozen else 3
                        tower += passes * forward_flops(model.config, shape).tower.total
        self.accelerator.free_memory()
        peak = peak_flops(torch.cuda.get_device_name()) if cuda else None
        told = measured.line(peak)
        return Result(
            size=self.size,
            line=line.name,
            questions_a_page=questions_a_page,
            batch_size=batch_size,
            part=part,
            questions_per_second=told["questions_per_second"],
            data_share=told["data_share"],
            optimizer_share=told["optimizer_share"],
            flops_per_question=measured.flops / measured.questions,
            flops_per_second=told["flops_per_second"],
            tower=tower / measured.flops,
            mfu=told.get("mfu"),
            memory_gb=torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        )

    def _steps(self, together: int, questions_a_page: int, batch_size: int) -> Iterator[Groups]:
        """Steps without end, each of pages with so many questions, of which so many together."""
        questions = tuple(range(questions_a_page))
        pages = batch_size // questions_a_page
        # One question to a group repeats the page for each of them in a step, as the recipe does.
        groups = tuple(
            Group(page, questions[first : first + together])
            for page in range(min(pages, len(self.samples)))
            for first in range(0, questions_a_page, together)
        )
        plan = Plan((groups,), batch_size, self.options.seed)
        for epoch in count():
            yield from plan.epoch(epoch)

    @contextmanager
    def _cache(self, line: Line, steps: Sequence[Groups]) -> Iterator[Florence]:
        """The model with its features kept, all of them filled in, where the line says so."""
        if not line.cached:
            yield self.florence
            return
        model = self.florence.model
        pages = sorted({group.page for step in steps for group in step})
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            cache = FeatureCache.open(
                Path(folder),
                [self.samples[page].image.sha256 for page in pages],
                feature_shape(model, self.florence.image_size, projected=False),
                feature_identity(model, "as measured", projected=False),
            )
            florence = replace(self.florence, cache=cache)
            model.eval()
            with torch.no_grad(), self.accelerator.autocast():
                for page in pages:
                    batch = self.reader.batch((Group(page, (0,)),)).to(self.accelerator.device)
                    florence.grouped.page_features(batch)
            yield florence


def random_florence(size: str, image_size: int | None, seed: int) -> Florence:
    """A model of a published size with random weights, for square pages."""
    side = image_size or 768
    processor = tiny_processor()
    processor.image_processor.size = {"height": side, "width": side}
    processor.image_processor.image_seq_length = (side // 32) ** 2 + 1
    config = published(size)
    config.image_token_id = processor.image_token_id
    torch.manual_seed(seed)
    return Florence(Florence2ForConditionalGeneration(config), processor, template="docvqa")


def published(size: str) -> Florence2Config:
    """The configuration of a published size."""
    channels, width, layers = {
        "base": ((128, 256, 512, 1024), 768, 6),
        "large": ((256, 512, 1024, 2048), 1024, 12),
    }[size]
    heads = tuple(n // 32 for n in channels)
    vision = Florence2VisionConfig(
        embed_dim=channels, num_heads=heads, num_groups=heads, projection_dim=width
    )
    text = BartConfig(
        vocab_size=51290,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )
    return Florence2Config(vision_config=vision.to_dict(), text_config=text.to_dict())


def operations_ratio(size: str, line: Line, questions_a_page: int, side: int) -> float:
    """How many times fewer operations a question takes than ungrouped, at another page size."""
    config = published(size)

    def a_question(questions: int, frozen: bool, cached: bool) -> float:
        shapes = Shapes(1, questions, PROMPT_TOKENS, ANSWER_BYTES + 2, (side, side))
        trained = Trained(tower=not frozen, projector=True, language_model=True)
        return training_flops(config, shapes, trained, cached) / questions

    together = questions_a_page if line.grouped else 1
    return a_question(1, False, False) / a_question(together, line.frozen, line.cached)


def write_pages(directory: Path, pages: int, seed: int) -> None:
    """Synthetic documents of 1275x1650 pixels with eight questions and short answers."""

    def cut(sample: Sample) -> Sample:
        asked = tuple(
            msgspec.structs.replace(asked, answers=(asked.answers[0][:ANSWER_BYTES],))
            for asked in sample.supervisions
        )
        return msgspec.structs.replace(sample, supervisions=asked)

    with ShardWriter(directory) as writer:
        for sample in recipes.synthetic(pages=pages, seed=seed, questions_per_page=MOST_QUESTIONS):
            writer.write(cut(sample))


def report(results: Sequence[Result], machine: dict[str, str], findings: Path) -> str:
    """The results as Markdown, and behind them what was found out, where that is written down."""
    lines = ["# Training", "", "From `python bench/train.py`, whose docstring says what a line is."]
    lines += ["", *(f"- {name}: {value}" for name, value in machine.items())]
    slow = {(r.size, r.questions_a_page): r for r in results if r.line == LINES[0].name}
    lines += [
        "",
        "| aim at 4 questions a page | measured | by operations alone | the same at 768 px "
        "| aimed at |",
        "|---|---|---|---|---|",
    ]
    by_name = {line.name: line for line in LINES}
    for result in results:
        other = slow.get((result.size, result.questions_a_page))
        if result.questions_a_page == 4 and result.line in AIMS and other:
            at_768 = operations_ratio(result.size, by_name[result.line], 4, 768)
            lines.append(
                f"| {result.size}: {result.line} / ungrouped "
                f"| {result.questions_per_second / other.questions_per_second:.2f}x "
                f"| {other.flops_per_question / result.flops_per_question:.2f}x "
                f"| {at_768:.2f}x "
                f"| {AIMS[result.line]}x |"
            )
    lines += [
        "",
        "| model | line | questions a page | a step (in parts of) | questions/s | to ungrouped "
        "| GFLOP a question | TFLOP/s | MFU | waiting for data | optimiser | tower's operations "
        "| memory, GB | bound by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        other = slow.get((result.size, result.questions_a_page))
        ratio = result.questions_per_second / other.questions_per_second if other else None
        lines.append(
            f"| {result.size} | {result.line} | {result.questions_a_page} "
            f"| {result.batch_size} ({result.part}) | {result.questions_per_second:.3g} "
            f"| {'' if ratio is None else f'{ratio:.2f}x'} "
            f"| {result.flops_per_question / 1e9:.0f} | {result.flops_per_second / 1e12:.3g} "
            f"| {'' if result.mfu is None else f'{result.mfu:.1%}'} | {result.data_share:.1%} "
            f"| {result.optimizer_share:.1%} | {result.tower:.0%} "
            f"| {'' if result.memory_gb is None else f'{result.memory_gb:.1f}'} | {result.bound} |"
        )
    if findings.exists():
        lines += ["", findings.read_text().rstrip()]
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Measure, print, and write the results."""
    cuda = torch.cuda.is_available()
    options = options.for_device(cuda)
    accelerator = Accelerator(mixed_precision=options.precision)
    torch.set_float32_matmul_precision("high")
    results: list[Result] = []
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pages(folder / "shards", options.batch_size or MOST_QUESTIONS, options.seed)
        for size in options.sizes:
            bench = Bench(options, size, folder, accelerator)
            if not cuda:  # once for nothing: the first step of a process waits for fresh memory
                bench.measure(LINES[0], options.questions_a_page[-1], options.batch_size or 1)
                bench.results.clear()
            for questions_a_page in options.questions_a_page:
                for line in options.chosen:
                    bench.measure(line, questions_a_page, options.batch_size or MOST_QUESTIONS)
            if cuda and size == "base":  # the aim: base, all of it, six questions in under 15 GB
                bench.measure(LINES[1], 1, 6)
            results += bench.results
            del bench
            torch.cuda.empty_cache()
    machine = {
        "machine": (torch.cuda.get_device_name() + ", " if cuda else "")
        + f"{platform.machine()}, {multiprocessing.cpu_count()} cores "
        f"({torch.get_num_threads()} threads), {platform.system()}, "
        f"Python {platform.python_version()}",
        "load before and now": f"{before:.1f}, {os.getloadavg()[0]:.1f}",
        "work": f"{options.image_size} px, "
        f"{'bfloat16 autocast' if options.precision == 'bf16' else 'float32'}, "
        f"{options.batch_size} questions a step, {options.steps} steps by the clock, "
        f"{options.workers} workers, prompts of {PROMPT_TOKENS} tokens and answers of "
        f"{ANSWER_BYTES + 2}, seed {options.seed}",
        "versions": ", ".join(f"{n} {version(n)}" for n in ("torch", "transformers", "accelerate")),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = "train-cuda" if cuda else "train-cpu"
    text = report(results, machine, RESULTS / f"{name}_findings.md")
    (options.out / f"{name}.md").write_text(text)
    rows = [asdict(result) | {"bound": result.bound} for result in results]
    (options.out / f"{name}.json").write_text(
        json.dumps({"machine": machine, "results": rows}, indent=1) + "\n"
    )
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
