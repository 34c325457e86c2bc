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

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from florence_data import InputError
from florence_eval import Scores, report
from florence_train.checkpoint import checkpoints
from florence_train.config import TrainConfig
from florence_train.model import Florence

CONFIG, ENVIRONMENT, LOG = "config.yaml", "environment.json", "log.jsonl"
FEATURES, MODEL, SCORES = "features", "model", "scores"

FREE_TO_CHANGE = {
    *("resume", "workers", "max_questions", "log_every", "save_every", "keep_last", "track"),
    "dry_run",
}
"""Options that a resumed run may set otherwise: none of them changes what is learnt."""

PACKAGES = ("torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "pillow")


def open_run(config: TrainConfig) -> Path | None:
    """Make the run's directory, or find where to go on; returns the checkpoint to resume, if any.

    Raises `InputError` if something else is there, if `resume` finds no run, or if it finds one
    with other options or other data.
    """
    directory = Path(config.out)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: a file; a new or an empty directory is accepted")
    held = directory.exists() and any(directory.iterdir())
    if not config.resume:
        if held:
            what = "another run" if (directory / CONFIG).exists() else "something else"
            raise InputError(
                f"{directory}: holds {what}; a new or an empty directory is accepted, "
                "or --resume to go on with the run"
            )
        _begin(directory, config)
        return None
    if not held:
        raise InputError(f"{directory}: no run to resume there; leave --resume out to begin one")
    _same_options(directory / CONFIG, config)
    _same_data(directory / ENVIRONMENT, config)
    found = checkpoints(directory)
    _forget_after(directory / LOG, int(found[-1].name.partition("-")[2]) if found else 0)
    return found[-1] if found else None


def _begin(directory: Path, config: TrainConfig) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot be made ({error.strerror})") from None
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "data": fingerprints(config.data),
        "eval_data": fingerprints(config.eval_data),
    }
    (directory / ENVIRONMENT).write_text(json.dumps(environment, indent=1) + "\n")
    config.save(directory / CONFIG)  # last: with it, the directory is a run


def fingerprints(sets: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each shard set's description, which holds the checksums of all of it."""
    return {
        path: hashlib.sha256((Path(path) / "dataset.json").read_bytes()).hexdigest()
        for path in sets
        if (Path(path) / "dataset.json").is_file()
    }


def _same_options(path: Path, config: TrainConfig) -> None:
    try:
        recorded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path.parent}: not the directory of a run: no {path.name}") from None
    for name, value in yaml.safe_load(config.to_yaml()).items():
        if name not in FREE_TO_CHANGE and recorded.get(name) != value:
            raise InputError(
                f"{path}: {name} is {recorded.get(name)!r}, and {value!r} now; "
                "a run resumes with its own options"
            )


def _same_data(path: Path, config: TrainConfig) -> None:
    recorded = json.loads(path.read_text())
    for name, sets in (("data", config.data), ("eval_data", config.eval_data)):
        for data, fingerprint in fingerprints(sets).items():
            if recorded[name].get(data) != fingerprint:
                raise InputError(f"{data}: not the shards that the run {path.parent} began with")


def _forget_after(path: Path, step: int) -> None:
    """Remove the log's lines of steps that will be done again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        new = path.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in kept))
        new.replace(path)


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
        file.write(json.dumps({"step": step, **values}) + "\n")


def save_model(directory: Path, florence: Florence, accelerator: Accelerator) -> None:
    """Replace the run's model; one that is half written never stands under its name.

    All processes call it; the main one writes.
    """
    if accelerator.is_main_process:
        new, old = directory / "model.new", directory / "model.old"
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        florence.save(new)
        if (directory / MODEL).exists():
            (directory / MODEL).rename(old)
        new.rename(directory / MODEL)
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
