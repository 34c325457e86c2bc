"""Which implementation computes attention, for each part of the model that can use it."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Literal

import torch
from transformers import Florence2ForConditionalGeneration

from florence_data import InputError

Attention = Literal["sdpa", "flash", "eager"]

_FLASH_CAPABILITY = (8, 0)
"""flash-attn 2 needs Ampere or later."""


def set_attention(model: Florence2ForConditionalGeneration, attention: Attention) -> None:
    """Choose the implementation of attention.

    `sdpa` and `eager` hold for the whole model. `flash` is flash-attn for BART's encoder, where all
    long sequences are, and sdpa elsewhere. It cannot run the tower, whose channel attention has
    heads as wide as the image has tokens. In the decoder it would be wrong: for cross-attention
    transformers (5.23, `_upad_input`) takes the last T places of the encoder's mask for that of the
    T targets, and drops targets of every question that is padded. It computes in half precision, so
    the model must run under autocast, on the GPU.

    Raises `InputError` for `flash` without flash-attn, without CUDA, or on a GPU before Ampere.
    """
    if attention != "flash":
        model.set_attn_implementation(attention)
        return
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
    model.set_attn_implementation("sdpa")
    encoder = model.model.language_model.encoder
    encoder.config = copy.deepcopy(encoder.config)
    for layer in encoder.layers:
        layer.self_attn.config = encoder.config
    encoder.set_attn_implementation("flash_attention_2")
