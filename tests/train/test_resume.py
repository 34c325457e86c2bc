"""A run that is stopped at any moment and resumed ends with the same bits as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from florence_data import InputError
from florence_train import TrainConfig, TrainResult, train
from florence_train.checkpoint import checkpoints

STEPS = 12


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Twelve steps in parts, with evaluations and checkpoints at different ones."""
    return TrainConfig(
        data=(str(shards),),
        eval_data=(str(shards),),
        out=str(tmp_path_factory.mktemp("undisturbed") / "run"),
        model="tiny",
        lr=1e-3,
        warmup_steps=4,
        epochs=20,
        max_steps=STEPS,
        batch_size=8,
        max_questions=5,
        eval_every=5,
        eval_pages=2,
        max_new_tokens=8,
        save_every=3,
        keep_last=2,
        log_every=1,
        workers=0,
    )


@pytest.fixture(scope="module")
def undisturbed(config: TrainConfig) -> TrainResult:
    return train(config)


def weights_and_moments(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a finished run's last checkpoint, by name."""
    state = torch.load(run / "checkpoints" / f"step-{STEPS:08}" / "state.pt", weights_only=True)
    tensors = {f"model.{name}": tensor for name, tensor in state["model"].items()}
    for parameter, moments in state["optimizer"]["state"].items():
        tensors |= {f"{parameter}.{name}": torch.as_tensor(m) for name, m in moments.items()}
    return tensors


def assert_same(run: Path, other: Path) -> None:
    one, two = weights_and_moments(run), weights_and_moments(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    losses = [
        [
            (line["step"], line.get("loss"), line.get("eval_loss"), line.get("eval_score"))
            for line in map(json.loads, (path / "log.jsonl").read_text().splitlines())
        ]
        for path in (run, other)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == STEPS + 3


def killed(work: Callable[[], object], when: Callable[[int], None]) -> bool:
    """Do some work in a child process and kill it; true if it died of that."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
                work()
            code = 0
        finally:
            os._exit(code)
    when(child)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def kill_until_done(config: TrainConfig, seed: int, kills: int) -> int:
    """Run and kill after random times; returns how many kills struck. A last run ends it."""
    rng = random.Random(seed)
    struck = 0
    for _ in range(kills):
        resume = (Path(config.out) / "config.yaml").exists()
        if not resume and Path(config.out).exists():
            for leftover in Path(config.out).iterdir():
                leftover.unlink()  # killed before it was a run

        def kill(child: int) -> None:
            time.sleep(rng.uniform(0.1, 1.2))
            os.kill(child, signal.SIGKILL)

        struck += killed(lambda resume=resume: train(replace(config, resume=resume)), kill)
    train(replace(config, resume=(Path(config.out) / "config.yaml").exists()))
    return struck


def test_killed_at_random_moments(
    config: TrainConfig, undisturbed: TrainResult, tmp_path: Path
) -> None:
    other = replace(config, out=str(tmp_path / "run"))
    assert kill_until_done(other, seed=0, kills=4) > 0
    assert_same(undisturbed.directory, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_many_random_moments(
    config: TrainConfig, undisturbed: TrainResult, tmp_path: Path, seed: int
) -> None:
    other = replace(config, out=str(tmp_path / "run"))
    assert kill_until_done(other, seed=seed, kills=20) > 2
    assert_same(undisturbed.directory, tmp_path / "run")


@pytest.mark.parametrize("nth", [3, 4])
def test_killed_while_a_checkpoint_is_written(
    config: TrainConfig,
    undisturbed: TrainResult,
    tmp_path: Path,
    nth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third file is half of the second checkpoint, the fourth its second half."""
    other = replace(config, out=str(tmp_path / "run"))
    save, saved = torch.save, []

    def dying(*arguments: object) -> None:
        saved.append(arguments)
        if len(saved) == nth:
            arguments[1].write(b"half of it")  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("florence_train.checkpoint.torch.save", dying)
        assert killed(lambda: train(other), lambda child: None)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000003"]
    assert (tmp_path / "run" / "checkpoints" / "step-00000006.new").is_dir()
    train(replace(other, resume=True))
    assert_same(undisturbed.directory, tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_a_resumed_run_ends_the_same(
    config: TrainConfig,
    undisturbed: TrainResult,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(config, out=str(tmp_path / "run"))
    from florence_train.recorder import Recorder

    add = Recorder.add

    def signalled(self: Recorder, step: object) -> None:
        add(self, step)  # type: ignore[arg-type]
        if step.number == 4:  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "add", signalled)
        stopped = train(other)
    assert stopped.ended == "interrupted"
    assert 4 < stopped.steps < STEPS
    resumed = train(replace(other, resume=True))
    assert (resumed.ended, resumed.steps) == ("finished", STEPS)
    assert_same(undisturbed.directory, tmp_path / "run")


def test_only_the_last_checkpoints_stay(undisturbed: TrainResult) -> None:
    names = [path.name for path in checkpoints(undisturbed.directory)]
    assert names == ["step-00000009", "step-00000012"]


def test_a_finished_run_resumes_to_nothing(config: TrainConfig, undisturbed: TrainResult) -> None:
    again = train(replace(config, resume=True))
    assert again.steps == STEPS
    assert_same(undisturbed.directory, again.directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 2e-3}, "lr is 0.001, and 0.002 now; a run resumes with its own options"),
        ({"seed": 1}, "seed is 0, and 1 now"),
        ({"out": "nowhere"}, "no run to resume there"),
    ],
)
def test_a_run_resumes_with_its_own_options_only(
    config: TrainConfig, undisturbed: TrainResult, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(replace(config, resume=True, **change))  # type: ignore[arg-type]
    assert not Path("nowhere").exists()


def test_a_run_does_not_resume_on_other_data(
    config: TrainConfig, undisturbed: TrainResult, tmp_path: Path
) -> None:
    description = Path(config.data[0]) / "dataset.json"
    kept = description.read_bytes()
    try:
        description.write_bytes(kept.rstrip() + b" \n")
        with pytest.raises(InputError, match="not the shards that the run"):
            train(replace(config, resume=True))
    finally:
        description.write_bytes(kept)
