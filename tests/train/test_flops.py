"""The analytic operations are those that torch counts while the model runs."""

from __future__ import annotations

from math import prod
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BartConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2VisionConfig,
)

from florence_train.flops import Shapes, Trained, forward_flops, peak_flops, training_flops
from florence_train.tiny import tiny_model, tiny_processor

GIGA = 1e9


def convolution_backward(
    grad_out_shape: Any, x_shape: Any, w_shape: Any, *rest: Any, **_: Any
) -> int:
    """Torch's own formula ignores groups; each gradient that is wanted costs what forward does."""
    output_mask = rest[7]
    forward = 2 * grad_out_shape[0] * prod(grad_out_shape[2:]) * prod(w_shape)
    return int(forward * (output_mask[0] + output_mask[1]))


def counter() -> FlopCounterMode:
    return FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.convolution_backward: convolution_backward},
    )


def forward(model: Florence2ForConditionalGeneration, shapes: Shapes) -> Tensor:
    """The logits of questions on zeros, the pages in turn."""
    width, height = shapes.image_size
    pixels = torch.zeros(shapes.pages, 3, height, width, device=model.device)
    prompts = torch.zeros(shapes.questions, shapes.prompt_tokens, dtype=torch.long)
    targets = torch.zeros(shapes.questions, shapes.target_tokens, dtype=torch.long)
    pages = torch.arange(shapes.questions) % shapes.pages
    image = model.get_image_features(pixels).pooler_output[pages.to(model.device)]
    text = model.get_input_embeddings()(prompts.to(model.device))
    logits: Tensor = model(
        inputs_embeds=torch.cat([image, text], dim=1),
        decoder_input_ids=targets.to(model.device),
        use_cache=False,
    ).logits
    return logits


@pytest.fixture
def tiny() -> Florence2ForConditionalGeneration:
    # Torch has no count for scaled_dot_product_attention on the CPU.
    model = tiny_model(tiny_processor(), seed=0)
    model.set_attn_implementation("eager")
    return model


