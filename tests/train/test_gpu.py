"""What only a GPU shows: its precisions, its attention, that the host never waits for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from florence_data import InputError, SampleSet
from florence_data.prompts import prompt_template
from florence_eval import score
from florence_train import PredictConfig, TrainConfig, predict, train
from florence_train.attention import set_attention
from florence_train.batches import Batch, PageReader, Plan
from florence_train.compilation import compile_layers
from florence_train.model import Florence, load_florence, question_losses
from florence_train.survey import survey

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """accelerate keeps a process's first precision."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def florence() -> Florence:
    found = load_florence("tiny")
    found.model.to(CUDA)
    return found


@pytest.fixture
def batch(florence: Florence, samples: SampleSet) -> Batch:
    """The eight pages with all their questions."""
    template = prompt_template("docvqa")
    reader = PageReader((samples,), template, florence.collator, 400, workers=0)
    found = survey((samples,), ("set",), template, florence.text_encoder, 400)
    (step,) = Plan(found.groups, batch_size=100, seed=0).epoch(0)
    return reader.batch(step).to(CUDA)


def loss_and_gradients(
    florence: Florence, batch: Batch, dtype: torch.dtype
) -> tuple[float, Tensor]:
    model = florence.model
    model.zero_grad()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        loss = question_losses(florence.grouped(batch), batch.labels).sum()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_lengths_are_multiples_that_attention_reads_without_a_copy(
    florence: Florence, batch: Batch
) -> None:
    assert (florence.image_tokens + batch.prompts.shape[1]) % 8 == 0
    assert batch.labels.shape[1] % 8 == 0


def test_channel_attention_by_whole_products_is_the_models_own(
    florence: Florence, batch: Batch
) -> None:
    set_attention(florence.model, "eager")
    loss, gradients = loss_and_gradients(florence, batch, torch.float32)
    set_attention(florence.model, "sdpa")
    channels = florence.model.model.vision_tower.blocks[0][0].channel_block.channel_attn
    assert channels.config._attn_implementation == "florence_channels"
    same_loss, same = loss_and_gradients(florence, batch, torch.float32)
    assert same_loss == pytest.approx(loss, rel=1e-5)
    assert distance(same, gradients) < 1e-4
    half_loss, half = loss_and_gradients(florence, batch, torch.bfloat16)
    assert half_loss == pytest.approx(loss, rel=2e-2)
    assert distance(half, gradients) < 0.1


def test_the_gpu_computes_what_the_cpu_does(florence: Florence, batch: Batch) -> None:
    set_attention(florence.model, "sdpa")
    loss, gradients = loss_and_gradients(florence, batch, torch.float32)
    florence.model.cpu()
    set_attention(florence.model, "sdpa")
    on_cpu, expected = loss_and_gradients(florence, batch.to(torch.device("cpu")), torch.float32)
    assert loss == pytest.approx(on_cpu, rel=1e-4)
    assert distance(gradients.cpu(), expected) < 1e-3


def test_compiled_layers_compute_the_same(florence: Florence, batch: Batch) -> None:
    set_attention(florence.model, "sdpa")
    loss, gradients = loss_and_gradients(florence, batch, torch.float32)
    compile_layers(florence.model)
    compiled_loss, compiled = loss_and_gradients(florence, batch, torch.float32)
    assert compiled_loss == pytest.approx(loss, rel=1e-4)
    assert distance(compiled, gradients) < 1e-3


def test_the_host_never_waits_for_the_device_in_a_step(florence: Florence, batch: Batch) -> None:
    set_attention(florence.model, "sdpa")
    loss_and_gradients(florence, batch, torch.bfloat16)  # what is made once may wait
    florence.model.zero_grad()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            loss = question_losses(florence.grouped(batch), batch.labels).sum()
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


def lines(config: TrainConfig) -> list[dict[str, Any]]:
    log = (Path(config.out) / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, log) if "loss" in line and "step" in line]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_every_precision_teaches_and_is_evaluated(config: TrainConfig, precision: Any) -> None:
    config = replace(
        config, precision=precision, eval_data=config.data, max_steps=30, save_every=30, beta2=0.98
    )
    result = train(config)
    assert result.steps == 30
    losses = [line["loss"] for line in lines(config)]
    assert losses[-1] < losses[0] / 2
    assert result.evaluation is not None and 0 < result.evaluation.loss < losses[0]
    if precision == "bfloat16":
        assert all(line["mfu"] > 0 for line in lines(config) if "mfu" in line)


@pytest.mark.parametrize(
    "options", [{"checkpoint_activations": True}, {"freeze_vision": True, "cache_features": True}]
)
def test_a_stopped_run_goes_on_on_the_gpu(config: TrainConfig, options: dict[str, Any]) -> None:
    config = replace(config, keep_last=4, **options)
    train(config)
    losses = [line["loss"] for line in lines(config)]
    assert len(losses) == 8
    for step in (6, 8):
        shutil.rmtree(Path(config.out) / "checkpoints" / f"step-{step:08}")
    AcceleratorState._reset_state(True)
    train(replace(config, resume=True))
    # To the bit on a CPU; a GPU adds up gradients in an order of its own.
    assert [line["loss"] for line in lines(config)] == pytest.approx(losses, rel=2e-2)


def test_a_gpu_too_small_says_what_to_lower(config: TrainConfig) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(3e7 / total)
    try:
        with pytest.raises(InputError, match=r"do not fit into the GPU's .*lower --max-questions"):
            train(config)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_predictions_are_those_of_one_question_at_a_time(
    config: TrainConfig, tmp_path: Path
) -> None:
    train(replace(config, max_steps=60, save_every=60, beta2=0.98, precision="float32"))
    texts = []
    for batch_size in (16, 1):
        AcceleratorState._reset_state(True)
        out = tmp_path / f"{batch_size}.jsonl"
        predict(
            PredictConfig(
                model=config.out,
                data=config.data[0],
                out=str(out),
                batch_size=batch_size,
                precision="float32",
            )
        )
        texts.append([json.loads(line)["prediction"] for line in out.read_text().splitlines()])
        assert len(score(out).table) == len(texts[-1])
    assert texts[0] == texts[1]
