"""The offline model: a Florence-2 of a million parameters that is made, not downloaded.

It has the same classes, tokens and file layout as the real checkpoints, so everything that works
on it works on them; `--model tiny` means this model. It reads 64 x 64 pixels and bytes, enough to
learn the answers of a few pages by heart and not enough to read.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartTokenizerFast,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Florence2VisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

IMAGE_SIZE = 64
"""Pixels a side; the tower halves it five times to a grid of 2 x 2, and one token is added."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INIT_STD = 0.1
"""At the usual 0.02 the training of a model of this size sits on a plateau (measured)."""

TASK_TOKENS = (
    *("<od>", "</od>", "<ocr>", "</ocr>"),
    *(f"<loc_{position}>" for position in range(1000)),
    *("<cap>", "</cap>", "<ncap>", "</ncap>", "<dcap>", "</dcap>"),
    *("<grounding>", "</grounding>", "<seg>", "</seg>", "<sep>"),
    *("<region_cap>", "</region_cap>", "<region_to_desciption>", "</region_to_desciption>"),
    *("<proposal>", "</proposal>", "<poly>", "</poly>", "<and>"),
)
"""What the published checkpoints add to BART's vocabulary, in their order and spelling."""


def tiny_processor() -> Florence2Processor:
    """A processor of 64 x 64 pixels with one token a byte; no file is read."""
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([*vocabulary[:4], *TASK_TOKENS, "<image>"])
    tokenizer = BartTokenizerFast(
        tokenizer_object=backend, extra_special_tokens={"image_token": "<image>"}
    )
    images = CLIPImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    images.image_seq_length = (IMAGE_SIZE // 32) ** 2 + 1
    return Florence2Processor(image_processor=images, tokenizer=tokenizer)


def tiny_model(processor: Florence2Processor, seed: int) -> Florence2ForConditionalGeneration:
    """The untrained model for that processor's tokens; the same seed gives the same weights."""
    vision = Florence2VisionConfig(
        depths=(1, 1, 1, 1),
        embed_dim=(16, 32, 64, 128),
        num_heads=(1, 2, 4, 8),
        num_groups=(1, 2, 4, 8),
        window_size=4,
        projection_dim=128,
        drop_path_rate=0.0,
        initializer_range=INIT_STD,
    )
    text = BartConfig(
        vocab_size=len(processor.tokenizer),
        d_model=128,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_position_embeddings=512,
        dropout=0.0,
        init_std=INIT_STD,
    )
    config = Florence2Config(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_id=processor.image_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Florence2ForConditionalGeneration(config)
