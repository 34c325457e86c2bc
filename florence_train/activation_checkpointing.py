"""Activations that are computed again in the backward pass instead of kept: less memory, more time.

Each layer of BART and each block of the vision tower keeps its input only; a second forward pass
of it, with the random numbers of the first, precedes its backward pass. transformers (5.13 to 5.23)
offers this for BART's layers and for nothing of the tower, where most of the memory goes.
"""

from __future__ import annotations

from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import Florence2ForConditionalGeneration

from florence_train.layers import language_layers, tower_blocks


def checkpoint_activations(model: Florence2ForConditionalGeneration) -> None:
    """Let the model keep the inputs of its layers and blocks instead of all that happens in them.

    Losses and gradients stay the same, drop-path and dropout included, and so do the names of the
    parameters. Where nothing has gradients, in a frozen tower or in generation, nothing changes.
    """
    for layer in (*tower_blocks(model), *language_layers(model)):
        # `forward`, not the module: hooks, such as FSDP's, must not run a second time.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
