"""The directory of a run: its configuration, its log, and the model that it made.

RUN/config.yaml      every option, as given or by default
RUN/environment.json versions, git state, the data's fingerprints, the machine
RUN/log.jsonl        one object a line: what was measured at a step
RUN/checkpoints/     what to resume from (`florence_train.checkpoint`)
RUN/features/        page features of a frozen tower (`florence_train.feature_cache`)
RUN/model/           the checkpoint to use, in the hub's layout
RUN/scores/          the evaluation of that checkpoint: tables, and report.html to look at
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from florence_data import InputError
from florence_eval import Scores, report
from florence_train.checkpoint import DIRECTORY, Progress, checkpoints
from florence_train.config import TrainConfig
from florence_train.errors import TrainingError
from florence_train.model import Florence
from florence_train.survey import set_fingerprints

CONFIG, ENVIRONMENT, LOG = "config.yaml", "environment.json", "log.jsonl"
FEATURES, MODEL, SCORES = "features", "model", "scores"
NEW_MODEL, OLD_MODEL = f"{MODEL}.new", f"{MODEL}.old"

FREE_TO_CHANGE = {
    *("resume", "workers", "max_questions", "log_every", "save_every", "keep_last", "track"),
    *("dry_run", "out", "patience"),
}
"""Options that a resumed run may set otherwise: none of them changes what is learnt."""

BY_CONTENT = {"data", "eval_data"}
"""Options that may name the same shards by another path."""

PACKAGES = ("torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "pillow")


def find_checkpoint(config: TrainConfig) -> Path | None:
    """The checkpoint that a run goes on from; None where it begins. Nothing is written.

    Raises `InputError` if something else is in the run's directory, or, to be resumed, a run with
    other options or other data.
    """
    directory = Path(config.out)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: a file; a new or an empty directory is accepted")
    begun = (directory / CONFIG).exists()
    if config.resume and begun:
        _same_options(directory / CONFIG, config)
        _same_data(directory / ENVIRONMENT, config)
        return max(checkpoints(directory), default=None)
    # A run that was killed while its directory was made has no configuration yet.
    begun_only = {ENVIRONMENT, Path(CONFIG).with_suffix(".new").name}
    held = directory.exists() and {path.name for path in directory.iterdir()} - begun_only
    if held:
        what = "another run" if begun else "something else"
        raise InputError(
            f"{directory}: holds {what}; a new or an empty directory is accepted"
            + (", or --resume to go on with the run" if begun else "")
        )
    return None


def open_run(config: TrainConfig) -> None:
    """Make the run's directory, or remove what a killed process left in it half written.

    Raises `InputError` where it cannot be made.
    """
    directory = Path(config.out)
    if (directory / CONFIG).exists():
        if not (directory / MODEL).exists() and (directory / OLD_MODEL).exists():
            (directory / OLD_MODEL).rename(directory / MODEL)
        for leftover in (directory / NEW_MODEL, *(directory / DIRECTORY).glob("*.new")):
            shutil.rmtree(leftover, ignore_errors=True)
        return
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "data": set_fingerprints(config.data),
        "eval_data": set_fingerprints(config.eval_data),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ENVIRONMENT).write_text(json.dumps(environment, indent=1) + "\n")
        config.save(directory / CONFIG)  # last: with it, the directory is a run
    except OSError as error:
        raise InputError(f"{directory}: cannot be made ({error.strerror})") from None


def _same_options(path: Path, config: TrainConfig) -> None:
    try:
        recorded = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        recorded = None
    if not isinstance(recorded, dict):
        raise InputError(f"{path}: cannot be read as the options that the run began with")
    for name, value in yaml.safe_load(config.to_yaml()).items():
        if name not in FREE_TO_CHANGE | BY_CONTENT and recorded.get(name) != value:
            raise InputError(
                f"{path}: {name} is {recorded.get(name)!r}, and {value!r} now; "
                "a run resumes with its own options"
            )


def _same_data(path: Path, config: TrainConfig) -> None:
    try:
        recorded = json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read as what the run began with") from None
    for name in sorted(BY_CONTENT):
        then, now = recorded[name], set_fingerprints(getattr(config, name))
        if list(then.values()) != list(now.values()):
            raise InputError(
                f"{', '.join(now) or 'no ' + name}: not the shards that the run {path.parent} "
                f"began with, {', '.join(then) or 'none'}"
            )


def forget_after(directory: Path, progress: Progress) -> None:
    """Remove the log's lines of what will be done again, and that the run ended."""
    path = directory / LOG
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    kept = [line for line in lines if _is_done(json.loads(line), progress)]
    new = path.with_suffix(".new")
    new.write_text("".join(line + "\n" for line in kept))
    new.replace(path)


def _is_done(line: dict[str, Any], progress: Progress) -> bool:
    done = progress.evaluated if "eval_score" in line else progress.step
    return "ended" not in line and int(line["step"]) <= done


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> str | None:
    """The commit of this code, with a mark if files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def log(directory: Path, step: int, **values: object) -> None:
    """Append one object to the log."""
    with (directory / LOG).open("a") as file:
        file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")


def save_model(directory: Path, florence: Florence, accelerator: Accelerator) -> None:
    """Replace the run's model; one that is half written never stands under its name.

    All processes call it; the main one writes. Raises `TrainingError` where it cannot be written.
    """
    if accelerator.is_main_process:
        new, old = directory / NEW_MODEL, directory / OLD_MODEL
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            florence.save(new)
            if (directory / MODEL).exists():
                (directory / MODEL).rename(old)
            new.rename(directory / MODEL)
        except (OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise TrainingError(f"{directory / MODEL}: cannot be written: {reason}") from None
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def save_scores(
    directory: Path, scores: Scores, page: Callable[[str], bytes | None], accelerator: Accelerator
) -> None:
    """Write the tables of an evaluation and the report with its pages; `page` gives them by id."""
    if accelerator.is_main_process:
        scores.write(directory / SCORES)
        report(scores, directory / SCORES, images=page)
    accelerator.wait_for_everyone()
