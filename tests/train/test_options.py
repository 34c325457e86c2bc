"""What a run can be asked to do beside the plain one, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace as with_fields
from peft import PeftModel

from florence_data import Sample
from florence_train import TrainConfig, load_florence, train


def weights(run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_florence(run).model.state_dict()
    return state


def test_adapters_are_trained_alone_merged_for_use_and_kept_beside_it(config: TrainConfig) -> None:
    train(replace(config, lora_rank=4, freeze_vision=True))
    before, after = load_florence("tiny"), load_florence(config.out)
    changed = {
        name
        for name, tensor in before.model.state_dict().items()
        if not torch.equal(tensor, after.model.state_dict()[name])
    }
    assert changed
    assert all("language_model" in name and name.endswith("weight") for name in changed)
    adapter = Path(config.out) / "model" / "adapter"
    again = PeftModel.from_pretrained(load_florence("tiny").model, str(adapter)).merge_and_unload()
    for name, tensor in again.state_dict().items():
        assert torch.allclose(tensor, after.model.state_dict()[name], atol=1e-6), name


def test_adapters_resume_to_the_same_bits(config: TrainConfig) -> None:
    adapted = replace(config, lora_rank=2, keep_last=5)
    train(adapted)
    once = weights(adapted.out)
    for directory in (Path(adapted.out) / "checkpoints").glob("step-00000008"):
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()
    train(replace(adapted, resume=True))
    assert all(torch.equal(once[name], tensor) for name, tensor in weights(adapted.out).items())


def test_recomputed_activations_train_the_same_weights(config: TrainConfig) -> None:
    train(config)
    other = replace(config, out=config.out + "-recomputed", checkpoint_activations=True)
    train(other)
    plain, recomputed = weights(config.out), weights(other.out)
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


@pytest.mark.long
def test_a_compiled_model_trains_to_nearly_the_same_weights(config: TrainConfig) -> None:
    train(config)
    other = replace(config, out=config.out + "-compiled", compile=True)
    train(other)
    start, plain, compiled = (
        load_florence("tiny").model.state_dict(),
        *map(weights, (config.out, other.out)),
    )
    change = torch.cat([(plain[name] - start[name]).flatten() for name in start])
    difference = torch.cat([(plain[name] - compiled[name]).flatten() for name in start])
    assert float(difference.norm() / change.norm()) < 0.05


def test_sets_are_mixed_by_weight_and_their_losses_logged_apart(
    config: TrainConfig,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
) -> None:
    others = [
        with_fields(
            sample,
            id=f"other-{sample.id}",
            source="other",
            supervisions=tuple(with_fields(v, id=f"other-{v.id}") for v in sample.supervisions),
        )
        for sample in pages[:4]
    ]
    other = write_shards(tmp_path / "other", others)
    mixed = replace(
        config, data=(*config.data, str(other)), weights=(1.0, 2.0), epochs=3, max_steps=None
    )
    train(mixed)
    lines = [json.loads(x) for x in (Path(mixed.out) / "log.jsonl").read_text().splitlines()]
    assert any({"loss/test", "loss/other"} <= line.keys() for line in lines)
    # Twelve pages an epoch, four of the first set and eight of the second.
    assert sum(line.get("pages", 0) for line in lines) == 3 * 12


def test_the_last_model_stays_where_the_best_is_not_asked_for(config: TrainConfig) -> None:
    options = {"eval_data": config.data, "eval_every": 1, "lr": 1e-3, "eval_pages": 1}
    train(replace(config, keep_best=False, **options))  # type: ignore[arg-type]
    last = torch.load(
        Path(config.out) / "checkpoints" / "step-00000008" / "state.pt", weights_only=True
    )["model"]
    kept = weights(config.out)
    assert all(torch.equal(last[f"model.{name}"], kept[name]) for name in kept)


def test_a_question_that_is_too_long_is_shortened_and_counted(
    config: TrainConfig,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    endless = [
        with_fields(
            sample,
            supervisions=tuple(
                with_fields(v, question=v.question + " really" * 200) for v in sample.supervisions
            ),
        )
        for sample in pages[:2]
    ]
    data = write_shards(tmp_path / "endless", endless)
    train(replace(config, data=(str(data),), max_steps=1))
    assert "3 questions shortened to fit 507 tokens" in capsys.readouterr().out


def test_tensorboard_has_the_numbers_and_the_pages(config: TrainConfig) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the package tensorboard is not installed",
    )
    train(replace(config, track=("tensorboard",), eval_data=config.data))
    events = [str(path) for path in Path(config.out, "tracking").glob("events.*")]
    found = event_accumulator.EventAccumulator(events[0], size_guidance={"images": 0})
    found.Reload()
    assert {"loss", "lr", "questions_per_second", "eval_score"} <= set(found.Tags()["scalars"])
    assert len(found.Scalars("loss")) == 8
    assert len(found.Tags()["images"]) == 5
    assert "memory_gb" in found.Tags()["scalars"]
    told = found.Tensors("answers/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert told.startswith("| question | prediction | reference |")
    assert len(told.splitlines()) == 2 + 5
