"""A rehearsal: the heaviest steps of a run without the optimiser, and what the whole would take."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from florence_data import InputError
from florence_train.batches import Group, Groups, PageReader, pack
from florence_train.checks import question_losses
from florence_train.config import TrainConfig
from florence_train.model import Florence, set_train_mode


@dataclass(frozen=True)
class Rehearsal:
    """What a run would take; `seconds_a_step` is of the heaviest step, so `hours` is an upper end.

    `memory_gb` is the device's peak (on the CPU, this process's) with the optimiser's two moments
    added, which a rehearsal does not make.
    """

    steps: int
    questions: int
    seconds_a_step: float
    memory_gb: float
    longest_target: int
    most_questions: int

    @property
    def hours(self) -> float:
        """For all steps, evaluations not counted."""
        return self.steps * self.seconds_a_step / 3600

    def lines(self, config: TrainConfig) -> list[str]:
        """What a person wants to know before starting."""
        return [
            f"{self.questions} questions in {self.steps} steps",
            f"longest answer {self.longest_target} tokens, most questions together "
            f"{self.most_questions}",
            f"{self.seconds_a_step:.2f} s for the heaviest step, {self.hours:.2f} h at most",
            f"{self.memory_gb:.2f} GB of memory with the optimiser's state",
            f"would write to {config.out}: config.yaml, log.jsonl, model/, checkpoints/"
            + (" and features/" if config.freeze_vision and config.cache_features else ""),
        ]


def rehearse(
    config: TrainConfig,
    accelerator: Accelerator,
    florence: Florence,
    reader: PageReader,
    steps: list[Groups],
    longest: Group,
) -> Rehearsal:
    """Forward and backward of two steps: with the longest target, and with the most questions.

    Each is computed once to warm up and once by the clock. Raises `InputError` if the device's
    memory does not suffice.
    """
    device = accelerator.device
    florence.model.to(device)
    set_train_mode(florence.model)
    heaviest = [
        next((step for step in steps if any(_same_page(g, longest) for g in step)), steps[0]),
        max(steps, key=_questions),
    ]
    slowest, target = 0.0, 0
    with memory_advice(config):
        for step in heaviest:
            for _ in range(2):
                began = time.perf_counter()
                for batch in reader.batches(pack(step, config.max_questions)):
                    target = max(target, int(batch.question_tokens.max()))
                    batch = batch.to(device)
                    with accelerator.autocast():
                        losses = question_losses(florence.grouped(batch), batch.labels)
                    accelerator.backward(losses.sum())
                florence.model.zero_grad()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - began
            slowest = max(slowest, seconds)
    moments = 2 * 4 * sum(p.numel() for p in florence.model.parameters() if p.requires_grad)
    return Rehearsal(
        steps=len(steps),
        questions=sum(map(_questions, steps)),
        seconds_a_step=slowest,
        memory_gb=(_peak_memory(device) + moments) / 1e9,
        longest_target=target,
        most_questions=_questions(heaviest[1]),
    )


@contextmanager
def memory_advice(config: TrainConfig) -> Iterator[None]:
    """Turn a device's lack of memory into an `InputError` that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError:
        total = torch.cuda.get_device_properties(0).total_memory / 1e9
        raise InputError(
            f"{total:.1f} GB of GPU memory do not suffice for {config.max_questions} questions at "
            "a time: lower --max-questions (the steps stay the same), or use "
            "--checkpoint-activations, --freeze-vision or --lora-rank 8; --dry-run tells what a "
            "choice takes"
        ) from None


def _same_page(one: Group, other: Group) -> bool:
    return (one.data, one.page) == (other.data, other.page)


def _questions(step: Groups) -> int:
    return sum(len(group.questions) for group in step)


def _peak_memory(device: torch.device) -> float:
    """Bytes: the device's, or this process's where it computes itself."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
