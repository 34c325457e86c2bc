"""The record of a run while it goes: progress bar, log, trackers, and steps that were left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
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
from florence_train.checkpoint import Progress, checkpoints
from florence_train.config import TrainConfig
from florence_train.errors import TrainingError
from florence_train.evaluation import Evaluation
from florence_train.flops import Shapes, Trained, forward_flops, peak_flops, training_flops
from florence_train.measurements import Measurements
from florence_train.memory import peak_memory
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
        window: Measurements,
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
        self._last: Step | None = None
        self._begun_with = progress.questions
        self._note = ""
        self.window = window
        """What was measured since the last line of the log."""
        self.skipped_in_a_row = 0
        self.stop_requested = False

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

    @property
    def in_trouble(self) -> bool:
        """Whether the last steps had no finite gradient: one alone may be a bad page's."""
        return self.skipped_in_a_row > 1

    def add(self, step: Step) -> None:
        """Record a step that was just given to the device, and read the one before."""
        self.flush()
        self._pending = step

    def flush(self) -> None:
        """Read the step that is still to be read.

        Raises `TrainingError` after `SKIPPED_IN_A_ROW` steps without a finite gradient. Those by
        which a float16 scale is still being lowered do not count.
        """
        step, self._pending = self._pending, None
        if step is None:
            return
        _, stops = step.counts.tolist()
        self.stop_requested = stops > 0
        self._progress.step = step.number
        self._progress.questions += step.questions
        finite = bool(step.norm.isfinite())
        self._measure(step, finite)
        if finite:
            self.skipped_in_a_row = 0
        else:
            self._skip(step)
        self._last = step
        if step.number % self._config.log_every == 0 or step.number == self._steps:
            self.write()
        self._bar.update(
            self._task,
            completed=step.number,
            questions=self._progress.questions - self._begun_with,
            note=self._note,
        )

    def close(self, ended: str) -> None:
        """Record that the run ended. Raises `TrainingError` where it ended in trouble."""
        self.flush()
        if self.in_trouble:
            raise self._without_gradient()
        self._log(self._progress.step, ended=ended)

    def _measure(self, step: Step, finite: bool) -> None:
        window = self.window
        window.add_times(step.watch.read())
        step_loss, step_tokens = 0.0, 0
        for batch, losses in step.asked:
            window.questions += len(batch.examples)
            window.pages += len(batch.images)
            window.flops += self._flops(batch)
            if not finite:
                continue
            tokens = batch.question_tokens.tolist()
            for example, loss, count in zip(batch.examples, losses.tolist(), tokens, strict=True):
                window.losses[example.sample.source] += loss
                window.tokens[example.sample.source] += count
                step_loss += loss
                step_tokens += count
        if step_tokens:
            self._note = self._told(step_loss / step_tokens)

    def _told(self, loss: float) -> str:
        """What the progress bar says of the window so far."""
        line = self.window.line(self._peak_flops())
        memory = peak_memory(self._accelerator.device) / 1e9
        mfu = f", MFU {line['mfu']:.0%}" if "mfu" in line else ""
        return (
            f"loss {loss:.3f} | {line['pages_per_second']:.1f} pages/s{mfu} | "
            f"data {line['data_share']:.0%}, forward and backward {line['compute_share']:.0%}, "
            f"optimiser {line['optimizer_share']:.0%} | {memory:.1f} GB"
        )

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
        self.window.skipped += 1
        scaler = self._accelerator.scaler
        lowered = scaler is not None and scaler.get_scale() > 1
        self.skipped_in_a_row += not lowered
        reason = "the float16 scale is lowered" if lowered else "loss or gradient not finite"
        mine = [example.sample.id for batch, _ in step.asked for example in batch.examples]
        ids = sorted({sample for part in gather_object([mine]) for sample in part})
        self._log(step.number, skipped=reason, samples=ids)
        self._say(f"step {step.number} left out: {reason}; {', '.join(ids)}")
        if self.skipped_in_a_row == SKIPPED_IN_A_ROW:
            raise self._without_gradient()

    def _without_gradient(self) -> TrainingError:
        held = [path.name for path in checkpoints(self._directory)[-1:]]
        return TrainingError(
            f"{self.skipped_in_a_row} steps in a row without a finite gradient, the last one "
            f"{self._progress.step}; "
            + (f"{held[0]} is kept" if held else "there is no checkpoint yet")
            + ": lower --lr or use --precision float32, and see the samples named in the log"
        )

    def write(self) -> None:
        """Write a line of what was measured since the last one, if anything was."""
        whole = Measurements.of_processes(gather_object([self.window]))
        self.window = Measurements()
        if not whole.seconds:
            return
        if whole.loss is not None:
            self._progress.loss = whole.loss
        line = whole.line(self._peak_flops())
        line["memory_gb"] = peak_memory(self._accelerator.device) / 1e9
        if self._last is not None:
            norm = float(self._last.norm)
            line |= {"gradient_norm": norm if isfinite(norm) else None, "lr": self._last.lr}
        self._log(self._progress.step, **line)
        known = {name: value for name, value in line.items() if value is not None}
        self._accelerator.log(known, step=self._progress.step)

    def evaluated(self, number: int, evaluation: Evaluation) -> None:
        """Record an evaluation, with some of its answers."""
        examples = [shown.row() for shown in evaluation.shown]
        values = {"eval_loss": evaluation.loss, "eval_score": evaluation.score}
        self._log(number, **values, metric=evaluation.metric, examples=examples)
        self._accelerator.log(values, step=number)
        for tracker in self._accelerator.trackers:
            tracker.log({"answers": _markdown(examples)}, step=number)
            # Of the trackers only TensorBoard has to be told where the channels are.
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            for position, shown in enumerate(evaluation.shown):
                name = f"answers/{position}: {shown.question}"
                tracker.log_images({name: shown.picture[None]}, step=number, **layout)
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


def _markdown(examples: list[dict[str, str]]) -> str:
    """Answers as a table."""
    header = ("question", "prediction", "reference")
    rows = [header, ("---",) * len(header), *([row[name] for name in header] for row in examples)]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
