"""Computing activations again changes what is kept, not what comes out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Florence2Config, Florence2ForConditionalGeneration

from florence_train.activation_checkpointing import checkpoint_activations
from florence_train.tiny import tiny_model, tiny_processor


def noisy_model() -> Florence2ForConditionalGeneration:
    """The tiny model with two layers a part, drop-path in the tower and dropout in BART."""
    settings = tiny_model(tiny_processor(), seed=0).config.to_dict()
    settings["vision_config"] |= {"drop_path_rate": 0.5, "depths": (1, 1, 2, 1)}
    settings["text_config"] |= {
        "dropout": 0.3,
        "attention_dropout": 0.3,
        "encoder_layers": 2,
        "decoder_layers": 2,
    }
    torch.manual_seed(0)
    return Florence2ForConditionalGeneration(Florence2Config(**settings))


def loss(model: Florence2ForConditionalGeneration) -> Tensor:
    """Of three questions on fixed pages, the random numbers always the same."""
    generator = torch.Generator().manual_seed(1)
    image = torch.full((3, 5), model.config.image_token_id)
    prompt = torch.randint(4, 200, (3, 7), generator=generator)
    pixels = torch.randn(3, 3, 64, 64, generator=generator)
    labels = torch.randint(4, 200, (3, 6), generator=generator)
    torch.manual_seed(2)
    total: Tensor = model(
        input_ids=torch.cat([image, prompt], dim=1), pixel_values=pixels, labels=labels
    ).loss
    return total


def gradients(model: Florence2ForConditionalGeneration) -> dict[str, Tensor]:
    model.zero_grad()
    loss(model).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradients_are_the_same_to_the_bit(mode: str) -> None:
    model = noisy_model().train(mode == "train")
    expected_loss, expected = loss(model), gradients(model)
    checkpoint_activations(model)
    assert torch.equal(loss(model), expected_loss)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


def test_drop_path_and_dropout_are_random_in_these_tests() -> None:
    """Without this, the test above would say nothing of random numbers."""
    model = noisy_model().train()
    first = model.get_image_features(torch.ones(2, 3, 64, 64)).pooler_output
    assert not torch.equal(first, model.get_image_features(torch.ones(2, 3, 64, 64)).pooler_output)


def kept_bytes(model: Florence2ForConditionalGeneration) -> int:
    """What the forward pass keeps for the backward pass beside the parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = loss(model)
    assert total.requires_grad
    return sum(kept.values())


def test_less_is_kept_for_the_backward_pass() -> None:
    model = noisy_model().train()
    before = kept_bytes(model)
    checkpoint_activations(model)
    assert kept_bytes(model) < before / 3


def test_the_names_of_the_parameters_stay() -> None:
    model = noisy_model()
    names = list(model.state_dict())
    checkpoint_activations(model)
    assert list(model.state_dict()) == names


def test_generation_is_the_same() -> None:
    model = noisy_model().eval()
    arguments = {
        "input_ids": torch.full((2, 5), model.config.image_token_id),
        "pixel_values": torch.ones(2, 3, 64, 64),
        "max_new_tokens": 8,
        "num_beams": 2,
    }
    expected = model.generate(**arguments)
    checkpoint_activations(model)
    assert torch.equal(model.generate(**arguments), expected)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_transformers_own_leaves_the_tower_as_it_is() -> None:
    """Once this fails, transformers covers the tower and the module here is not needed any more."""
    model = noisy_model().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    covered = {
        type(module).__name__
        for module in model.modules()
        if getattr(module, "gradient_checkpointing", False)
    }
    assert covered == {"BartEncoder", "BartDecoder", "BartEncoderLayer", "BartDecoderLayer"}
