"""Two processes train as one does, whatever the data's shape, and fail together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from florence_data import InputError, Sample
from florence_train import PredictConfig, TrainConfig, predict, train
from florence_train.interruption import StopRequest

OPTIONS = [
    *("--model", "tiny", "--lr", "1e-3", "--epochs", "3", "--batch-size", "5", "--workers", "0"),
    *("--max-questions", "3", "--eval-every", "4", "--eval-pages", "3", "--log-every", "1"),
    *("--max-new-tokens", "8"),
]


def launch(
    processes: int, script: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in so many processes on the CPU, with gloo between them."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), str(script), *arguments),
        ],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        | (environment or {}),
        capture_output=True,
        text=True,
        timeout=180,
    )


def log(run: Path) -> list[dict[str, float]]:
    """Its lines but the last, which says that the run ended."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines.pop()["ended"] == "finished"
    return lines


def test_two_processes_have_the_losses_of_one(
    repository: Path, shards: Path, tmp_path: Path
) -> None:
    """Pages have one to four questions: some steps have one page, so that a process has none."""
    options = [*("--data", str(shards), "--eval-data", str(shards)), *OPTIONS]
    tool = repository / "tools" / "train.py"
    done = launch(2, tool, *options, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the model is in") == 1
    train(tyro.cli(TrainConfig, args=[*options, "--out", str(tmp_path / "one")]))
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == len(two)
    for alone, together in zip(one, two, strict=True):
        assert alone.keys() == together.keys()
        for name in ("loss", "gradient_norm", "eval_loss"):
            if name in alone:
                assert together[name] == pytest.approx(alone[name], rel=1e-4), alone["step"]
        for name in ("step", "questions", "pages", "eval_score"):
            assert together.get(name) == alone.get(name)
    assert sum(line.get("questions", 0) for line in two) == 3 * 20


def test_a_checkpoint_of_one_process_goes_on_in_two(
    repository: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data", str(shards), "--out", str(tmp_path / "run"), *OPTIONS]
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "made", True)
        config = tyro.cli(TrainConfig, args=[*options, "--save-every", "2"])
        assert train(config).ended == "interrupted"
    done = launch(2, repository / "tools" / "train.py", *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert "2 processes instead of 1: the same questions in the same steps" in done.stdout
    train(
        tyro.cli(
            TrainConfig, args=["--data", str(shards), "--out", str(tmp_path / "one"), *OPTIONS]
        )
    )
    for alone, together in zip(log(tmp_path / "one"), log(tmp_path / "run"), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)


def test_processes_that_do_not_see_each_other_are_refused(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = ["--data", str(shards), "--out", str(tmp_path / "run"), *OPTIONS]
    with pytest.raises(InputError, match="launched in 2 processes, of which accelerate sees 1"):
        train(tyro.cli(TrainConfig, args=options))


def test_two_processes_answer_as_one_does(repository: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.jsonl"
    options = ["--model", "tiny", "--data", str(shards), "--batch-size", "5", "--workers", "0"]
    done = launch(2, repository / "tools" / "predict.py", *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    alone = tmp_path / "one.jsonl"
    predict(PredictConfig(model="tiny", data=str(shards), out=str(alone), batch_size=5, workers=0))
    assert out.read_bytes() == alone.read_bytes()


def test_an_error_in_one_process_ends_all_within_seconds(
    repository: Path,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
) -> None:
    data = write_shards(tmp_path / "data", pages)
    script = tmp_path / "train_and_fail.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(repository / 'tools')!r})\n"
        "import train\n"
        "from florence_train.recorder import Recorder\n"
        "add = Recorder.add\n"
        "def failing(self, step):\n"
        "    add(self, step)\n"
        "    if os.environ['RANK'] == '1' and step.number == 2:\n"
        "        raise RuntimeError('this process fails')\n"
        "Recorder.add = failing\n"
        "train.main(sys.argv[1:])\n"
    )
    began = time.monotonic()
    done = launch(2, script, "--data", str(data), "--out", str(tmp_path / "run"), *OPTIONS)
    assert done.returncode != 0
    assert "this process fails" in done.stderr
    assert time.monotonic() - began < 90