def published(
    embed_dim: tuple[int, ...], width: int, layers: int
) -> Florence2ForConditionalGeneration:
    """A model of a published size, without memory for its weights."""
    heads = tuple(channels // 32 for channels in embed_dim)
    vision = Florence2VisionConfig(
        embed_dim=embed_dim,
        num_heads=heads,
        num_groups=heads,
        projection_dim=width,
        drop_path_rate=0.0,
    )
    text = BartConfig(
        vocab_size=51290,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_position_embeddings=4096,
    )
    config = Florence2Config(vision_config=vision.to_dict(), text_config=text.to_dict())
    with torch.device("meta"):
        model = Florence2ForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def base() -> Florence2ForConditionalGeneration:
    return published((128, 256, 512, 1024), width=768, layers=6)


SHAPES = [
    Shapes(pages=1, questions=1, prompt_tokens=9, target_tokens=5, image_size=(64, 64)),
    Shapes(pages=3, questions=7, prompt_tokens=20, target_tokens=1, image_size=(64, 64)),
    Shapes(pages=2, questions=4, prompt_tokens=6, target_tokens=11, image_size=(224, 96)),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_forward_is_what_torch_counts(
    tiny: Florence2ForConditionalGeneration, shapes: Shapes
) -> None:
    with counter() as counted, torch.no_grad():
        forward(tiny, shapes)
    assert forward_flops(tiny.config, shapes).total == counted.get_total_flops()


def test_the_parts_are_what_torch_counts_of_base_at_768_pixels(
    base: Florence2ForConditionalGeneration,
) -> None:
    shapes = Shapes(2, 3, prompt_tokens=20, target_tokens=10, image_size=(768, 768))
    with counter() as counted:
        forward(base, shapes)
    modules = counted.get_flop_counts()
    flops = forward_flops(base.config, shapes)
    for part, name in (
        (flops.tower, "Florence2VisionBackbone"),
        (flops.projector, "Florence2MultiModalProjector"),
        (flops.encoder, "language_model.encoder"),
        (flops.decoder, "language_model.decoder"),
        (flops.head, "lm_head"),
    ):
        (counts,) = (counts for path, counts in modules.items() if path.endswith(name))
        assert part.total == sum(counts.values()), name
    assert flops.total == counted.get_total_flops()


def train_only(model: Florence2ForConditionalGeneration, *parts: str) -> Trained:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return Trained.of(model)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    ("parts", "trained"),
    [
        (("",), Trained(tower=True, projector=True, language_model=True)),
        (("projector", "language_model"), Trained(False, projector=True, language_model=True)),
        (("language_model",), Trained(False, False, language_model=True)),
    ],
)
def test_training_is_what_torch_counts(
    tiny: Florence2ForConditionalGeneration,
    shapes: Shapes,
    parts: tuple[str, ...],
    trained: Trained,
) -> None:
    assert train_only(tiny, *parts) == trained
    with counter() as counted:
        forward(tiny, shapes).sum().backward()
    assert training_flops(tiny.config, shapes, trained) == pytest.approx(
        counted.get_total_flops(), rel=1e-9
    )


def test_training_base_is_what_torch_counts(base: Florence2ForConditionalGeneration) -> None:
    shapes = Shapes(1, 4, prompt_tokens=20, target_tokens=10, image_size=(768, 768))
    trained = train_only(base, "")
    with counter() as counted:
        forward(base, shapes).sum().backward()
    assert training_flops(base.config, shapes, trained) == pytest.approx(
        counted.get_total_flops(), rel=1e-9
    )


def test_adapters_pass_gradients_through_frozen_weights() -> None:
    """Of rank 1, so that their own products, which are left out, are 0.4 %."""
    model = published((128, 256, 512, 1024), width=768, layers=6)
    pattern = r".*language_model.*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=1, target_modules=pattern))
    trained = Trained.of(adapted)
    assert trained == Trained(False, False, language_model=False, adapters=True)
    shapes = Shapes(1, 4, prompt_tokens=20, target_tokens=10, image_size=(768, 768))
    with counter() as counted:
        forward(model, shapes).sum().backward()
    assert training_flops(model.config, shapes, trained) == pytest.approx(
        counted.get_total_flops(), rel=0.01
    )


def test_cached_features_leave_out_what_made_them(
    base: Florence2ForConditionalGeneration,
) -> None:
    shapes = Shapes(1, 4, prompt_tokens=20, target_tokens=10, image_size=(768, 768))
    flops = forward_flops(base.config, shapes)
    projector, frozen = Trained(False, True, True), Trained(False, False, True)
    assert training_flops(base.config, shapes, projector, cached=True) == (
        training_flops(base.config, shapes, projector) - flops.tower.total
    )
    assert training_flops(base.config, shapes, frozen, cached=True) == (
        training_flops(base.config, shapes, frozen) - flops.tower.total - flops.projector.total
    )
    with pytest.raises(ValueError, match="cannot be cached"):
        training_flops(base.config, shapes, Trained(True, True, True), cached=True)


def test_a_page_shared_by_four_questions_costs_base_a_third(
    base: Florence2ForConditionalGeneration,
) -> None:
    """The figures that the documentation states, at 20 prompt and 10 target tokens."""
    whole, frozen = Trained(True, True, True), Trained(False, True, True)

    def a_question(questions: int, trained: Trained, cached: bool = False) -> float:
        shapes = Shapes(1, questions, 20, 10, (768, 768))
        return training_flops(base.config, shapes, trained, cached) / questions / GIGA

    one = forward_flops(base.config, Shapes(1, 1, 20, 10, (768, 768)))
    assert one.tower.total / GIGA == pytest.approx(379.8, abs=0.1)
    assert one.total / GIGA == pytest.approx(448.3, abs=0.1)
    assert a_question(1, whole) == pytest.approx(1343.5, abs=0.1)
    assert a_question(4, whole) == pytest.approx(488.0, abs=0.1)
    assert a_question(4, frozen, cached=True) == pytest.approx(203.5, abs=0.1)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 3090 Ti", 80),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA RTX 6000 Ada Generation", 364.25),
    ],
)
def test_a_gpu_is_known_by_its_name(name: str, teraflops: float) -> None:
    assert peak_flops(name) == teraflops * 1e12


@pytest.mark.parametrize(
    "name",
    ["Tesla T4", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "cpu"],
)
def test_no_peak_is_guessed(name: str) -> None:
    assert peak_flops(name) is None
