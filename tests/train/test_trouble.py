"""What goes wrong while training is counted, told, and ends the run before it ends the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from florence_data import SampleSet
from florence_train import TrainConfig, TrainingError, load_florence, train
from florence_train.batches import Batch
from florence_train.model import GroupedFlorence


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> list[list[str]]:
    """Make the logits of some steps NaN; returns the ids of the samples of every step."""
    forward = GroupedFlorence.forward
    seen: list[list[str]] = []
    checked: list[bool] = []

    def spoiled(self: GroupedFlorence, batch: Batch) -> torch.Tensor:
        logits = forward(self, batch)
        if not logits.requires_grad or not checked:  # the start-up checks
            checked.extend([True] * logits.requires_grad)
            return logits
        seen.append(sorted({example.sample.id for example in batch.examples}))
        return logits * float("nan") if len(seen) in steps else logits

    monkeypatch.setattr(GroupedFlorence, "forward", spoiled)
    return seen


def test_a_step_without_a_finite_gradient_is_left_out_and_logged(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil(monkeypatch, {3, 6})
    result = train(config)
    assert result.steps == 8
    lines = log(result.directory)
    skipped = [line for line in lines if "skipped" in line]
    assert [(line["step"], line["samples"]) for line in skipped] == [(3, seen[2]), (6, seen[5])]
    for name, parameter in load_florence(config.out).model.named_parameters():
        assert parameter.isfinite().all(), name


def test_a_left_out_step_changes_no_weight(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {1, 2})
    train(replace(config, max_steps=2))
    before, after = load_florence("tiny").model.state_dict(), load_florence(config.out)
    assert all(torch.equal(before[n], tensor) for n, tensor in after.model.state_dict().items())


def test_several_in_a_row_end_the_run_and_leave_a_good_checkpoint(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, set(range(3, 100)))
    with pytest.raises(TrainingError, match="5 steps in a row without a finite gradient"):
        train(replace(config, max_steps=30))
    state = torch.load(
        sorted((Path(config.out) / "checkpoints").glob("step-*"))[-1] / "state.pt",
        weights_only=True,
    )
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_training_stops_early_when_no_evaluation_is_better(config: TrainConfig) -> None:
    patient = replace(config, eval_data=config.data, eval_every=1, patience=2, lr=1e-12)
    result = train(patient)
    assert (result.ended, result.steps) == ("early", 3)


def test_a_dry_run_tells_what_a_run_takes_and_writes_nothing(
    config: TrainConfig, capsys: pytest.CaptureFixture[str], samples: SampleSet
) -> None:
    result = train(replace(config, dry_run=True))
    said = capsys.readouterr().out
    longest = max(
        len(answer.encode()) for s in samples for v in s.supervisions for answer in v.answers
    )
    assert result.ended == "rehearsed"
    assert not Path(config.out).exists()
    assert f"longest answer {longest + 2} tokens" in said
    assert "questions in 8 steps" in said and "GB of memory" in said
    assert f"would write to {config.out}" in said


def test_data_that_is_also_evaluated_on_is_told(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(replace(config, eval_data=config.data, max_steps=1))
    told = capsys.readouterr().out
    assert "8 of the 8 documents to evaluate on and 8 of their 8 images are also trained on" in told


def test_answers_that_are_too_long_are_left_out_and_counted(
    config: TrainConfig, capsys: pytest.CaptureFixture[str], samples: SampleSet
) -> None:
    limit = 9
    answers = [v.answers[0] for sample in samples for v in sample.supervisions]
    long = sum(len(answer.encode()) + 2 > limit for answer in answers)
    train(replace(config, max_target_tokens=limit, max_steps=None, epochs=1, batch_size=50))
    assert f"{long} questions left out: an answer of more than 9 tokens" in capsys.readouterr().out
    lines = log(Path(config.out))
    assert lines[-1]["questions"] == len(answers) - long
    assert 0 < long < len(answers)


def test_features_of_a_frozen_tower_are_made_once(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    model = type(load_florence("tiny").model.model.vision_tower)
    forward = model.forward

    def counting(self: torch.nn.Module, pixels: torch.Tensor, **options: object) -> object:
        encoded.append(len(pixels))
        return forward(self, pixels, **options)

    frozen = replace(config, freeze_vision=True, max_steps=None, epochs=4, eval_data=config.data)
    monkeypatch.setattr(model, "forward", counting)
    train(frozen)
    checks = encoded[:5]  # the forward passes of the start-up checks
    assert sum(encoded) - sum(checks) == 8
    without = replace(frozen, out=config.out + "-without", cache_features=False)
    del encoded[:]
    train(without)
    assert sum(encoded) > 4 * 8
    kept, again = (load_florence(c.out).model.state_dict() for c in (frozen, without))
    start = load_florence("tiny").model.state_dict()
    change = torch.cat([(again[n] - start[n]).flatten() for n in start])
    difference = torch.cat([(again[n] - kept[n]).flatten() for n in start])
    # The store rounds to bfloat16, 8 bits of mantissa.
    assert 0 < float(difference.norm() / change.norm()) < 0.2
