"""How much memory a device has used, and what to lower where it does not suffice."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from florence_data import InputError
from florence_train.config import TrainConfig


def peak_memory(device: torch.device) -> float:
    """Bytes at most since `forget_peak`: the device's, or this process's in all of its life where
    it computes itself."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def forget_peak(device: torch.device) -> None:
    """Begin anew with the peak of a device that keeps one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


@contextmanager
def memory_advice(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Turn a device's lack of memory into an `InputError` that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"{config.max_questions} questions at a time do not fit into {_size(device)} of memory "
            f"(used: {peak_memory(device) / 1e9:.1f} GB): lower --max-questions, which leaves the "
            "steps as they are, or use --checkpoint-activations, --freeze-vision or --lora-rank 8; "
            "--dry-run finds how many fit"
        ) from None


def _size(device: torch.device) -> str:
    if device.type != "cuda":
        return "this machine's"
    return f"the GPU's {torch.cuda.get_device_properties(device).total_memory / 1e9:.1f} GB"
