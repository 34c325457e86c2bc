"""What goes wrong while training is counted, told, and ends the run before it ends the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace as with_fields

from florence_data import InputError, Sample, SampleSet
from florence_data.prompts import prompt_template
from florence_train import TrainConfig, TrainingError, load_florence, train
from florence_train.batches import Batch
from florence_train.model import GroupedFlorence
from florence_train.precision import mixed_precision


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


def test_an_evaluation_asks_every_question_that_has_an_answer(
    config: TrainConfig,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However long the answer is, also longer than the decoder; the loss is of what fits."""
    answers = [("short",), ("x" * 60,), ("y" * 1000,), ()]
    mixed = with_fields(
        pages[3],
        supervisions=tuple(
            with_fields(v, answers=a, question=v.question + " really" * 100 * (i == 1))
            for i, (v, a) in enumerate(zip(pages[3].supervisions, answers, strict=True))
        ),
    )
    data = write_shards(tmp_path / "mixed", [mixed])
    evaluated = replace(config, eval_data=(str(data),), max_target_tokens=20, max_steps=1)
    result = train(evaluated)
    said = capsys.readouterr().out
    assert result.evaluation is not None
    assert sorted(len(a[0]) for a in result.evaluation.scores.table["answers"]) == [5, 60, 1000]
    assert math.isfinite(result.evaluation.loss)
    assert "eval_data: 1 questions left out: no answer" in said
    assert "eval_data: 1 questions shortened to fit 507 tokens" in said


def test_the_loss_of_an_evaluation_is_of_the_first_tokens_of_a_long_answer(
    pages: list[Sample],
) -> None:
    florence = load_florence("tiny")
    collate = replace(florence.collator, max_target_tokens=4)
    question = with_fields(pages[0].supervisions[0], answers=("abcdefgh",))
    batch = collate([[prompt_template("docvqa").example(pages[0], question)]])
    start, a, b, c = batch.labels[0].tolist()
    assert (start, florence.text_encoder.decode([a, b, c])) == (0, "abc")


@pytest.mark.parametrize("option", ["max_target_tokens", "max_new_tokens"])
def test_more_tokens_than_the_decoder_has_positions_are_refused(
    config: TrainConfig, option: str
) -> None:
    with pytest.raises(InputError, match=f"{option} is 513; up to 512 is accepted"):
        train(replace(config, **{option: 513}))
    assert not Path(config.out).exists()
    train(replace(config, **{option: 512}, eval_data=config.data, max_steps=1))


def test_data_without_a_question_is_named(
    config: TrainConfig,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
) -> None:
    silent = str(write_shards(tmp_path / "silent", [with_fields(pages[0], supervisions=())]))
    for options in ({"eval_data": (silent,)}, {"data": (*config.data, silent)}):
        with pytest.raises(InputError, match=f"^{silent}: no question to use, found none at all"):
            train(replace(config, **options))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"^{config.data[0]}: .*20 with an answer of more than 2"):
        train(replace(config, max_target_tokens=2))
    assert not Path(config.out).exists()


def test_half_precision_is_refused_where_it_would_not_be_computed(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="precision is float16, which needs a CUDA device"):
        train(replace(config, precision="float16"))
    assert mixed_precision("bfloat16") == "bf16"


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
