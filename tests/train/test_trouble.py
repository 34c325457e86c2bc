"""What goes wrong while training is counted, told, and ends the run before it ends the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from msgspec.structs import replace as with_fields

from florence_data import InputError, Sample, SampleSet
from florence_data.prompts import prompt_template
from florence_train import TrainConfig, TrainingError, load_florence, train
from florence_train.batches import Batch
from florence_train.checkpoint import checkpoints
from florence_train.evaluation import Evaluation, Evaluator
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
    spoil(monkeypatch, {1})
    train(replace(config, max_steps=1))
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


class HalfPrecision(Accelerator):
    """float16 with its loss scale on the CPU, where accelerate does not offer it."""

    FIRST_SCALE: float | None = None

    def __init__(self, **options: Any) -> None:
        (scaler,) = options.pop("kwargs_handlers")
        super().__init__(**options)
        self.native_amp = True
        self.state._mixed_precision = "fp16"
        self.scaler = torch.amp.GradScaler("cpu", init_scale=self.FIRST_SCALE or scaler.init_scale)


@pytest.fixture
def half_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("florence_train.trainer.Accelerator", HalfPrecision)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("half_precision")
@pytest.mark.parametrize("batch_size", [4, 32])
def test_float16_loses_no_step_to_its_first_scale(config: TrainConfig, batch_size: int) -> None:
    result = train(replace(config, batch_size=batch_size, max_steps=4))
    assert not [line for line in log(result.directory) if "skipped" in line]


@pytest.mark.usefixtures("half_precision")
def test_steps_that_lower_the_scale_of_float16_do_not_end_a_run(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HalfPrecision, "FIRST_SCALE", 2.0**18)
    result = train(replace(config, batch_size=32, max_steps=12))
    skipped = [line["skipped"] for line in log(result.directory) if "skipped" in line]
    assert len(skipped) > 5 and set(skipped) == {"the float16 scale is lowered"}
    assert result.ended == "finished" and result.loss is not None


def test_nothing_is_saved_of_a_model_in_trouble(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are due at steps 2 and 4; from the third on no gradient is finite."""
    spoil(monkeypatch, {3, 4})
    with pytest.raises(TrainingError, match=r"2 steps in a row .* 4; step-00000002 is kept"):
        train(replace(config, max_steps=4, keep_last=5))
    assert [path.name for path in checkpoints(Path(config.out))] == ["step-00000002"]


