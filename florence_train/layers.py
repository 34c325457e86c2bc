"""The layers that repeat in the model, where most of its time and memory goes."""

from __future__ import annotations

from torch import nn
from transformers import Florence2ForConditionalGeneration


def tower_blocks(model: Florence2ForConditionalGeneration) -> list[nn.Module]:
    """The vision tower's blocks, each of window attention and channel attention."""
    return [block for stage in model.model.vision_tower.blocks for block in stage]


def language_layers(model: Florence2ForConditionalGeneration) -> list[nn.Module]:
    """The layers of the language model's encoder, then those of its decoder."""
    language_model = model.model.language_model
    return [*language_model.encoder.layers, *language_model.decoder.layers]
