"""How many floating-point operations a forward pass and a training step take, by their shapes.

Two a multiply-add, as in a device's peak. Counted are the products of matrices: convolutions by
their groups, linear layers, attention with the padding to whole windows. Left out is what is under
1 % of them: norms, activations, softmax, biases, residuals, embeddings, dropout, the loss, the
optimiser. Padded tokens are counted, since they were computed; so are both halves of the decoder's
causal attention. A second forward pass for activation checkpointing is not: utilisation measured
with these numbers is of useful work (MFU as in PaLM, arXiv:2204.02311, appendix B).

`torch.utils.flop_counter` agrees, with two exceptions (torch 2.13). It has no formula for
`scaled_dot_product_attention` on the CPU and counts nothing there: base's forward pass at 768 px,
20 prompt and 10 target tokens comes to 431 GFLOP instead of 448. And its gradient of a
convolution's weights ignores the groups: the backward passes of base's convolutions come to 557
GFLOP a page instead of 37.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from torch import nn
from transformers import BartConfig, Florence2Config, Florence2VisionConfig


@dataclass(frozen=True)
class Shapes:
    """What a batch was computed at: `image_size` is (width, height) in pixels, both numbers of
    tokens are those of a question with its padding."""

    pages: int
    questions: int
    prompt_tokens: int
    target_tokens: int
    image_size: tuple[int, int]


@dataclass(frozen=True)
class Flops:
    """Operations of a part's forward pass.

    `weights` of them multiply by parameters; `activations` multiply what was computed from the
    input by each other, which is attention. The backward pass tells them apart: each product has
    two gradients, and that of a frozen parameter is not needed.
    """

    weights: int
    activations: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.activations

    def __add__(self, other: Flops) -> Flops:
        """Those of two parts."""
        return Flops(self.weights + other.weights, self.activations + other.activations)

    def __mul__(self, times: int) -> Flops:
        """Those of a part that is computed several times."""
        return Flops(self.weights * times, self.activations * times)


@dataclass(frozen=True)
class ForwardFlops:
    """Operations of a batch's forward pass, in the order of the parts.

    Tower and projector are those of the pages, encoder, decoder and head (the scores of every token
    of the vocabulary) those of the questions.
    """

    tower: Flops
    projector: Flops
    encoder: Flops
    decoder: Flops
    head: Flops

    @property
    def total(self) -> int:
        """All of them."""
        parts = (self.tower, self.projector, self.encoder, self.decoder, self.head)
        return sum(part.total for part in parts)


@dataclass(frozen=True)
class Trained:
    """Which parameters have gradients; `adapters` are low-rank ones in the language model."""

    tower: bool
    projector: bool
    language_model: bool
    adapters: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> Trained:
        """By the names of a Florence-2 model's parameters, with or without adapters."""
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        language_model = [name for name in names if "language_model" in name]
        return cls(
            tower=any("vision_tower" in name for name in names),
            projector=any("multi_modal_projector" in name for name in names),
            language_model=any("lora_" not in name for name in language_model),
            adapters=any("lora_" in name for name in language_model),
        )


def forward_flops(config: Florence2Config, shapes: Shapes) -> ForwardFlops:
    """The operations of one forward pass over pages and their questions, nothing cached."""
    vision, text = config.vision_config, config.text_config
    tower, (columns, rows) = _tower(vision, shapes.image_size)
    source, target = _source_tokens(config, shapes), shapes.target_tokens
    projection = _linear(columns * rows + 1, vision.embed_dim[-1], vision.projection_dim)
    return ForwardFlops(
        tower=tower * shapes.pages,
        projector=Flops(projection) * shapes.pages,
        encoder=_encoder(text, source) * shapes.questions,
        decoder=_decoder(text, source, target) * shapes.questions,
        head=Flops(_linear(target, text.d_model, text.vocab_size)) * shapes.questions,
    )


def training_flops(
    config: Florence2Config, shapes: Shapes, trained: Trained, cached: bool = False
) -> int:
    """The operations of a forward and a backward pass.

    The backward pass of a product takes as many operations as the product for each of its two
    gradients. Nothing before the first trained parameter has a gradient, and a frozen parameter has
    none of its own. With `cached` features the tower has no forward pass either, nor has the
    projector unless it is trained: what is stored is then its output.

    Adapters pass gradients through frozen weights; their own products are left out: at rank r,
    3r (n + m) beside the 2nm of an n by m matrix, 6 % for base's 768 by 768 and rank 16.

    Raises `ValueError` for features that are cached while the tower is trained.
    """
    if cached and trained.tower:
        raise ValueError("the features of a tower that is trained cannot be cached")
    forward = forward_flops(config, shapes)
    total = forward.total
    if cached:
        total -= forward.tower.total
        total -= 0 if trained.projector else forward.projector.total

    # The first product behind a constant input has no gradient of it: the stem reads pixels, the
    # encoder's first attention frozen embeddings. The projector adds trained positions first, and
    # the decoder's first layer, of few tokens, is counted in full.
    stem, _ = _patch_embedding(config.vision_config, 0, shapes.image_size)
    first_attention = 0 if trained.language_model else _first_attention_inputs(config, shapes)
    gradient = False
    for part, own, adapted, first in (
        (forward.tower, trained.tower, False, stem.weights * shapes.pages),
        (forward.projector, trained.projector, False, 0),
        (forward.encoder, trained.language_model, trained.adapters, first_attention),
        (forward.decoder, trained.language_model, trained.adapters, 0),
        (forward.head, trained.language_model, False, 0),
    ):
        if own or adapted or gradient:
            total += part.weights + 2 * part.activations - (0 if gradient else first)
            gradient = True
        if own:
            total += part.weights
    return total


