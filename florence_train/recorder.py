"""The record of a run while it goes: progress bar, log, trackers, and steps that were left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.table import Table
from rich.text import Text
from torch import Tensor

from florence_train import run
from florence_train.batches import Batch
from florence_train.checkpoint import Progress
from florence_train.config import TrainConfig
from florence_train.errors import TrainingError
from florence_train.evaluation import Evaluation
from florence_train.flops import Shapes, Trained, forward_flops, peak_flops, training_flops
from florence_train.measurements import Measurements
from florence_train.model import Florence
from florence_train.progress import progress_bar
from florence_train.timing import Stopwatch

SKIPPED_IN_A_ROW = 5
"""So many steps without a finite gradient end a run."""


@dataclass(frozen=True)
class Step:
    """What a step leaves on the device.

    `questions` is the number of all processes'; `asked` are this process's batches (on the host)
    with the loss of each question [Q]; `counts` is [target tokens, stop requests] of all processes;
    `norm` is the gradient's before clipping; `lr` the learning rate.
    """

    number: int
    questions: int
    asked: list[tuple[Batch, Tensor]]
    counts: Tensor
    norm: Tensor
    lr: float
    watch: Stopwatch


class Recorder:
    """Reads each step when the next one has been given to the device.

    All processes have one and call it alike; the main one writes. `progress` is kept up to date.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        florence: Florence,
        progress: Progress,
        steps: int,
    ) -> None:
        self._config = config
        self._florence = florence
        self._trained = Trained.of(florence.model)
        self._directory = Path(config.out)
        self._accelerator = accelerator
        self._progress = progress
        self._bar = progress_bar(disable=not accelerator.is_main_process)
        self._task = self._bar.add_task(
            "train", total=steps, completed=progress.step, questions=0, note=""
        )
        self._steps = steps
        self._pending: Step | None = None
        self._window = Measurements()
        self._skipped_in_a_row = 0
        self._begun_with = progress.questions
        self.stop_requested = False
        self._note = ""
        self.loss = float("nan")

    def __enter__(self) -> Recorder:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def add(self, step: Step) -> None:
        """Record a step that was just given to the device, and read the one before."""
        self.flush()
        self._pending = step

    def flush(self) -> None:
        """Read the step that is still to be read.

        Raises `TrainingError` after `SKIPPED_IN_A_ROW` steps without a finite gradient.
        """
        step, self._pending = self._pending, None
        if step is None:
            return
        _, stops = step.counts.tolist()
        self.stop_requested = stops > 0
        self._progress.step = step.number
        self._progress.questions += step.questions
        self._measure(step)
        if not bool(step.norm.isfinite()):
            self._skip(step)
        else:
            self._skipped_in_a_row = 0
        if step.number % self._config.log_every == 0 or step.number == self._steps:
            self._write(step)
        self._bar.update(
            self._task,
            completed=step.number,
            questions=self._progress.questions - self._begun_with,
            note=self._note,
        )

    def _measure(self, step: Step) -> None:
        window = self._window
        window.add_times(step.watch.read())
        step_loss, step_tokens = 0.0, 0
        for batch, losses in step.asked:
            window.questions += len(batch.examples)
            window.pages += len(batch.images)
            window.flops += self._flops(batch)
            tokens = batch.question_tokens.tolist()
            for example, loss, count in zip(batch.examples, losses.tolist(), tokens, strict=True):
                window.losses[example.sample.source] += loss
                window.tokens[example.sample.source] += count
                step_loss += loss
                step_tokens += count
        if step_tokens:
            self._note = f"loss {step_loss / step_tokens:.3f}, waiting {window.data_share:.0%}"
            if (peak := self._peak_flops()) is not None:
                memory = torch.cuda.max_memory_allocated() / 1e9
                self._note += f", MFU {window.flops / window.seconds / peak:.0%}, {memory:.1f} GB"

    def _flops(self, batch: Batch) -> int:
        """Of the forward and backward pass of a batch, at its padded shapes."""
        config = self._florence.model.config
        shapes = Shapes(
            pages=len(batch.images),
            questions=len(batch.examples),
            prompt_tokens=batch.prompts.shape[1],
            target_tokens=batch.labels.shape[1],
            image_size=self._florence.image_size,
        )
        if batch.stored is None:
            return training_flops(config, shapes, self._trained)
        encoded = forward_flops(config, replace(shapes, pages=len(batch.pixels))).tower.total
        return encoded + training_flops(config, shapes, self._trained, cached=True)

    def _peak_flops(self) -> float | None:
        if self._accelerator.device.type != "cuda":
            return None
        peak = peak_flops(torch.cuda.get_device_name())
        return peak * self._accelerator.num_processes if peak is not None else None

    def _skip(self, step: Step) -> None:
        self._progress.skipped += 1
        self._skipped_in_a_row += 1
        self._window.skipped += 1
        mine = [example.sample.id for batch, _ in step.asked for example in batch.examples]
        ids = sorted({sample for part in gather_object([mine]) for sample in part})
        self._log(step.number, skipped="loss or gradient not finite", samples=ids)
        self._say(f"step {step.number} left out: loss or gradient not finite; {', '.join(ids)}")
        if self._skipped_in_a_row == SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"{SKIPPED_IN_A_ROW} steps in a row without a finite gradient, the last one "
                f"{step.number}; the last checkpoint is good: lower --lr or use "
                "--precision float32, and see the samples named in the log"
            )

    def _write(self, step: Step) -> None:
        whole = Measurements.of_processes(gather_object([self._window]))
        self._window = Measurements()
        self.loss = whole.loss
        line = whole.line(self._peak_flops()) | {"gradient_norm": float(step.norm), "lr": step.lr}
        if self._accelerator.device.type == "cuda":
            line["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self._log(step.number, **line)
        self._accelerator.log(line, step=step.number)

    def evaluated(self, number: int, evaluation: Evaluation) -> None:
        """Record an evaluation, with some of its answers."""
        examples = [shown.row() for shown in evaluation.shown]
        values = {"eval_loss": evaluation.loss, "eval_score": evaluation.score}
        self._log(number, **values, metric=evaluation.metric, examples=examples)
        self._accelerator.log(values, step=number)
        for tracker in self._accelerator.trackers:
            for position, shown in enumerate(evaluation.shown):
                name = f"answers/{position}: {shown.question}"
                tracker.log({f"{name} (answer)": shown.prediction}, step=number)
                tracker.log_images({name: shown.picture[None]}, step=number, dataformats="NHWC")
        self._say(
            f"step {number}: eval loss {evaluation.loss:.4f}, "
            f"{evaluation.metric} {evaluation.score:.4f}"
        )
        table = Table("question", "prediction", "reference", title=None)
        for example in examples:
            table.add_row(
                *(Text(example[name]) for name in ("question", "prediction", "reference"))
            )
        self._say(table)

    def _log(self, number: int, **values: object) -> None:
        if self._accelerator.is_main_process:
            run.log(self._directory, number, **values)

    def _say(self, what: object) -> None:
        if self._accelerator.is_main_process:
            self._bar.print(what)
