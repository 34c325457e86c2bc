"""FSDP trains, evaluates, saves and resumes as one process does, and refuses what it cannot do.

accelerate offers FSDP on GPUs only. Here it takes the CPU for one, with gloo between two processes;
all else is what `accelerate launch` does with the launch file of this repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import tyro
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin

from florence_data import InputError
from florence_train import PredictConfig, TrainConfig, load_florence, predict, train
from florence_train.fsdp import BLOCKS, refuse_unsupported
from florence_train.interruption import StopRequest

STEPS = [
    *("--lr", "3e-3", "--epochs", "1", "--batch-size", "5", "--max-questions", "2"),
    *("--workers", "0", "--log-every", "1", "--save-every", "4"),
]
"""Five steps, of which the two processes have (2, 1), (2, 0), (2, 0), (1, 2) and (1, 1) parts."""

EVALUATED = [*STEPS, "--eval-every", "3", "--eval-pages", "3", "--max-new-tokens", "12"]
"""One process evaluates two pages, the other one."""

LAUNCHED = """
import json, sys
import tyro
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from florence_data import InputError
from florence_train import PredictConfig, TrainConfig, predict, train
from florence_train.interruption import StopRequest
from florence_train.model import GroupedFlorence

forward = GroupedFlorence.forward

def spoiled(self, batch):
    trains = isinstance(self, FSDPModule) and PartialState().process_index == 1
    return forward(self, batch) * (float("nan") if trains else 1)

PartialState(cpu=True)
for how, arguments in json.loads(sys.argv[1]):
    AcceleratorState._reset_state()
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    StopRequest.made = how == "stopped"
    GroupedFlorence.forward = spoiled if how == "spoiled" else forward
    try:
        if how == "predict":
            predict(tyro.cli(PredictConfig, args=arguments))
        else:
            train(tyro.cli(TrainConfig, args=arguments))
    except InputError as error:
        sys.stdout.write(f"refused: {error}\\n")  # at once, as the other process does
"""


def train_alone(*options: str) -> None:
    """Train in this process."""
    AcceleratorState._reset_state()  # the precision of the run before
    train(tyro.cli(TrainConfig, args=options))


@dataclass(frozen=True)
class Runs:
    """What one process made in `one/` and two with FSDP in `two/`, and what the two printed."""

    directory: Path
    data: list[str]
    said: str

    def log(self, name: str) -> list[dict[str, Any]]:
        """The log of a run."""
        lines = (self.directory / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """The weights in a run's last checkpoint to resume from."""
        path = sorted((self.directory / name / "checkpoints").glob("step-*"))[-1] / "state.pt"
        weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
        return weights


@pytest.fixture(scope="module")
def runs(
    repository: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """All runs, in few processes, since each takes seconds to start."""
    directory = tmp_path_factory.mktemp("fsdp")
    one, two = directory / "one", directory / "two"
    data, both = ["--data", str(shards)], ["--data", str(shards), "--eval-data", str(shards)]
    begun = str(one / "whole")
    options = {
        "whole": [*both, *EVALUATED, "--model", "tiny"],
        "frozen": [*both, *EVALUATED, "--model", begun, "--freeze-vision", "--no-keep-best"],
        "bfloat16": [*both, *EVALUATED, "--model", "tiny", "--precision", "bfloat16"],
    }
    options["bfloat16"] += ["--checkpoint-activations", "--max-steps", "2"]
    for name, given in options.items():
        train_alone(*given, "--out", str(one / name))
    resumed = [*data, *STEPS, "--model", "tiny", "--out", str(two / "resumed")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "made", True)
        train_alone(*resumed)
    jobs = [
        *(("train", [*given, "--out", str(two / name)]) for name, given in options.items()),
        ("stopped", [*resumed, "--resume"]),
        ("spoiled", [*data, *STEPS, "--model", begun, "--max-steps", "1", "--out", "spoiled"]),
        ("predict", ["--model", begun, *data, "--out", "two.jsonl", "--workers", "0"]),
        ("train", [*data, "--model", "tiny", "--lora-rank", "2", "--out", "adapted"]),
    ]
    script = directory / "train_on_cpu.py"
    script.write_text(LAUNCHED)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file"),
            *(str(repository / "configs" / "accelerate-fsdp.yaml"), "--num_processes", "2"),
            *(str(script), json.dumps(jobs)),
        ],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield Runs(directory, data, done.stdout)
    AcceleratorState._reset_state()


def assert_same_steps(
    alone: list[dict[str, Any]], together: list[dict[str, Any]], rel: float
) -> None:
    assert len(alone) == len(together)
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        for name in ("loss", "gradient_norm", "eval_loss"):
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=rel), one["step"]
        for name in ("step", "questions", "pages", "eval_score"):
            assert two.get(name) == one.get(name)


def assert_same_change(
    start: dict[str, torch.Tensor], one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]
) -> None:
    """Two trainings moved the weights alike; Adam shows rounding where a gradient is small."""
    assert one.keys() == two.keys()
    change = torch.cat([(one[name] - start[name]).flatten() for name in start])
    difference = torch.cat([(one[name] - two[name]).flatten() for name in start])
    assert float(change.norm()) > 0
    assert float(difference.norm() / change.norm()) < 1e-2