def _linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores and their weighted sum, over all heads."""
    return 2 * 2 * queries * keys * width


def _patch_embedding(
    vision: Florence2VisionConfig, stage: int, size: tuple[int, int]
) -> tuple[Flops, tuple[int, int]]:
    """The convolution that begins a stage, on an input of (width, height), and its output's."""
    kernel, stride = vision.patch_size[stage], vision.patch_stride[stage]
    inputs = vision.embed_dim[stage - 1] if stage else vision.in_channels
    width, height = ((n + 2 * vision.patch_padding[stage] - kernel) // stride + 1 for n in size)
    return Flops(_linear(width * height, inputs * kernel**2, vision.embed_dim[stage])), (
        width,
        height,
    )


def _tower(vision: Florence2VisionConfig, size: tuple[int, int]) -> tuple[Flops, tuple[int, int]]:
    """A page's operations and the (width, height) of its grid of features."""
    total = Flops(0)
    for stage, depth in enumerate(vision.depths):
        embedding, size = _patch_embedding(vision, stage, size)
        total += embedding + _tower_block(vision, stage, size) * depth
    return total, size


def _tower_block(vision: Florence2VisionConfig, stage: int, size: tuple[int, int]) -> Flops:
    """Attention within windows and then among the channels of a group, each with its MLP."""
    width, tokens, window = vision.embed_dim[stage], size[0] * size[1], vision.window_size
    in_windows = window**2 * ceil(size[0] / window) * ceil(size[1] / window)
    depthwise = 2 * 9 * tokens * width
    mlp = 2 * _linear(tokens, width, int(width * vision.mlp_ratio))
    spatial = Flops(
        weights=2 * depthwise + mlp + _linear(in_windows, width, 4 * width),
        activations=_attention(in_windows, window**2, width),
    )
    channel = Flops(
        weights=2 * depthwise + mlp + _linear(tokens, width, 4 * width),
        activations=_attention(width, width // vision.num_groups[stage], tokens),
    )
    return spatial + channel


def _source_tokens(config: Florence2Config, shapes: Shapes) -> int:
    """Tokens that the encoder reads for a question: its page's and the prompt's."""
    _, grid = _tower(config.vision_config, shapes.image_size)
    return grid[0] * grid[1] + 1 + shapes.prompt_tokens


def _encoder(text: BartConfig, source: int) -> Flops:
    width = text.d_model
    mlp = 2 * _linear(source, width, text.encoder_ffn_dim)
    layer = Flops(_linear(source, width, 4 * width) + mlp, _attention(source, source, width))
    return layer * int(text.encoder_layers)


def _first_attention_inputs(config: Florence2Config, shapes: Shapes) -> int:
    """Queries, keys and values of the encoder's first layer."""
    width = config.text_config.d_model
    return shapes.questions * _linear(_source_tokens(config, shapes), width, 3 * width)


def _decoder(text: BartConfig, source: int, target: int) -> Flops:
    width = text.d_model
    self_attention = Flops(_linear(target, width, 4 * width), _attention(target, target, width))
    cross_attention = Flops(
        _linear(target, width, 2 * width) + _linear(source, width, 2 * width),
        _attention(target, source, width),
    )
    mlp = Flops(2 * _linear(target, width, text.decoder_ffn_dim))
    return (self_attention + cross_attention + mlp) * int(text.decoder_layers)


_PEAK_TERAFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "GH200": 989.5,
    "H200 NVL": 835.5,
    "H200": 989.5,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.5,
    "A100": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.05,
    "L40": 181.05,
    "L4": 121.0,
    "RTX 6000 Ada": 364.25,
    "RTX A6000": 154.85,
    "RTX A5000": 111.1,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090 Ti": 80.0,
    "RTX 3090": 71.0,
}
"""bfloat16 on the tensor cores without sparsity, summed in float32: NVIDIA's datasheet of each
product (half of what it states with sparsity), for GeForce the appendices of the white papers on
the GA102, Ada and Blackwell architectures. The words are those of `torch.cuda.get_device_name`;
of several that fit, the first holds."""


def peak_flops(device_name: str) -> float | None:
    """Floating-point operations a second of an NVIDIA GPU in dense bfloat16, by its name.

    None for what is not in the table: an unknown device, a part of one (MIG), a notebook's, and a
    device without bfloat16 on its tensor cores, such as T4 and V100.
    """
    words = set(device_name.replace("-", " ").split())
    if words & {"MIG", "Laptop", "Max"}:
        return None
    for name, teraflops in _PEAK_TERAFLOPS.items():
        if words >= set(name.split()):
            return teraflops * 1e12
    return None
