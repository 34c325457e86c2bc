"""Loading: what is accepted, what is refused and how, and what a checkpoint brings along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    Florence2ForConditionalGeneration,
    GenerationConfig,
)

from florence_data import InputError
from florence_train.model import (
    freeze_vision,
    load_florence,
    resolve_template,
    set_train_mode,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    replace(load_florence("tiny"), template="docvqa").save(directory)
    return directory


def test_the_same_seed_gives_the_same_tiny_model() -> None:
    one, same, other = (load_florence("tiny", seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_loads_here_and_with_plain_transformers(checkpoint: Path) -> None:
    expected = load_florence("tiny").model.state_dict()
    ours = load_florence(str(checkpoint))
    assert ours.template == "docvqa"
    for model in (ours.model, Florence2ForConditionalGeneration.from_pretrained(checkpoint)):
        assert all(torch.equal(model.state_dict()[name], expected[name]) for name in expected)
    processor = AutoProcessor.from_pretrained(checkpoint)
    assert processor.image_processor.image_seq_length == ours.image_tokens
    assert (checkpoint / "model.safetensors").is_file()


def test_a_checkpoints_own_generation_arguments_are_set_aside(checkpoint: Path) -> None:
    banning = GenerationConfig(num_beams=3, no_repeat_ngram_size=3)
    (checkpoint / "generation_config.json").write_text(json.dumps(banning.to_diff_dict()))
    generation = load_florence(str(checkpoint)).model.generation_config
    assert generation.num_beams in (None, 1)
    assert generation.no_repeat_ngram_size in (None, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "no weights there.*model.safetensors"),
        (lambda path: path.write_text("x"), "a file; a checkpoint is a directory"),
        (lambda path: None, "cannot be loaded.*accepted: tiny, a run's directory"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model-directory"
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        load_florence(str(path))
    assert "\n" not in str(caught.value)


def test_weights_that_are_cut_short_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_florence(str(tmp_path))


def test_a_checkpoint_that_lacks_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("model.multi_modal_projector.image_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are not in it, .*image_projection"):
        load_florence(str(tmp_path))


def test_a_template_other_than_the_checkpoints_is_an_error() -> None:
    assert resolve_template(recorded=None, wanted=None) == "docvqa"
    assert resolve_template(recorded="vqa", wanted=None) == "vqa"
    assert resolve_template(recorded=None, wanted="vqa") == "vqa"
    with pytest.raises(InputError, match="trained with the template vqa"):
        resolve_template(recorded="vqa", wanted="docvqa")


def test_a_frozen_tower_is_deterministic_in_training() -> None:
    """Drop-path makes the features of a tower in train mode random, gradients or none."""
    model = load_florence("tiny").model
    for module in model.modules():
        if hasattr(module, "drop_path1"):
            module.drop_path1 = module.drop_path2 = torch.nn.Dropout(0.5)
    freeze_vision(model)
    set_train_mode(model)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        once, again = (model.get_image_features(pixels).pooler_output for _ in range(2))
    assert torch.equal(once, again)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and not any("vision_tower" in name for name in trained)
    assert model.model.language_model.training
