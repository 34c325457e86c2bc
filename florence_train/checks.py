"""What a run proves about itself before its first step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Florence2ForConditionalGeneration

from florence_data import InputError
from florence_train.batches import IGNORED, Batch
from florence_train.model import Florence, GroupedFlorence, question_losses

PADDING = 3
"""Tokens by which the check of padding lengthens prompts and labels."""

TOLERANCE = 1e-4
"""Largest relative difference between two float32 computations of the same loss."""

COMPILED_TOLERANCE = 0.01
"""What a compiled gradient may be off beside rounding: TF32 on a GPU, and the order of sums."""


def check_start(florence: Florence, batch: Batch) -> Iterator[str]:
    """The checks before the first step, in float32 and without dropout; a line for each.

    Raises `InputError` for the first that fails.
    """
    model = florence.model.eval()
    # Convolutions take TF32 on a GPU unless they are told not to.
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        logits = florence.grouped(batch)
        loss = float(question_losses(logits, batch.labels).sum()) / batch.target_tokens
        yield _check_loss(florence, batch, loss)
        yield _check_padding(model, batch, loss)
        yield _check_question(model, batch, logits)
    yield _check_gradients(florence, batch)


def _check_loss(florence: Florence, batch: Batch, ours: float) -> str:
    """The trainer's loss equals two others.

    The first is the negative log-likelihood, written out token by token, of the model's ordinary
    forward pass: one image a question, features scattered to the `<image>` tokens. It differs if
    grouping, masks or the shift of the labels are wrong. The second is the loss that transformers
    returns for these labels; versions 4.57 to 5.12 shift them twice, and what they train drops
    tokens.
    """
    model = florence.model
    image = batch.prompts.new_full(
        (len(batch.prompts), florence.image_tokens), model.config.image_token_id
    )
    official = model(
        input_ids=torch.cat([image, batch.prompts], dim=1),
        attention_mask=torch.cat([torch.ones_like(image), batch.prompt_mask], dim=1),
        pixel_values=batch.pixels[batch.page],
        labels=batch.labels,
    )
    probabilities = official.logits.float().log_softmax(dim=-1)
    total = sum(
        -float(probabilities[row, position, label])
        for row, labels in enumerate(batch.labels.tolist())
        for position, label in enumerate(labels)
        if label != IGNORED
    )
    plain, theirs = total / batch.target_tokens, float(official.loss)
    for name, other in (("plain cross-entropy", plain), ("the loss of transformers", theirs)):
        if not _close(ours, other):
            raise InputError(
                f"the loss check failed: {ours:.6f} here, {other:.6f} by {name}; "
                "transformers 5.13 or later is needed, with a checkpoint of its native Florence-2"
            )
    return f"loss {ours:.4f} equals plain cross-entropy {plain:.4f}"


def _check_padding(model: Florence2ForConditionalGeneration, batch: Batch, loss: float) -> str:
    """More padding at the end of prompts and labels leaves the loss as it is."""
    padded = replace(
        batch,
        prompts=functional.pad(
            batch.prompts, (0, PADDING), value=model.config.text_config.pad_token_id
        ),
        prompt_mask=functional.pad(batch.prompt_mask, (0, PADDING), value=0),
        labels=functional.pad(batch.labels, (0, PADDING), value=IGNORED),
    )
    other = float(question_losses(GroupedFlorence(model)(padded), padded.labels).sum())
    other /= batch.target_tokens
    if not _close(loss, other):
        raise InputError(
            f"the padding check failed: loss {loss:.6f}, and {other:.6f} with {PADDING} more "
            "padding tokens; the attention mask or the labels do not leave padding out"
        )
    return f"padding does not change it ({other:.4f})"


def _check_question(model: Florence2ForConditionalGeneration, batch: Batch, logits: Tensor) -> str:
    """Another question in its place changes the logits of the first question's answer."""
    words = batch.prompts.clone()
    inside = slice(1, int(batch.prompt_mask[0].sum()) - 1)
    words[0, inside] = words[0, inside].flip(0)
    if torch.equal(words, batch.prompts):
        words[0, inside] = words[0, inside] + 1
    changed = GroupedFlorence(model)(replace(batch, prompts=words))[0] - logits[0]
    largest = float(changed.abs().max())
    if not largest > 0:
        raise InputError(
            "the question check failed: the logits are the same for another question; a template "
            "or a mask that hides the question teaches a model to guess"
        )
    return f"the question matters: another one moves a logit by {largest:.2g}"


def _check_gradients(florence: Florence, batch: Batch) -> str:
    """What is trained has a gradient, and what is frozen has none."""
    loss = question_losses(florence.grouped(batch), batch.labels).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    trained, frozen = 0, 0
    for name, parameter in florence.model.named_parameters():
        if parameter.requires_grad == (parameter.grad is None):
            what = "trained and has no" if parameter.requires_grad else "frozen and has a"
            raise InputError(f"the gradient check failed: {name} is {what} gradient")
        trained += parameter.requires_grad
        frozen += not parameter.requires_grad
    florence.model.zero_grad()
    adapted = sum("lora_A" in name for name, _ in florence.model.named_parameters())
    adapters = f", adapters in {adapted} layers" if adapted else ""
    return f"{trained} tensors have a gradient, {frozen} frozen ones have none{adapters}"


def check_compiled(
    florence: Florence, batch: Batch, autocast: Callable[[], AbstractContextManager[Any]]
) -> str:
    """Compiled layers have the gradient of the layers as they are, up to the rounding of these.

    Both are compared with the gradient in float32, each in the precision that `autocast` sets, all
    without dropout. Raises `InputError` where the compiled one is further from it than twice the
    other, and more than `COMPILED_TOLERANCE` beside.
    """
    florence.model.eval()
    with torch.compiler.set_stance("force_eager"):
        exact = _gradients(florence, batch, nullcontext)
        own = _distance(_gradients(florence, batch, autocast), exact)
    compiled = _distance(_gradients(florence, batch, autocast), exact)
    if not compiled <= 2 * own + COMPILED_TOLERANCE:
        raise InputError(
            f"the check of --compile failed: the gradient is {compiled:.1%} off that in float32, "
            f"and {own:.1%} where nothing is compiled; accepted: a run without --compile, or "
            "another version of torch"
        )
    return f"compiled, the gradient is {compiled:.1%} off float32's, as it is {own:.1%}"


def _gradients(
    florence: Florence, batch: Batch, autocast: Callable[[], AbstractContextManager[Any]]
) -> list[Tensor]:
    with autocast():
        loss = question_losses(florence.grouped(batch), batch.labels).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [p.grad for p in florence.model.parameters() if p.grad is not None]
    florence.model.zero_grad()
    return trained


def _distance(found: list[Tensor], exact: list[Tensor]) -> float:
    """The norm of the difference of two gradients, as a part of that of the second."""
    squares = torch.stack(
        [
            torch.stack([((a - b) ** 2).sum(), (b**2).sum()])
            for a, b in zip(found, exact, strict=True)
        ]
    ).sum(dim=0)
    return float((squares[0] / squares[1]).sqrt())


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(other))


def fingerprints(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """The SHA-256 of each tensor's bits: equal before and after if the tensor was left alone."""
    return {
        name: hashlib.sha256(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
        ).hexdigest()
        for name, tensor in parameters.items()
    }
