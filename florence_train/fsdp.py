"""Fully sharded data parallelism (FSDP, version 2): each process keeps a part of every weight.

Gradients and the optimiser's moments are divided in the same way. A block's weights are gathered
for its forward and backward pass and let go again, so all processes must compute the same blocks in
the same order: each has as many parts of a step as the others, and what is not a training step
(evaluation, saving) gets a whole model. A frozen tower has neither gradients nor moments; it stays
whole in every process, which may then encode pages or find them in the cache as it happens.

What is computed is what one process computes: weights are gathered, and gradients averaged, in
float32, and the forward pass runs under accelerate's autocast.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, compare_versions, is_torch_version
from torch import Tensor, nn
from torch.distributed.fsdp import OffloadPolicy
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy, transformer_auto_wrap_policy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from florence_data import InputError
from florence_train.config import TrainConfig
from florence_train.model import Florence, trains

BLOCKS = ("Florence2VisionBlock", "BartEncoderLayer", "BartDecoderLayer")
"""What is gathered at a time where accelerate is not told otherwise; the rest (embeddings and
projector, mostly) stays gathered from the forward pass until the backward pass is done."""


def refuse_unsupported(accelerator: Accelerator, config: TrainConfig) -> None:
    """Raise `InputError` for what a launch with FSDP cannot do, or would silently do otherwise."""
    if is_torch_version("<", "2.7") or compare_versions("accelerate", "<", "1.15"):
        # Older ones divide a frozen tower too, and then wait for a page that one process has kept.
        raise InputError("launched with FSDP, for which torch 2.7 and accelerate 1.15 are needed")
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise InputError(
            f"launched with FSDP version {plugin.fsdp_version}; --fsdp_version 2 is accepted"
        )
    classes = plugin.transformer_cls_names_to_wrap or ()
    for found, wrong, accepted in (
        ("--lora-rank", config.lora_rank, "adapters on one GPU or with DDP, where they fit"),
        ("--compile", config.compile, "a model that is not compiled"),
        ("fsdp_offload_params", type(plugin.cpu_offload) is not OffloadPolicy, "false"),
        (
            "fsdp_activation_checkpointing",
            plugin.activation_checkpointing,  # its second pass draws other random numbers
            "false, with --checkpoint-activations",
        ),
        ("fsdp_ignored_modules", plugin.ignored_modules, "none"),
        (
            "fsdp_auto_wrap_policy SIZE_BASED_WRAP",
            plugin.auto_wrap_policy is size_based_auto_wrap_policy,
            "TRANSFORMER_BASED_WRAP",
        ),
        (
            f"fsdp_transformer_layer_cls_to_wrap {','.join(classes)}",
            not set(classes) <= set(BLOCKS),
            f"some of {','.join(BLOCKS)}",
        ),
        ("use_parallelism_config", accelerator.parallelism_config, "FSDP over all processes"),
    ):
        if wrong:
            raise InputError(f"{found} in a launch with FSDP; accepted: {accepted}")


def prepare(
    accelerator: Accelerator, florence: Florence, optimizer: Optimizer
) -> tuple[nn.Module, Any, Callable[[], Florence]]:
    """`accelerator.prepare` of the forward pass and its optimiser, and a function for whole models.

    All processes call that function alike. It returns the model with all of its weights: under FSDP
    a copy, which holds the device's memory as long as it is used; otherwise the model itself.
    """
    grouped = florence.grouped
    if accelerator.distributed_type != DistributedType.FSDP:
        return *accelerator.prepare(grouped, optimizer), lambda: florence
    plugin = accelerator.state.fsdp_plugin
    plugin.auto_wrap_policy = transformer_auto_wrap_policy
    plugin.transformer_cls_names_to_wrap = plugin.transformer_cls_names_to_wrap or list(BLOCKS)
    plugin.mixed_precision_policy = None  # accelerate's would round gradients to bfloat16
    tower = florence.model.model.vision_tower
    plugin.ignored_modules = None if trains(tower) else [tower]
    empty = _without_weights(florence.model)
    # Under FSDP accelerate leaves autocast to the loop.
    grouped.forward = accelerator.autocast()(grouped.forward)  # type: ignore[method-assign]
    # A block of the tower returns a view, and nothing that takes it changes it in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    grouped, prepared = accelerator.prepare(grouped, optimizer)
    plugin.ignored_modules = None  # accelerate keeps its options for the next run of the process
    return grouped, prepared, partial(_whole, florence, empty)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor that the processes have divided, put together in each; another one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters have shapes and ties but no memory."""
    return copy.deepcopy(
        model,
        {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in model.parameters()},
    )


def _whole(florence: Florence, empty: nn.Module) -> Florence:
    """The copy again, with the present weights; those that every process has whole are shared."""
    divided = dict(florence.model.named_parameters())
    weights = {
        id(parameter): nn.Parameter(whole_tensor(divided[name].detach()), requires_grad=False)
        for name, parameter in empty.named_parameters()
    }
    return replace(florence, model=copy.deepcopy(empty, weights))
