"""Which implementation computes attention, for each part of the model that can use it."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import AttentionInterface, Florence2ForConditionalGeneration

from florence_data import InputError
from florence_train.layers import tower_blocks

Attention = Literal["sdpa", "flash", "eager"]

_FLASH_CAPABILITY = (8, 0)
"""flash-attn 2 needs Ampere or later."""


def set_attention(model: Florence2ForConditionalGeneration, attention: Attention) -> None:
    """Choose the implementation of attention.

    `sdpa` and `eager` hold for the whole model, but for the tower's channel attention with `sdpa`
    on a GPU, which is `channel_attention` there. `flash` is flash-attn for BART's encoder, where
    all long sequences are, and `sdpa` elsewhere. It cannot run the tower, whose channel attention
    has heads as wide as the image has tokens. In the decoder it would be wrong: for cross-attention
    transformers (5.23, `_upad_input`) takes the last T places of the encoder's mask for that of the
    T targets, and drops targets of every question that is padded. It computes in half precision, so
    the model must run under autocast, on the GPU.

    Raises `InputError` for `flash` without flash-attn, without CUDA, or on a GPU before Ampere.
    """
    if attention == "flash":
        _refuse_flash_where_it_cannot_run()
    model.set_attn_implementation("eager" if attention == "eager" else "sdpa")
    tower = model.model.vision_tower
    on_gpu = model.device.type == "cuda" and attention != "eager"
    channels = _with_attention(tower.config, _CHANNELS) if on_gpu else tower.config
    for block in tower_blocks(model):
        block.get_submodule("channel_block.channel_attn").config = channels
    if attention == "flash":
        encoder = model.model.language_model.encoder
        encoder.config = copy.deepcopy(encoder.config)
        for layer in encoder.layers:
            layer.self_attn.config = encoder.config
        encoder.set_attn_implementation("flash_attention_2")


def _with_attention(config: Any, name: str) -> Any:
    """A copy of a configuration with another implementation of attention."""
    chosen = copy.deepcopy(config)
    chosen._attn_implementation = name
    return chosen


def _refuse_flash_where_it_cannot_run() -> None:
    if not torch.cuda.is_available():
        raise InputError("--attn flash: no CUDA device here; sdpa and eager are accepted")
    capability = torch.cuda.get_device_capability()
    if capability < _FLASH_CAPABILITY:
        raise InputError(
            f"--attn flash: {torch.cuda.get_device_name()} has compute capability "
            f"{capability[0]}.{capability[1]}, flash-attn needs 8.0; sdpa and eager are accepted"
        )
    if find_spec("flash_attn") is None:
        raise InputError(
            "--attn flash: flash-attn is not installed (the extra `flash`); sdpa and eager are "
            "accepted"
        )


def channel_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """The tower's channel attention by products over the whole width, in transformers' interface.

    `query`, `key` and `value` are [B, G, C, N]: G groups of C channels that attend to each other,
    as long as the page has tokens. torch's attention copies them group by group, in float32, and
    multiplies 32 x 32 results out of sums over up to 36,864 tokens. The products here are of all
    channels with all, of which those within a group are used, and with a matrix that is zero
    outside the groups: more operations, in the form that a GPU is fast at, on tokens as they lie.

    Returns [B, C, G, N], and None for weights. Scores are float32, as torch's are.
    """
    assert attention_mask is None  # every channel sees all of its group
    groups = query.shape[1]
    # Views: all channels of a token are neighbours.
    queries, keys, values = (
        rearrange(part, "b g c n -> b n (g c)") for part in (query, key, value)
    )
    scores: Tensor = _ChannelScores.apply(queries, keys)  # type: ignore[no-untyped-call]
    blocks = rearrange(scores, "b (g c) (h d) -> b g c h d", g=groups, h=groups)
    weights = (blocks.diagonal(dim1=1, dim2=3) * scaling).softmax(dim=2)  # [B, C, C, G]
    spread = torch.diag_embed(weights.to(values.dtype), dim1=1, dim2=3)
    product = values @ rearrange(spread, "b g c h d -> b (h d) (g c)")
    return rearrange(product, "b n (g c) -> b c g n", g=groups), None


_CHANNELS = "florence_channels"
AttentionInterface.register(_CHANNELS, channel_attention)


class _ChannelScores(torch.autograd.Function):
    """Queries and keys [B, N, C] to products [B, C, C], float32 of half precision too; for such a
    product autograd has no gradient (torch 2.13)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys)
        half = queries.dtype in (torch.bfloat16, torch.float16)
        if half and queries.device.type == "cuda":
            return torch.bmm(queries.transpose(1, 2), keys, out_dtype=torch.float32)
        if half:  # no other device has the product above
            queries, keys = queries.float(), keys.float()
        return torch.bmm(queries.transpose(1, 2), keys)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = ctx.saved_tensors
        gradient = gradient.to(queries.dtype)
        return torch.bmm(keys, gradient.transpose(1, 2)), torch.bmm(queries, gradient)
