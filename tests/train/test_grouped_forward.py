"""A page encoded once for all its questions gives what one page a question gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from florence_data import InputError, SampleSet
from florence_data.prompts import prompt_template
from florence_train.batches import Batch, Group, PageReader
from florence_train.checks import check_start
from florence_train.model import Florence, GroupedFlorence, load_florence, question_losses


@pytest.fixture
def florence() -> Florence:
    return load_florence("tiny")


@pytest.fixture
def batch(florence: Florence, samples: SampleSet) -> Batch:
    reader = PageReader((samples,), prompt_template("docvqa"), florence.collator, 400, workers=0)
    return reader.batch((Group(2, (0, 1, 2)), Group(3, (0, 1, 2, 3)), Group(0, (0,))))


def test_loss_and_gradients_equal_the_ungrouped_computation(
    florence: Florence, batch: Batch
) -> None:
    model = florence.model.eval()
    loss = question_losses(GroupedFlorence(model)(batch), batch.labels).sum()
    loss.backward()
    grouped = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    image = torch.full((len(batch.prompts), florence.image_tokens), model.config.image_token_id)
    official = model(
        input_ids=torch.cat([image, batch.prompts], dim=1),
        attention_mask=torch.cat([torch.ones_like(image), batch.prompt_mask], dim=1),
        pixel_values=batch.pixels[batch.page],
        labels=batch.labels,
    )
    (official.loss * batch.target_tokens).backward()

    assert loss.item() / batch.target_tokens == pytest.approx(official.loss.item(), rel=1e-5)
    ungrouped = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert grouped.keys() == ungrouped.keys()
    largest = float(max(gradient.abs().max() for gradient in ungrouped.values()))
    for name, gradient in grouped.items():
        assert torch.allclose(gradient, ungrouped[name], rtol=1e-5, atol=1e-5 * largest), name


def test_padding_does_not_change_the_loss(florence: Florence, batch: Batch) -> None:
    model = florence.model.eval()
    grouped = GroupedFlorence(model)
    pad = torch.nn.functional.pad
    padded = replace(
        batch,
        prompts=pad(batch.prompts, (0, 7), value=1),
        prompt_mask=pad(batch.prompt_mask, (0, 7), value=0),
        labels=pad(batch.labels, (0, 5), value=-100),
    )
    with torch.no_grad():
        one = question_losses(grouped(batch), batch.labels)
        other = question_losses(grouped(padded), padded.labels)
    assert torch.allclose(one, other, rtol=1e-5)


def test_the_start_up_checks_pass_on_a_sound_model(florence: Florence, batch: Batch) -> None:
    loss, padding, question, gradients = check_start(florence, batch)
    assert "equals plain cross-entropy" in loss
    assert "padding does not change it" in padding
    assert "the question matters" in question
    assert "tensors have a gradient, 0 frozen" in gradients


def test_labels_that_are_shifted_twice_are_found(
    florence: Florence, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted_again(logits, labels, vocab_size, shift_labels=None, **_):  # type: ignore[no-untyped-def]
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, vocab_size), labels[:, 1:].reshape(-1), ignore_index=-100
        )

    monkeypatch.setattr(type(florence.model), "loss_function", staticmethod(shifted_again))
    with pytest.raises(InputError, match=r"the loss check failed.*transformers"):
        list(check_start(florence, batch))


def test_a_mask_that_lets_padding_in_is_found(
    florence: Florence, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = GroupedFlorence.embed

    def unmasked(self: GroupedFlorence, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings, mask = embed(self, batch)
        return embeddings, torch.ones_like(mask)

    monkeypatch.setattr(GroupedFlorence, "embed", unmasked)
    even = replace(
        batch,
        page=batch.page[:1],
        pixels=batch.pixels[:1],
        prompts=batch.prompts[:1, : int(batch.prompt_mask[0].sum())],
        prompt_mask=batch.prompt_mask[:1, : int(batch.prompt_mask[0].sum())],
        labels=batch.labels[:1],
    )
    with pytest.raises(InputError, match="the padding check failed"):
        list(check_start(florence, even))


def test_a_pipeline_that_hides_the_question_is_refused(
    florence: Florence, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = GroupedFlorence.embed

    def blind(self: GroupedFlorence, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return embed(self, replace(batch, prompts=torch.ones_like(batch.prompts)))

    monkeypatch.setattr(GroupedFlorence, "embed", blind)
    monkeypatch.setattr("florence_train.checks._check_loss", lambda *_: "")
    with pytest.raises(InputError, match="the question check failed"):
        list(check_start(florence, batch))
