"""Compiled layers compute the same, whatever the batch, from few versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Florence2Config, Florence2ForConditionalGeneration

from florence_data import InputError
from florence_train import compilation
from florence_train.batches import Batch
from florence_train.checks import check_compiled
from florence_train.compilation import compile_layers
from florence_train.model import GroupedFlorence, load_florence, question_losses
from florence_train.tiny import tiny_model, tiny_processor


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The graphs that are captured. They run as they are: generating code takes minutes."""
    captured: list[object] = []

    def keep(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        captured.append(graph)
        return graph

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=keep))
    torch._dynamo.reset()
    yield captured
    torch._dynamo.reset()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A compiler whose layers give half of the gradient."""

    def halve(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        def run(*inputs: Tensor) -> Any:
            return tuple(
                (found + found.detach()) / 2 if isinstance(found, Tensor) else found
                for found in graph(*inputs)
            )

        return run

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=halve))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batch(pages: int, each: int, prompt: int, target: int) -> Batch:
    """Random pages of 64 x 64 pixels with so many questions each, every other one padded."""
    generator = torch.Generator().manual_seed(pages)
    questions = pages * each
    mask = torch.ones(questions, prompt, dtype=torch.long)
    mask[::2, prompt - 2 :] = 0
    return Batch(
        pixels=torch.randn(pages, 3, 64, 64, generator=generator),
        stored=None,
        page=torch.arange(pages).repeat_interleave(each),
        prompts=torch.randint(5, 250, (questions, prompt), generator=generator),
        prompt_mask=mask,
        labels=torch.randint(5, 250, (questions, target), generator=generator),
        examples=(),
    )


def loss_and_gradients(model: Florence2ForConditionalGeneration, batch: Batch) -> list[Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    loss = question_losses(GroupedFlorence(model)(batch), batch.labels).sum()
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_batches_of_all_sizes_share_what_was_compiled(graphs: list[object]) -> None:
    settings = tiny_model(tiny_processor(), seed=0).config.to_dict()
    # Drop-path at another rate in each block, and several blocks in a stage.
    settings["vision_config"] |= {"drop_path_rate": 0.5, "depths": (1, 1, 3, 1)}
    model = Florence2ForConditionalGeneration(Florence2Config(**settings)).train()
    names = list(model.state_dict())
    batches = [batch(2, 4, 20, 10), batch(3, 2, 17, 5), batch(4, 1, 24, 8)]
    expected = [loss_and_gradients(model, one) for one in batches]
    compile_layers(model)
    assert list(model.state_dict()) == names
    for one, values in zip(batches, expected, strict=True):
        found = loss_and_gradients(model, one)
        assert all(torch.equal(a, b) for a, b in zip(found, values, strict=True))
    # The tower's first block has no drop-path, the first of a stage comes out of a convolution;
    # BART's encoder and decoder are one each.
    assert len(graphs) <= 7


def test_the_check_of_a_compiled_model_passes_with_its_own_gradient(graphs: list[object]) -> None:
    florence = load_florence("tiny")
    compile_layers(florence.model)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    line = check_compiled(florence, batch(2, 2, 8, 5), autocast)
    assert graphs
    compiled, own = map(float, re.findall(r"([\d.]+)%", line))
    assert compiled == own > 0.1
    assert all(p.grad is None for p in florence.model.parameters())


@pytest.mark.usefixtures("broken")
def test_a_compiler_that_changes_the_gradient_is_refused() -> None:
    florence = load_florence("tiny")
    compile_layers(florence.model)
    with pytest.raises(InputError, match=r"^the check of --compile failed: the gradient is \d"):
        check_compiled(florence, batch(2, 2, 8, 5), nullcontext)
