"""What docs/blog-recipe.md says of the recipe's mistakes is so, and tests hold what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

from florence_eval import anls
from florence_train import load_florence
from florence_train.model import Florence


@pytest.fixture
def florence() -> Florence:
    florence = load_florence("tiny")
    florence.model.eval()
    return florence


def inputs(florence: Florence, questions: list[str]) -> dict[str, torch.Tensor]:
    """A white page and its questions as the official processor makes them, padded."""
    size = florence.image_size
    batch = florence.processor(
        text=questions,
        images=[torch.full((3, size[1], size[0]), 255, dtype=torch.uint8)] * len(questions),
        return_tensors="pt",
        padding=True,
    )
    return dict(batch)


def test_an_attribute_does_not_freeze_a_tower(florence: Florence) -> None:
    model = florence.model.train()
    for parameter in model.model.vision_tower.parameters():
        parameter.is_trainable = False
    before = [p.detach().clone() for p in model.model.vision_tower.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    labels = florence.processor.tokenizer(["12"], return_tensors="pt").input_ids
    model(**inputs(florence, ["What?"]), labels=labels).loss.backward()
    optimizer.step()
    after = model.model.vision_tower.parameters()
    assert not all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@torch.no_grad()
def test_padding_in_the_labels_is_counted_by_the_loss(florence: Florence) -> None:
    answers = ["7", "a much longer answer"]
    batch = inputs(florence, ["What?", "What?"])
    padded = florence.processor.tokenizer(answers, return_tensors="pt", padding=True).input_ids
    ignored = padded.masked_fill(padded == florence.text_encoder.pad, -100)
    logits = florence.model(**batch, labels=padded).logits.flatten(0, 1)

    cross_entropy = torch.nn.functional.cross_entropy
    for labels in (padded, ignored):
        loss = florence.model(**batch, labels=labels).loss
        assert loss == pytest.approx(float(cross_entropy(logits, labels.flatten())), rel=1e-5)
    of_padding = cross_entropy(logits, padded.flatten(), reduction="none")[ignored.flatten() < 0]
    assert len(of_padding) == len(answers[1]) - len(answers[0])
    assert (of_padding > 0).all()


@torch.no_grad()
def test_without_a_mask_the_padding_of_a_question_is_read(florence: Florence) -> None:
    decoder = torch.tensor([[2, 0]])
    alone = inputs(florence, ["What?"])
    beside = inputs(florence, ["What?", "What is the name of the company at the top?"])
    beside = {name: tensor[:1] for name, tensor in beside.items()}
    assert beside["input_ids"].shape[1] > alone["input_ids"].shape[1]

    def logits(batch: dict[str, torch.Tensor], masked: bool) -> torch.Tensor:
        batch = {name: value for name, value in batch.items() if masked or "mask" not in name}
        found: torch.Tensor = florence.model(**batch, decoder_input_ids=decoder).logits
        return found

    assert torch.allclose(logits(alone, True), logits(beside, True), atol=1e-4)
    assert not torch.allclose(logits(alone, False), logits(beside, False), atol=1e-2)


def test_a_ban_on_repeated_tokens_corrupts_numbers(florence: Florence) -> None:
    encode = florence.text_encoder.encode
    written = torch.tensor([encode(("1,000,000,",))[:-1]])
    [zero] = encode(("0",))[1:-1]
    scores = torch.zeros(1, len(florence.processor.tokenizer))
    banned = NoRepeatNGramLogitsProcessor(3)(
        torch.cat([written, torch.tensor([[zero]])], 1), scores
    )
    assert banned[0, zero] == -torch.inf


def test_the_posts_score_is_not_the_official_one() -> None:
    assert anls("ITC LIMITED", ["itc limited"]) == 1
    assert anls("ITC LIMITED", ["itc limited"], variant="seed") == 0
    assert anls("28%", ["0.28", "28%"]) == 1
    assert anls("28%", ["0.28", "28%"], variant="seed") == 0


def test_every_mistake_names_tests_that_are_there(repository: Path) -> None:
    page = (repository / "docs/blog-recipe.md").read_text(encoding="utf-8")
    title, *mistakes = re.split(r"^## \d\. ", page.partition("\n## Smaller things")[0], flags=re.M)
    assert "nine mistakes" in title.splitlines()[0]
    assert len(mistakes) == 9
    defined = {
        name
        for path in (repository / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    }
    for mistake in mistakes:
        named = set(re.findall(r"`(test_\w+)`", mistake))
        assert named and named <= defined, (mistake.splitlines()[0], named - defined)
