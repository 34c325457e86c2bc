"""A rehearsal: the heaviest steps of a run without the optimiser, and what the whole would take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
from accelerate import Accelerator

from florence_data import InputError
from florence_train.batches import Group, Groups, PageReader, count_questions, pack
from florence_train.config import TrainConfig
from florence_train.evaluation import Evaluator
from florence_train.feature_cache import tower_features
from florence_train.interruption import StopRequest
from florence_train.memory import forget_peak, memory_advice, peak_memory
from florence_train.model import Florence, question_losses, set_train_mode

EVALUATED_PAGES = 4
"""Pages of the evaluation that a rehearsal answers."""


@dataclass(frozen=True)
class Rehearsal:
    """What a run would take.

    `seconds_a_step` is of the heaviest of `steps`, of which `first_epoch` encode their pages, and
    `seconds_a_cached_step` of the same with features that are there (equal where none are kept), so
    `hours` is an upper end. `memory_gb` is the device's peak (on the CPU, this process's) with the
    optimiser's two moments added, which a rehearsal does not make. `evaluation_seconds` is for all
    pages of an evaluation; sizes are in bytes.
    """

    steps: int
    first_epoch: int
    seconds_a_step: float
    seconds_a_cached_step: float
    memory_gb: float
    longest_target: int
    most_questions: int
    evaluations: int
    evaluation_seconds: float
    model_bytes: int
    checkpoint_bytes: int
    features_bytes: int

    @property
    def hours(self) -> float:
        """For all steps and evaluations."""
        encoded = self.first_epoch * self.seconds_a_step
        cached = (self.steps - self.first_epoch) * self.seconds_a_cached_step
        return (encoded + cached + self.evaluations * self.evaluation_seconds) / 3600

    def lines(self, config: TrainConfig) -> list[str]:
        """What a person wants to know before starting."""
        cached = f", {self.seconds_a_cached_step:.2f} s after the first epoch"
        # While a checkpoint is written, those that stay are there as well.
        held = (config.keep_last + 1) * self.checkpoint_bytes
        parts = [f"model/ ({_size(self.model_bytes)})", f"checkpoints/ ({_size(held)})"]
        if self.features_bytes:
            parts.append(f"features/ ({_size(self.features_bytes)})")
        parts += ["scores/"] * bool(self.evaluations) + ["tracking/"] * bool(config.track)
        lines = [
            f"{self.steps} steps, longest answer {self.longest_target} tokens, most questions "
            f"together {self.most_questions}",
            f"{self.seconds_a_step:.2f} s for the heaviest step"
            + (cached if self.features_bytes else ""),
            f"{self.evaluations} evaluations of {self.evaluation_seconds:.1f} s each",
            f"{_duration(self.hours)} at most",
            f"{self.memory_gb:.2f} GB of memory with the optimiser's state",
            f"would write to {config.out}: config.yaml, environment.json, log.jsonl, "
            + ", ".join(parts),
        ]
        return lines


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def rehearse(
    config: TrainConfig,
    accelerator: Accelerator,
    florence: Florence,
    reader: PageReader,
    shares: Sequence[Sequence[Groups]],
    longest: Group,
    per_epoch: int,
    evaluator: Evaluator | None,
    features_bytes: int,
) -> Rehearsal:
    """Forward and backward of two steps, with the longest target and with the most questions, and
    the beginning of an evaluation.

    `shares` are the parts of each step that this process computes, `features_bytes` what the
    features of all pages will take, 0 where none are kept. Raises `InputError` if the device's
    memory does not suffice, with the number of questions at a time that fits.
    """
    device = accelerator.device
    set_train_mode(florence.model)
    heaviest = [
        next((share for share in shares if _holds(share, longest)), shares[0]),
        max(shares, key=_questions),
    ]
    computer = _Computer(accelerator, florence, reader)
    try:
        slowest = max(computer.seconds(share) for share in heaviest)
    except torch.OutOfMemoryError:
        raise _what_fits(config, computer, heaviest) from None
    memory = peak_memory(device)
    cached = slowest
    if features_bytes:
        cached = max(computer.seconds(share, encoded=True) for share in heaviest)
    evaluations, evaluation_seconds = 0, 0.0
    if evaluator is not None:
        pages = evaluator.groups[: EVALUATED_PAGES * accelerator.num_processes]
        began = time.perf_counter()
        with memory_advice(config, device):
            replace(evaluator, groups=pages)(florence, accelerator, StopRequest())
        evaluation_seconds = (time.perf_counter() - began) * len(evaluator.groups) / len(pages)
        evaluations = ceil(len(shares) / (config.eval_every or per_epoch))
    moments = 2 * 4 * sum(p.numel() for p in florence.model.parameters() if p.requires_grad)
    weights = 4 * sum(p.numel() for p in florence.model.parameters())
    return Rehearsal(
        steps=len(shares),
        first_epoch=min(per_epoch, len(shares)),
        seconds_a_step=slowest,
        seconds_a_cached_step=cached,
        memory_gb=(memory + moments) / 1e9,
        longest_target=computer.longest_target,
        most_questions=_questions(heaviest[1]),
        evaluations=evaluations,
        evaluation_seconds=evaluation_seconds,
        model_bytes=weights,
        checkpoint_bytes=weights + moments,
        features_bytes=features_bytes,
    )


@dataclass
class _Computer:
    """Computes shares of steps, and notes the longest target in tokens."""

    accelerator: Accelerator
    florence: Florence
    reader: PageReader
    longest_target: int = 0

    def seconds(self, share: Sequence[Groups], encoded: bool = False) -> float:
        """How long a share takes, once warmed up, its reading too; where its pages are `encoded`
        before, what is computed then alone."""
        device, model = self.accelerator.device, self.florence.model
        for _ in range(2):
            began = time.perf_counter()
            for batch in self.reader.batches(share):
                self.longest_target = max(self.longest_target, int(batch.question_tokens.max()))
                batch = batch.to(device)
                if encoded:
                    paused = time.perf_counter()
                    with torch.no_grad(), self.accelerator.autocast():
                        stored = tower_features(model, batch.pixels).to(torch.bfloat16)
                    batch = replace(batch, pixels=batch.pixels[:0], stored=stored)
                    _finish(device)
                    began += time.perf_counter() - paused
                with self.accelerator.autocast():
                    losses = question_losses(self.florence.grouped(batch), batch.labels)
                self.accelerator.backward(losses.sum())
            model.zero_grad()
            _finish(device)
            took = time.perf_counter() - began
        return took


def _what_fits(
    config: TrainConfig, computer: _Computer, heaviest: Sequence[Sequence[Groups]]
) -> InputError:
    """The error that says how many questions at a time fit, found by halving."""
    device = computer.accelerator.device
    fits = config.max_questions // 2
    while fits:
        computer.florence.model.zero_grad()
        forget_peak(device)
        try:
            for share in heaviest:
                computer.seconds([part for whole in share for part in pack(whole, fits)])
            break
        except torch.OutOfMemoryError:
            fits //= 2
    advice = "use --checkpoint-activations, --freeze-vision or --lora-rank 8"
    if fits:
        used = peak_memory(device) / 1e9
        advice = (
            f"--max-questions {fits} computes the same steps with {used:.1f} GB and the "
            f"optimiser's state; or {advice}"
        )
    return InputError(
        f"{config.max_questions} questions at a time do not fit into memory: {advice}"
    )


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _holds(share: Sequence[Groups], page: Group) -> bool:
    return any((g.data, g.page) == (page.data, page.page) for part in share for g in part)


def _questions(share: Sequence[Groups]) -> int:
    return sum(map(count_questions, share))
