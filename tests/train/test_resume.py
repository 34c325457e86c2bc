"""A run that is stopped at any moment and resumed ends with the same bits as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from florence_data import InputError
from florence_train import TrainConfig, TrainResult, load_florence, train
from florence_train.checkpoint import checkpoints

STEPS = 12

LOGGED = ("step", "loss", "questions", "pages", "lr", "eval_loss", "eval_score", "ended")


@pytest.fixture(scope="module")
def config(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Twelve steps in parts, with evaluations, checkpoints and lines of the log now and then."""
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
        log_every=4,
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
            tuple(line.get(name) for name in LOGGED)
            for line in map(json.loads, (path / "log.jsonl").read_text().splitlines())
        ]
        for path in (run, other)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3 + 3 + 1  # lines, evaluations, and that it ended


def logged(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


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

        def kill(child: int) -> None:
            time.sleep(rng.uniform(0.1, 1.2))
            os.kill(child, signal.SIGKILL)

        struck += killed(lambda: train(replace(config, resume=True)), kill)
    train(replace(config, resume=True))
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
    assert not list((tmp_path / "run").rglob("*.new"))


def test_killed_while_the_model_is_replaced(
    config: TrainConfig, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """Between both renames the old model stands beside: it is used, and a resumed run takes it."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed.directory, run)
    (run / "model").rename(run / "model.old")
    kept = load_florence(str(undisturbed.directory)).model.state_dict()
    found = load_florence(str(run)).model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in found.items())
    train(replace(config, out=str(run), resume=True))
    assert (run / "model").is_dir() and not (run / "model.old").exists()


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


def test_a_signal_while_evaluating_is_not_waited_for_and_the_evaluation_is_made_up(
    config: TrainConfig,
    undisturbed: TrainResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(config, out=str(tmp_path / "run"), max_questions=1)
    from florence_train import evaluation

    answer, answered = evaluation.answer, []

    def signalled(*arguments: object, **options: object) -> object:
        answered.append(arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return answer(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "answer", signalled)
        stopped = train(other)
    assert (stopped.ended, stopped.steps, stopped.evaluation) == ("interrupted", 5, None)
    assert len(answered) == 1
    resumed = train(replace(config, out=other.out, resume=True))
    assert (resumed.ended, resumed.steps) == ("finished", STEPS)
    found, expected = (
        [(line["step"], line["eval_loss"]) for line in logged(run) if "eval_loss" in line]
        for run in (tmp_path / "run", undisturbed.directory)
    )
    assert found == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in expected]


def test_random_numbers_go_on_where_they_were(config: TrainConfig, tmp_path: Path) -> None:
    """Adapters with dropout draw some in each step."""
    drawing = replace(
        *(config,),
        lora_rank=2,
        lora_dropout=0.5,
        max_steps=4,
        log_every=1,
        save_every=2,
        eval_data=(),
    )
    once = train(replace(drawing, out=str(tmp_path / "once"), keep_last=2)).directory
    shutil.copytree(once, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000004")
    train(replace(drawing, out=str(tmp_path / "again"), resume=True))
    losses = [[line.get("loss") for line in logged(tmp_path / run)] for run in ("once", "again")]
    assert losses[0] == losses[1]


def test_a_run_is_resumed_under_another_name_and_begun_where_there_is_none(
    config: TrainConfig, undisturbed: TrainResult, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(undisturbed.directory, moved)
    data = str(Path(config.data[0]).parent / "." / Path(config.data[0]).name) + "/"
    again = replace(config, out=str(moved), data=(data,), resume=True)
    assert train(again).steps == STEPS
    fresh = train(
        replace(config, out=str(tmp_path / "new"), resume=True, max_steps=1, eval_data=())
    )
    assert (fresh.ended, fresh.steps) == ("finished", 1)


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
    ],
)
def test_a_run_resumes_with_its_own_options_only(
    config: TrainConfig, undisturbed: TrainResult, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(replace(config, resume=True, **change))  # type: ignore[arg-type]


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
