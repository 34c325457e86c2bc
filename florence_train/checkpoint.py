"""Checkpoints to resume from: everything that the next step depends on.

    RUN/checkpoints/step-00000150/state.pt       model, optimiser, scaler, progress
    RUN/checkpoints/step-00000150/rank-0000.pt   each process's random numbers, and what it has
                                                 measured since the last line of the log

A checkpoint is written under another name and renamed when it is complete. The weights are float32
and whole, whatever the number of processes, so that another number of them can go on.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from florence_data import InputError
from florence_train.errors import TrainingError
from florence_train.measurements import Measurements

DIRECTORY, STATE = "checkpoints", "state.pt"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass
class Progress:
    """How far a run is.

    `step` and `questions` are done, `loss` is the last one logged; `evaluated` is the step of the
    last evaluation, `best` the best one's score so far, `stale` the number of evaluations since;
    `skipped` is the number of steps left out for a loss or gradient that was not finite.
    """

    step: int = 0
    questions: int = 0
    loss: float | None = None
    evaluated: int = 0
    best: float | None = None
    stale: int = 0
    skipped: int = 0


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run / DIRECTORY).glob("step-*") if not path.suffix)


def save_checkpoint(
    run: Path,
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    progress: Progress,
    window: Measurements,
    keep_last: int,
) -> None:
    """Write a checkpoint, then remove all but the newest `keep_last`. All processes call it, each
    with what it has measured since the last line of the log. Raises `TrainingError` where it cannot
    be written.
    """
    final = run / DIRECTORY / f"step-{progress.step:08}"
    new = final.with_suffix(".new")
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    accelerator.wait_for_everyone()
    mine = {"random": _random_state(), "window": window.state()}
    _save(mine, new / f"rank-{accelerator.process_index:04}.pt")
    weights, moments = get_state_dict(model, optimizer, options=_WHOLE)
    if accelerator.is_main_process:
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        state = {
            "model": weights,
            "optimizer": moments,
            "scaler": scaler,
            "progress": asdict(progress),
            "processes": accelerator.num_processes,
        }
        _save(state, new / STATE)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():  # the same step again, after a resume
            shutil.rmtree(final)
        new.rename(final)
        _sync(final.parent)
        for old in checkpoints(run)[:-keep_last]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(
    checkpoint: Path, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer
) -> tuple[Progress, Measurements, str | None]:
    """Restore a checkpoint; returns the progress, what this process has to go on measuring with,
    and a line on what differs from then, if any. Raises `InputError` for a damaged one."""
    state = _load(checkpoint / STATE)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(full_state_dict=True),
    )
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    ranks = [_load(checkpoint / f"rank-{rank:04}.pt") for rank in range(state["processes"])]
    windows = [Measurements.from_state(rank["window"]) for rank in ranks]
    window = Measurements()
    if accelerator.is_main_process:
        window = Measurements.of_processes(windows)
    note = None
    if state["processes"] == accelerator.num_processes:
        _restore_random_state(ranks[accelerator.process_index]["random"])
    else:
        note = (
            f"{accelerator.num_processes} processes instead of {state['processes']}: the same "
            "questions in the same steps, other random numbers for drop-path and dropout"
        )
    return Progress(**state["progress"]), window, note


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _save(state: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # the latter is what torch makes of a full disk
        raise TrainingError(
            f"{path}: cannot be written: {_line(error)}; the checkpoint before it stays"
        ) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path}: cannot be read: {_line(error)}; without the directory of this checkpoint, "
            "--resume goes on from the one before"
        ) from None
    return state


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


def _sync(directory: Path) -> None:
    """Make a rename in a directory last through a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
