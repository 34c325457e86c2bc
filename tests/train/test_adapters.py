"""Adapters start as nothing, learn alone, and merge into a checkpoint like any other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import Florence2ForConditionalGeneration

from florence_data import InputError
from florence_train.activation_checkpointing import checkpoint_activations
from florence_train.adapters import AdapterOptions, add_adapters, merged, save_adapters
from florence_train.model import freeze_vision, load_florence

VARIANTS = {
    "lora": AdapterOptions(rank=4, alpha=8),
    "rslora": AdapterOptions(rank=4, alpha=8, rslora=True),
    "dora": AdapterOptions(rank=4, alpha=8, dora=True),
}


def tiny() -> Florence2ForConditionalGeneration:
    return load_florence("tiny").model.eval()


def logits(model: Florence2ForConditionalGeneration) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(4, 200, (2, 9), generator=generator)
    found: Tensor = model(
        input_ids=torch.cat([torch.full((2, 5), model.config.image_token_id), prompt], dim=1),
        pixel_values=torch.randn(2, 3, 64, 64, generator=generator),
        decoder_input_ids=torch.randint(4, 200, (2, 6), generator=generator),
        use_cache=False,
    ).logits
    return found


def train_a_little(model: Florence2ForConditionalGeneration) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(3):
        logits(model).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("variant", VARIANTS)
def test_new_adapters_change_nothing(variant: str) -> None:
    model = tiny()
    expected = logits(model).detach()
    add_adapters(model, VARIANTS[variant])
    assert float((logits(model).detach() - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_adapters_have_gradients_and_move(variant: str) -> None:
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = logits(model).detach()
    add_adapters(model, VARIANTS[variant])
    train_a_little(model)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name), name
        if "lora_" not in name:
            assert torch.equal(parameter, before[name.replace(".base_layer", "")]), name
    assert not torch.allclose(logits(model), expected, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_merged_model_computes_the_same_and_is_a_plain_checkpoint(
    variant: str, tmp_path: Path
) -> None:
    florence = load_florence("tiny")
    names = list(florence.model.state_dict())
    adapted = add_adapters(florence.model.eval(), VARIANTS[variant])
    train_a_little(florence.model)
    expected = logits(florence.model).detach()

    replace(florence, model=merged(adapted)).save(tmp_path)

    assert torch.equal(logits(florence.model), expected)
    for model in (
        load_florence(str(tmp_path)).model,
        Florence2ForConditionalGeneration.from_pretrained(tmp_path),
    ):
        assert list(model.state_dict()) == names
        difference = (logits(model.eval()).detach() - expected).norm() / expected.norm()
        assert float(difference) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_adapters_load_with_peft(variant: str, tmp_path: Path) -> None:
    model = tiny()
    adapted = add_adapters(model, VARIANTS[variant])
    train_a_little(model)
    save_adapters(adapted, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 500_000
    fresh = tiny()
    PeftModel.from_pretrained(fresh, tmp_path)
    assert torch.equal(logits(fresh.eval()), logits(model))


def test_the_scales_are_those_of_the_papers() -> None:
    """The change of a layer's output is B A x by alpha / r, or alpha / sqrt(r) for rsLoRA."""
    x = torch.randn(128, generator=torch.Generator().manual_seed(0))
    for options, scale in ((VARIANTS["lora"], 8 / 4), (VARIANTS["rslora"], 8 / 4**0.5)):
        model = tiny()
        add_adapters(model, options)
        layer = model.model.language_model.encoder.layers[0].fc1
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.nn.init.normal_(up)
        change = layer(x) - layer.base_layer(x)
        assert torch.allclose(change, scale * up @ (down @ x), rtol=1e-4, atol=1e-4)


def test_generation_uses_the_adapters() -> None:
    model = tiny()
    arguments = {
        "input_ids": torch.full((1, 5), model.config.image_token_id),
        "pixel_values": torch.ones(1, 3, 64, 64),
        "max_new_tokens": 8,
    }
    before = model.generate(**arguments)
    adapted = add_adapters(model, VARIANTS["dora"])
    assert torch.equal(model.generate(**arguments), before)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    after = model.generate(**arguments)
    assert not torch.equal(after, before)
    assert torch.equal(merged(adapted).generate(**arguments), after)


