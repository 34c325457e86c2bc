"""A Florence-2 model with what belongs to it, and its grouped forward pass.

A page is encoded once: the features of P pages are repeated for their Q questions and stand before
each question's text embeddings, which is where the processor's `<image>` tokens stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from einops import rearrange, reduce
from huggingface_hub.errors import HFValidationError
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoProcessor,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
)
from transformers.utils import logging

from florence_data import InputError
from florence_train.adapters import merged, save_adapters
from florence_train.batches import IGNORED, Batch, Collator
from florence_train.feature_cache import FeatureCache, project, tower_features
from florence_train.text import TextEncoder
from florence_train.tiny import tiny_model, tiny_processor

GPU_MULTIPLE = 8
"""A GPU's sequences are padded to a multiple of so many tokens: other lengths of a mask are copied
to one in every layer."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")

TRAINED_WITH = "trained_with.json"
"""Beside the weights of a checkpoint: what prediction must do as training did."""


@dataclass(frozen=True)
class Florence:
    """A model, its processor, and the template that it was trained with (None: any).

    `cache` holds the features of pages that a frozen tower has encoded; `adapted` is the model with
    its low-rank adapters, where it has some.
    """

    model: Florence2ForConditionalGeneration
    processor: Florence2Processor
    template: str | None
    cache: FeatureCache | None = None
    adapted: PeftModel | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels that a page is scaled to."""
        size = self.processor.image_processor.size
        return size["width"], size["height"]

    @property
    def image_tokens(self) -> int:
        """How many tokens a page becomes: the tower's grid and one more (577 at 768 x 768)."""
        return int(self.processor.image_processor.image_seq_length)

    @property
    def max_prompt_tokens(self) -> int:
        """What is left for the prompt, `<s>` and `</s>` included, beside the image tokens."""
        return self.max_target_tokens - self.image_tokens

    @property
    def max_target_tokens(self) -> int:
        """The longest target or answer, `<s>` and `</s>` included: the positions that the model's
        encoder and decoder have."""
        positions: int = self.model.config.text_config.max_position_embeddings
        return positions

    def refuse_longer(self, **options: int) -> None:
        """Raise `InputError` for an option, by name, that allows more tokens than the decoder."""
        for name, tokens in options.items():
            if tokens > self.max_target_tokens:
                raise InputError(
                    f"{name} is {tokens}; up to {self.max_target_tokens} is accepted, which is "
                    "what the model's decoder has positions for"
                )

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The vocabulary of this checkpoint."""
        return TextEncoder(self.processor.tokenizer)

    @property
    def collator(self) -> Collator:
        """What turns examples into this model's batches."""
        on_gpu = self.model.device.type == "cuda"
        return Collator(
            self.text_encoder,
            self.image_size,
            cache=self.cache,
            image_tokens=self.image_tokens,
            multiple=GPU_MULTIPLE if on_gpu else 1,
        )

    @property
    def grouped(self) -> GroupedFlorence:
        """The forward pass over batches."""
        return GroupedFlorence(self.model, self.cache)

    def save(self, directory: Path) -> None:
        """Write a checkpoint that `load_florence` and `from_pretrained` of transformers load.

        Adapters are multiplied into its weights, and stand beside it in `adapter/` in peft's form.
        """
        model = self.model
        if self.adapted is not None:
            save_adapters(self.adapted, directory / "adapter")
            model = merged(self.adapted)
        with _quiet():
            model.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        record = {"prompt_template": self.template}
        (directory / TRAINED_WITH).write_text(json.dumps(record) + "\n")


def load_florence(name: str, seed: int = 0) -> Florence:
    """Load `tiny`, a run's directory, a directory of the hub's layout, or a checkpoint of the hub.

    `seed` is for the untrained weights of `tiny`. Weights are float32. Raises `InputError` for a
    directory without weights and for a name that is neither.
    """
    if name == "tiny":
        processor = tiny_processor()
        return _prepared(tiny_model(processor, seed), processor, template=None)
    directory = Path(name)
    # A run that was killed while it replaced its model has the old one beside.
    for held in ("model", "model.old"):
        if (directory / held).is_dir():
            directory = directory / held
            break
    if directory.is_dir():
        if not any((directory / weights).is_file() for weights in WEIGHTS):
            raise InputError(
                f"{directory}: no weights there; a directory with one of {', '.join(WEIGHTS)} "
                "or a run's directory is accepted"
            )
        name = str(directory)
    elif directory.exists():
        raise InputError(f"{directory}: a file; a checkpoint is a directory")
    try:
        with _quiet():
            model, loaded = Florence2ForConditionalGeneration.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True
            )
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, SafetensorError, HFValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model {name!r} cannot be loaded: {reason}; accepted: tiny, a run's directory, a "
            "checkpoint's directory, or a Florence-2 checkpoint on the hub such as "
            "florence-community/Florence-2-base-ft"
        ) from None
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise InputError(
            f"model {name!r}: {len(missing)} weights are not in it, {missing[0]} among them; a "
            "checkpoint of the native Florence-2 is accepted (florence-community/Florence-2-*), "
            "Microsoft's original with remote code is not"
        )
    return _prepared(model, processor, template=_recorded_template(directory))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which would break ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _recorded_template(directory: Path) -> str | None:
    path = directory / TRAINED_WITH
    if not path.is_file():
        return None
    try:
        template: str = json.loads(path.read_text())["prompt_template"]
    except (ValueError, KeyError):
        raise InputError(f"{path}: no prompt_template in it; the run wrote one") from None
    return template


