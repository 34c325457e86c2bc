"""Every implementation of attention gives the same model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Florence2ForConditionalGeneration, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from florence_data import InputError
from florence_train import attention
from florence_train.attention import set_attention
from florence_train.layers import tower_blocks
from florence_train.tiny import tiny_model, tiny_processor


@pytest.fixture
def model() -> Florence2ForConditionalGeneration:
    return tiny_model(tiny_processor(), seed=0).eval()


@torch.no_grad()
def logits(model: Florence2ForConditionalGeneration, padding: int = 3) -> Tensor:
    """Of two questions, the second `padding` tokens shorter than the first."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(4, 200, (2, 9), generator=generator)
    mask = torch.ones(2, 5 + 9, dtype=torch.long)
    mask[1, mask.shape[1] - padding :] = 0
    found: Tensor = model(
        input_ids=torch.cat([torch.full((2, 5), model.config.image_token_id), prompt], dim=1),
        attention_mask=mask,
        pixel_values=torch.randn(2, 3, 64, 64, generator=generator),
        decoder_input_ids=torch.randint(4, 200, (2, 6), generator=generator),
        use_cache=False,
    ).logits
    return found


def test_eager_and_sdpa_agree(model: Florence2ForConditionalGeneration) -> None:
    set_attention(model, "sdpa")
    used = count_sdpa(model)
    assert used > 0
    fused = logits(model)
    set_attention(model, "eager")
    assert count_sdpa(model) == 0
    plain = logits(model)
    assert float((fused - plain).norm() / plain.norm()) < 1e-5
    set_attention(model, "sdpa")
    assert count_sdpa(model) == used


def count_sdpa(model: Florence2ForConditionalGeneration) -> int:
    """Calls of torch's fused attention in a forward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        logits(model)
    return sum(
        event.count
        for event in profile.key_averages()
        if event.key == "aten::scaled_dot_product_attention"
    )


@pytest.fixture
def flash_layers(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """A machine on which flash-attn seems to run: plain attention over the tokens that are there,
    with zeros for padded queries, as flash-attn's interface for ragged batches gives it.

    Returns the list of the layers that call it.
    """
    layers = []

    def ragged(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        **_: Any,
    ) -> tuple[Tensor, None]:
        layers.append(module)
        assert query.shape == key.shape, "the query's mask is not known in cross-attention"
        mask = torch.ones(len(query), key.shape[2]) if attention_mask is None else attention_mask
        weights = (query @ key.transpose(2, 3) * scaling).masked_fill(
            ~mask.bool()[:, None, None], float("-inf")
        )
        output = (weights.softmax(-1) @ value) * mask[:, None, :, None]
        return output.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", ragged)
    monkeypatch.setattr(
        PreTrainedModel, "_check_and_adjust_attn_implementation", lambda self, name, **_: name
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    return layers


def test_flash_runs_the_encoder_and_nothing_else(
    model: Florence2ForConditionalGeneration, flash_layers: list[nn.Module]
) -> None:
    expected = logits(model)
    set_attention(model, "flash")
    found = logits(model)
    encoder = model.model.language_model.encoder
    assert flash_layers == [layer.self_attn for layer in encoder.layers]
    assert float((found - expected).norm() / expected.norm()) < 1e-5

    set_attention(model, "sdpa")
    flash_layers.clear()
    assert torch.equal(logits(model), expected)
    assert not flash_layers


def test_flash_leaves_the_checkpoints_configuration_alone(
    model: Florence2ForConditionalGeneration, flash_layers: list[nn.Module]
) -> None:
    before = model.config.to_json_string()
    set_attention(model, "flash")
    assert model.config.to_json_string() == before


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ((torch.cuda, "is_available", lambda: False), "no CUDA device here; sdpa and eager"),
        ((torch.cuda, "get_device_capability", lambda: (7, 5)), "compute capability 7.5"),
        ((attention, "find_spec", lambda name: None), "flash-attn is not installed"),
    ],
)
def test_flash_where_it_cannot_run_is_refused(
    model: Florence2ForConditionalGeneration,
    flash_layers: list[nn.Module],
    lacking: tuple[Any, str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(*lacking)
    with pytest.raises(InputError, match=f"--attn flash: .*{message}"):
        set_attention(model, "flash")


def channel_attention_of(
    name: str, dtype: torch.dtype, model: Florence2ForConditionalGeneration
) -> tuple[Tensor, Tensor]:
    """Output and gradient of a channel attention of four groups on two pages of 16 tokens."""
    module = copy.deepcopy(model.model.vision_tower.blocks[2][0].channel_block.channel_attn)
    module.to(dtype).config._attn_implementation = name
    generator = torch.Generator().manual_seed(0)
    tokens = (3 * torch.randn(2, 16, 64, generator=generator)).to(dtype).requires_grad_()
    output = module(tokens)
    (output * torch.randn(output.shape, generator=generator)).sum().backward()
    assert tokens.grad is not None
    return output.detach(), tokens.grad


def test_channel_attention_by_whole_products_is_the_models_own(
    model: Florence2ForConditionalGeneration,
) -> None:
    for expected, found in zip(
        channel_attention_of("eager", torch.float64, model),
        channel_attention_of("florence_channels", torch.float64, model),
        strict=True,
    ):
        assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_channel_attention_in_half_precision_is_as_exact_as_torchs(
    model: Florence2ForConditionalGeneration,
) -> None:
    exact = channel_attention_of("eager", torch.float64, model)
    torchs = channel_attention_of("sdpa", torch.bfloat16, model)
    found = channel_attention_of("florence_channels", torch.bfloat16, model)
    for correct, rounded, ours in zip(exact, torchs, found, strict=True):
        assert (ours - correct).norm() < 1.2 * (rounded - correct).norm()


def test_channel_attention_is_chosen_on_a_gpu_alone_and_leaves_the_configuration_as_it_is(
    model: Florence2ForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen() -> set[str]:
        layers = [b.get_submodule("channel_block.channel_attn") for b in tower_blocks(model)]
        return {layer.config._attn_implementation for layer in layers}

    set_attention(model, "sdpa")
    before = model.config.to_json_string()
    assert chosen() == {"sdpa"}
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    set_attention(model, "sdpa")
    assert chosen() == {"florence_channels"}
    assert model.config.to_json_string() == before
    assert model.model.vision_tower.config._attn_implementation == "sdpa"
    set_attention(model, "eager")
    assert chosen() == {"eager"}