@pytest.mark.parametrize("name", ["whole", "frozen"])
def test_two_processes_have_the_losses_and_the_gradients_of_one(runs: Runs, name: str) -> None:
    assert_same_steps(runs.log(f"one/{name}"), runs.log(f"two/{name}"), rel=1e-4)


def test_in_bfloat16_they_have_them_up_to_its_rounding(runs: Runs) -> None:
    assert_same_steps(runs.log("one/bfloat16"), runs.log("two/bfloat16"), rel=1e-2)
    exact, rounded = runs.log("two/whole"), runs.log("two/bfloat16")
    assert exact[0]["loss"] != pytest.approx(rounded[0]["loss"], rel=1e-6)


def test_each_question_is_answered_as_in_one_process(runs: Runs) -> None:
    tables = [
        pd.read_parquet(runs.directory / name / "scores" / "table.parquet")
        .set_index("question_id")["prediction"]
        .sort_index()
        for name in ("one/whole", "two/whole")
    ]
    pd.testing.assert_series_equal(*tables)
    assert len(set(map(len, tables[0]))) > 1


def test_the_saved_model_is_that_of_one_process(runs: Runs) -> None:
    start, one, two = (
        load_florence(str(runs.directory / name)).model.state_dict()
        for name in ("one/whole", "one/frozen", "two/frozen")
    )
    assert_same_change(start, one, two)
    frozen = [name for name in start if "vision_tower" in name]
    assert frozen and all(torch.equal(start[name], two[name]) for name in frozen)
    files = [
        sorted(p.name for p in (runs.directory / n / "frozen/model").iterdir())
        for n in ("one", "two")
    ]
    assert files[0] == files[1]
    assert "check: 144 frozen tensors are bit-identical to the start" in runs.said


def test_the_last_checkpoint_is_that_of_one_process(runs: Runs) -> None:
    start = {f"model.{n}": t for n, t in load_florence("tiny").model.state_dict().items()}
    assert_same_change(start, runs.weights("one/whole"), runs.weights("two/whole"))


def test_a_run_moves_from_one_process_to_fsdp_and_back(runs: Runs) -> None:
    """Stopped in one process, resumed and stopped with FSDP, ended in one process."""
    steps = [line["step"] for line in runs.log("two/resumed") if "ended" not in line]
    assert "2 processes instead of 1: the same questions in the same steps" in runs.said
    assert "stopped at step 4" in runs.said and steps == [1, 2, 3, 4]
    resumed = str(runs.directory / "two" / "resumed")
    train_alone(*runs.data, *STEPS, "--model", "tiny", "--out", resumed, "--resume")
    undisturbed = [line for line in runs.log("one/whole") if "loss" in line]
    gone_on = [line for line in runs.log("two/resumed") if "loss" in line]
    assert_same_steps(undisturbed, gone_on, rel=1e-4)


def test_a_step_that_is_not_finite_in_one_process_changes_no_weight(runs: Runs) -> None:
    lines = runs.log("spoiled")
    assert [line["step"] for line in lines if "skipped" in line] == [1]
    before, after = (
        load_florence(str(runs.directory / name)).model.state_dict()
        for name in ("one/whole", "spoiled")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_prediction_answers_with_the_whole_model_in_each_process(runs: Runs) -> None:
    alone = runs.directory / "one.jsonl"
    begun, data = str(runs.directory / "one" / "whole"), runs.data[1]
    AcceleratorState._reset_state()
    predict(PredictConfig(model=begun, data=data, out=str(alone), workers=0))
    assert (runs.directory / "two.jsonl").read_bytes() == alone.read_bytes()


def test_adapters_are_refused_before_anything_is_written(runs: Runs) -> None:
    refused = (
        "refused: --lora-rank in a launch with FSDP; accepted: adapters on one GPU or with DDP"
    )
    assert runs.said.count(refused) == 2
    assert not (runs.directory / "adapted").exists()


@pytest.mark.parametrize(
    ("plugin", "options", "message"),
    [
        ({"fsdp_version": 1}, {}, "launched with FSDP version 1; --fsdp_version 2 is accepted"),
        ({}, {"compile": True}, "--compile in a launch with FSDP; accepted: .* not compiled"),
        ({"cpu_offload": True}, {}, "fsdp_offload_params in a launch with FSDP; accepted: false"),
        ({"activation_checkpointing": True}, {}, "accepted: false, with --checkpoint-activations"),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP"}, {}, "accepted: TRANSFORMER_BASED_WRAP"),
        ({"transformer_cls_names_to_wrap": ["BartEncoder"]}, {}, f"accepted: some of {BLOCKS[0]}"),
        ({"ignored_modules": ".*decoder"}, {}, "fsdp_ignored_modules .*; accepted: none"),
    ],
)
def test_what_fsdp_cannot_do_is_refused(
    plugin: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    state = SimpleNamespace(
        fsdp_plugin=FullyShardedDataParallelPlugin(**{"fsdp_version": 2} | plugin)
    )
    launched = SimpleNamespace(state=state, parallelism_config=None)
    config = TrainConfig(data=("shards",), out="run", **options)
    with pytest.raises(InputError, match=message):
        refuse_unsupported(launched, config)


def test_fsdp_without_gpus_is_refused(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="launched with FSDP on cpu, where accelerate does not"):
        train(config)
    assert not Path(config.out).exists()