def _prepared(
    model: Florence2ForConditionalGeneration, processor: Florence2Processor, template: str | None
) -> Florence:
    # Converted checkpoints carry three beams and a ban on repeated 3-grams, which corrupts numbers.
    # Generation arguments are the predictor's to set, all of them.
    text = model.config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
        decoder_start_token_id=text.decoder_start_token_id,
    )
    return Florence(model, processor, template)


def resolve_template(recorded: str | None, wanted: str | None, default: str = "docvqa") -> str:
    """The template to use with a checkpoint: the one it was trained with.

    Raises `InputError` if another one is wanted: asked differently than trained, a model answers
    worse without any sign of it.
    """
    if recorded is not None and wanted is not None and wanted != recorded:
        raise InputError(
            f"--template {wanted}: the checkpoint was trained with the template {recorded}; "
            f"leave the flag out or give {recorded}"
        )
    return recorded or wanted or default


def freeze_vision(model: Florence2ForConditionalGeneration) -> None:
    """Keep the vision tower as it is; the projector stays trainable.

    Gradients off is half of it: drop-path makes the tower's features random in train mode, so a
    training loop must also keep the tower in eval mode (`set_train_mode`).
    """
    model.model.vision_tower.requires_grad_(False)


def set_train_mode(model: Florence2ForConditionalGeneration) -> None:
    """Train mode for what is trained, eval mode for a frozen tower."""
    model.train()
    tower = model.model.vision_tower
    if not trains(tower):
        tower.eval()


def trains(module: nn.Module) -> bool:
    """Whether any of a module's parameters is trained."""
    return any(parameter.requires_grad for parameter in module.parameters())


class GroupedFlorence(nn.Module):
    """The forward pass over pages with several questions each."""

    def __init__(
        self, model: Florence2ForConditionalGeneration, cache: FeatureCache | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.cache = cache

    def page_features(self, batch: Batch) -> Tensor:
        """The batch's pages, encoded once: [P, N, D], N image tokens of the model's width.

        With a cache, what the frozen tower makes is put there and used as it is stored, so that a
        page looks the same the first time and later.
        """
        parts = []
        stored = [] if batch.stored is None else [batch.stored]
        if len(batch.pixels) and self.cache is None:
            parts.append(self.model.get_image_features(batch.pixels).pooler_output)
        elif len(batch.pixels) and self.cache is not None:
            stored.insert(0, self._fill(self.cache, batch))
        if stored:
            parts.append(self._project(torch.cat(stored)))
        return torch.cat(parts)

    @torch.no_grad()
    def _fill(self, cache: FeatureCache, batch: Batch) -> Tensor:
        features = tower_features(self.model, batch.pixels)
        if self._stores_projected(cache):
            features = project(self.model, features)
        features = features.to(torch.bfloat16)
        for sha256, row in zip(batch.images, features.cpu(), strict=False):
            cache.put(sha256, row)
        return features

    def _project(self, stored: Tensor) -> Tensor:
        if self.cache is not None and self._stores_projected(self.cache):
            return stored
        return project(self.model, stored)

    @staticmethod
    def _stores_projected(cache: FeatureCache) -> bool:
        return len(cache.shape) == 2  # [N, D]; the tower's output is [C, H, W]

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The encoder's input: each question's page features, then its text.

        Returns embeddings [Q, N + L, D] and the attention mask [Q, N + L].
        """
        text = self.model.get_input_embeddings()(batch.prompts)
        image = self.page_features(batch).to(text.dtype)[batch.page]
        mask = torch.cat([batch.prompt_mask.new_ones(image.shape[:2]), batch.prompt_mask], dim=1)
        return torch.cat([image, text], dim=1), mask

    def forward(self, batch: Batch) -> Tensor:
        """Logits [Q, T, V]: before each label, the scores of every token."""
        embeddings, mask = self.embed(batch)
        text = self.model.config.text_config
        inputs = batch.decoder_inputs(text.decoder_start_token_id, text.pad_token_id)
        causal = None
        if self.model.model.language_model.encoder.config._attn_implementation == "sdpa":
            # As sdpa takes them. Of other masks transformers asks whether they leave anything out,
            # and so waits for the device, three times.
            mask = mask.bool()[:, None, None, :]
            targets = inputs.shape[1]
            causal = mask.new_ones((1, 1, targets, targets)).tril()
        logits: Tensor = self.model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            decoder_input_ids=inputs,
            decoder_attention_mask=causal,
            use_cache=False,
        ).logits
        return logits


def question_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in float32, summed over each question's labels that are not -100: [Q]."""
    losses = functional.cross_entropy(
        rearrange(logits.float(), "q t v -> (q t) v"),
        rearrange(labels, "q t -> (q t)"),
        ignore_index=IGNORED,
        reduction="none",
    )
    return reduce(losses, "(q t) -> q", "sum", q=len(labels))
