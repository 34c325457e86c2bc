"""Layers compiled by `torch.compile`, which joins what lies between matrix products: casts, norms,
activations, residuals and transpositions.

Layer by layer and not the model as a whole, since layers of one kind share what was compiled: the
tower's twelve blocks are compiled once a stage, BART's layers once for the encoder and once for the
decoder.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Florence2ForConditionalGeneration
from transformers.models.florence2.modeling_florence2 import Florence2DropPath

from florence_train.layers import language_layers, tower_blocks

_VERSIONS = 32
"""At most so many of the tower's block: of four stages, in two layouts, for one page and for
several, trained and not."""


def compile_layers(model: Florence2ForConditionalGeneration) -> None:
    """Compile the tower's blocks and the language model's layers, at their first call.

    The number of pages, of questions and of tokens may change from batch to batch without compiling
    anew; the size of the image may not. Parameters keep their names.
    """
    torch._dynamo.config.recompile_limit = max(_VERSIONS, torch._dynamo.config.recompile_limit)
    for block in tower_blocks(model):
        for name, module in list(block.named_modules()):
            if isinstance(module, Florence2DropPath):
                block.set_submodule(name, _DropPath(module.drop_prob).to(model.device))
        _compile(block, dynamic=False)
    for layer in language_layers(model):
        _compile(layer, dynamic=True)


class _DropPath(nn.Module):
    """The tower's drop-path, the same to the bit, whose rate is data: a number, another one in each
    block, would be compiled into a version for each."""

    kept: Tensor

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor(1 - drop_prob), persistent=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not self.training:
            return hidden_states
        each = (len(hidden_states), *[1] * (hidden_states.ndim - 1))
        random = torch.rand(each, dtype=hidden_states.dtype, device=hidden_states.device)
        return hidden_states / self.kept * torch.floor(random + self.kept)


def _compile(layer: nn.Module, dynamic: bool) -> None:
    """`dynamic` is for all sizes; without it, the first dimension of what comes in may change."""
    compiled = torch.compile(layer.forward, dynamic=dynamic)

    @wraps(layer.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                torch._dynamo.maybe_mark_dynamic(value, 0)
        return compiled(*args, **kwargs)

    layer.forward = forward