def test_the_log_is_json_whatever_happens(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {1, 5})
    train(replace(config, max_steps=6, log_every=2))

    def refuse(name: str) -> float:
        raise AssertionError(name)

    lines = (Path(config.out) / "log.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [line["loss"] > 0 for line in found if "loss" in line] == [True] * 3
    assert found[-1] == {"step": 6, "ended": "finished"}


def test_a_full_disk_ends_the_run_with_a_line_and_leaves_the_last_checkpoint(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    saved: list[object] = []

    def failing(*arguments: object) -> None:
        saved.append(arguments)
        if len(saved) > 2:
            raise RuntimeError("PytorchStreamWriter failed writing file")
        save(*arguments)

    monkeypatch.setattr("florence_train.checkpoint.torch.save", failing)
    with pytest.raises(TrainingError, match=r"cannot be written: .*; the checkpoint before it"):
        train(config)
    assert [path.name for path in checkpoints(Path(config.out))] == ["step-00000002"]


def test_a_damaged_checkpoint_is_named(config: TrainConfig) -> None:
    train(config)
    state = checkpoints(Path(config.out))[-1] / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt: cannot be read"):
        train(replace(config, resume=True))


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the evaluations of a run come to these scores."""
    evaluate, left = Evaluator.__call__, iter(scores)

    def told(self: Evaluator, *arguments: Any) -> Evaluation | None:
        found = evaluate(self, *arguments)
        return None if found is None else replace(found, score=next(left))

    monkeypatch.setattr(Evaluator, "__call__", told)


@pytest.mark.parametrize(
    ("metric", "scores"), [("anls", [0.2, 0.6, 0.4]), ("cer", [0.8, 0.1, 0.3])]
)
def test_the_model_of_the_best_evaluation_is_kept(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, metric: str, scores: list[float]
) -> None:
    """The best is the second; of error rates the lowest is the best."""
    scripted(monkeypatch, scores)
    train(
        replace(
            config,
            max_steps=3,
            eval_data=config.data,
            eval_every=1,
            eval_pages=1,
            eval_metric=metric,
            save_every=1,
            keep_last=3,
        )
    )
    second = Path(config.out) / "checkpoints" / "step-00000002" / "state.pt"
    best = torch.load(second, weights_only=True)["model"]
    kept = load_florence(config.out).model.state_dict()
    assert all(torch.equal(best[f"model.{name}"], tensor) for name, tensor in kept.items())


def test_training_stops_early_when_no_evaluation_is_better(config: TrainConfig) -> None:
    patient = replace(config, eval_data=config.data, eval_every=1, patience=2, lr=1e-12)
    result = train(patient)
    assert (result.ended, result.steps) == ("early", 3)
    again = train(replace(patient, resume=True))
    assert (again.ended, again.steps, again.loss) == ("early", 3, result.loss)


def test_a_resumed_run_remembers_the_best_evaluation_and_its_patience(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = replace(
        config, eval_data=config.data, eval_every=1, eval_pages=1, save_every=1, patience=3
    )
    scripted(monkeypatch, [0.5, 0.4, 0.3, 0.2])
    with monkeypatch.context() as patch:
        patch.setattr(
            "florence_train.trainer._ending",
            lambda config, progress, last, stop: "interrupted" if progress.stale == 2 else None,
        )
        assert train(patient).ended == "interrupted"
    result = train(replace(patient, resume=True))
    assert (result.ended, result.steps) == ("early", 4)


def test_a_run_of_so_many_steps_makes_them_whatever_its_epochs(config: TrainConfig) -> None:
    result = train(replace(config, epochs=1, max_steps=7))
    assert result.steps == 7


def test_a_warm_up_as_long_as_the_run_is_told(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(replace(config, max_steps=2, warmup_steps=4))
    assert "the warm-up is as long as the run, whose rate reaches 50% of --lr" in (
        capsys.readouterr().out
    )


def test_a_device_too_small_is_told_how_many_questions_fit(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = GroupedFlorence.forward

    def small(self: GroupedFlorence, batch: Batch) -> torch.Tensor:
        if len(batch.examples) > 3 and batch.prompts.requires_grad is False:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, batch)

    monkeypatch.setattr("florence_train.trainer.PROBE_QUESTIONS", 2)
    monkeypatch.setattr(GroupedFlorence, "forward", small)
    cramped = replace(config, max_questions=8)
    with pytest.raises(
        InputError, match=r"8 questions at a time do not fit .*lower --max-questions"
    ):
        train(cramped)
    with pytest.raises(InputError, match="--max-questions 2 computes the same steps"):
        train(replace(cramped, out=config.out + "-dry", dry_run=True))


def test_a_tracker_that_is_not_installed_is_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("florence_train.trainer.find_spec", lambda name: None)
    with pytest.raises(InputError, match="--track wandb: the package wandb is not installed"):
        train(replace(config, track=("wandb",)))
    assert not Path(config.out).exists()


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
    size = sum(p.numel() for p in load_florence("tiny").model.parameters()) * 4 / 1e6
    assert f"would write to {config.out}" in said
    assert f"model/ ({size:.1f} MB), checkpoints/ ({2 * 3 * size:.1f} MB)" in said


def test_a_dry_run_counts_features_and_evaluations_and_refuses_what_a_run_would(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    full = replace(config, freeze_vision=True, eval_data=config.data, eval_every=3, dry_run=True)
    train(full)
    said = capsys.readouterr().out
    assert "after the first epoch" in said and "features/ (" in said and "scores/" in said
    assert "3 evaluations of" in said
    with pytest.raises(InputError, match="holds something else"):
        train(replace(full, out=config.data[0]))


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
    assert sum(line.get("questions", 0) for line in lines) == len(answers) - long
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