def test_adapters_learn_with_activation_checkpointing() -> None:
    plain, checkpointed = tiny().train(), tiny().train()
    checkpoint_activations(checkpointed)
    for model in (plain, checkpointed):
        torch.manual_seed(0)
        add_adapters(model, VARIANTS["lora"])
        train_a_little(model)
    assert torch.equal(logits(plain), logits(checkpointed))


def test_a_merged_copy_stands_alone() -> None:
    """Also where computing activations again has tied layers to their methods."""
    model = tiny()
    checkpoint_activations(model)
    adapted = add_adapters(model, VARIANTS["lora"])
    train_a_little(model)
    expected = logits(model).detach()
    copy = merged(adapted)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.allclose(logits(copy), expected, rtol=1e-4, atol=1e-5)


def test_by_default_every_matrix_of_bart_has_one_and_nothing_else() -> None:
    model = tiny()
    add_adapters(model, AdapterOptions())
    adapted = {
        name.partition(".lora_A")[0]
        for name, _ in model.named_parameters()
        if name.endswith("lora_A.default.weight")
    }
    # q, k, v, out and two of the MLP; the decoder attends to the encoder beside.
    assert len(adapted) == 6 + 10
    assert all("language_model" in name for name in adapted)


@pytest.mark.parametrize("target", ["o_proj", "linear", ".*o_proj", "Conv2d", "fc1", "all-linear"])
def test_a_pattern_that_matches_nothing_is_refused(target: str) -> None:
    message = re.escape(f"adapter target {target!r}: matches no layer") + (
        ".*language_model.*fc1, fc2, k_proj, out_proj, q_proj, v_proj"
    )
    with pytest.raises(InputError, match=message):
        add_adapters(tiny(), AdapterOptions(target=target))


@pytest.mark.parametrize(
    ("target", "alternative"),
    [
        (".*language_model.*(q_proj|o_proj)", "o_proj"),
        (".*language_model.*(?:dense|v_proj)", "dense"),
        (r".*(encoder|decoder).*\.(fc1|fc3)", "fc3"),
        (".*language_model.*fc1|.*language_model.*fc3", ".*language_model.*fc3"),
    ],
)
def test_an_alternative_that_matches_nothing_is_refused(target: str, alternative: str) -> None:
    message = re.escape(f"adapter target {target!r}: its alternative {alternative!r} matches no")
    with pytest.raises(InputError, match=message):
        add_adapters(tiny(), AdapterOptions(target=target))


@pytest.mark.parametrize(
    "target",
    [
        r".*language_model.*(q|v)_proj",
        r".*language_model.*layers\.(\d+)\.fc1",
        r".*language_model.*encoder.*fc[12]",
        r".*language_model.*encoder.*(fc[1|2]|out_proj)",
        ".*language_model.*fc1|.*language_model.*fc2",
    ],
)
def test_alternatives_that_all_match_are_accepted(target: str) -> None:
    model = tiny()
    add_adapters(model, AdapterOptions(target=target))
    assert any("lora_A" in name for name, _ in model.named_parameters())


def test_adding_adapters_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    add_adapters(tiny(), AdapterOptions())
    assert not recwarn.list


def test_a_pattern_that_reaches_into_a_frozen_tower_is_refused() -> None:
    """Bare fc1 and fc2 are in every block of the tower too."""
    model = tiny()
    options = AdapterOptions(target=r".*\.(fc1|fc2)")
    freeze_vision(model)
    with pytest.raises(InputError, match=r"matches 20 layers, 16 of them in the frozen vision tow"):
        add_adapters(model, options)
    assert not any("lora" in name for name, _ in model.named_parameters())

    free = tiny()
    add_adapters(free, options)
    assert any("vision_tower" in name and "lora" in name for name, _ in free.named_parameters())


def test_what_cannot_have_an_adapter_is_refused() -> None:
    with pytest.raises(InputError, match=r"layer_norm.* not supported"):
        add_adapters(tiny(), AdapterOptions(target=r".*encoder.*final_layer_norm"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank 0; 1 or more"),
        ({"alpha": 0.0}, "alpha 0.0; above 0"),
        ({"dropout": 1.0}, "dropout 1.0; 0 or more, below 1"),
        ({"target": "*fc1"}, r"target '\*fc1': nothing to repeat"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdapterOptions(**options)  # type: ignore[arg-type]
