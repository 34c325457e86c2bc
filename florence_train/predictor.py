"""Answers for every question of a shard set: one encoding a page, one line a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from accelerate import Accelerator
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from florence_data import InputError, SampleSet
from florence_data.prompts import Example, prompt_template
from florence_train.batches import Batch, PageReader, all_questions, pack
from florence_train.config import PredictConfig
from florence_train.model import Florence, GroupedFlorence, load_florence, resolve_template
from florence_train.progress import progress_bar


def predict(config: PredictConfig) -> int:
    """Write the predictions as configured and return how many there are.

    The rows stand in the order of the set. Raises `InputError` for what cannot be used.
    """
    device = Accelerator().device
    florence = load_florence(config.model, config.seed)
    template = prompt_template(resolve_template(florence.template, config.template))
    samples = SampleSet.from_shards(config.data)
    if config.limit is not None:
        samples = samples.subset(first=config.limit)
    reader = PageReader((samples,), template, florence.collator, config.workers)
    plan = pack(all_questions(samples), config.batch_size)
    if not plan:
        raise InputError(f"{config.data}: no question in it")
    florence.model.to(device)

    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".unfinished")
    encoder = msgspec.json.Encoder()
    count = 0
    with progress_bar() as progress, unfinished.open("wb") as file:
        task = progress.add_task("predict", total=len(plan), questions=0, note="")
        for batch in reader.batches(plan):
            answers = answer(florence, batch.to(device), config.num_beams, config.max_new_tokens)
            for example, text in zip(batch.examples, answers, strict=True):
                file.write(encoder.encode(prediction_row(example, text)) + b"\n")
            count += len(answers)
            progress.update(task, advance=1, questions=count)
    unfinished.replace(out)
    return count


def prediction_row(example: Example, text: str) -> dict[str, Any]:
    """The line of `predictions.jsonl` for one answer, its references and metadata carried along."""
    sample, supervision = example.sample, example.supervision
    metadata = dict(supervision.metadata)
    return {
        "question_id": supervision.id,
        "prediction": text,
        "answers": example.references,
        "question": supervision.question,
        "image": sample.id,
        "doc_id": sample.doc_id,
        "source": sample.source,
        "split": sample.split,
        "question_types": metadata.pop("question_types", []),
        "metadata": metadata,
    }


@torch.inference_mode()
def answer(florence: Florence, batch: Batch, num_beams: int, max_new_tokens: int) -> list[str]:
    """The answers to a batch's Q questions, its pages encoded once, greedy or by beam search.

    Every generation argument is given: a checkpoint's own configuration may ban repeated 3-grams.
    """
    model = florence.model.eval()
    embeddings, mask = GroupedFlorence(model).embed(batch)
    encoded = model.model.language_model.encoder(inputs_embeds=embeddings, attention_mask=mask)
    text = model.config.text_config
    ids = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded.last_hidden_state),
        attention_mask=mask,
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            min_new_tokens=0,
            num_beams=num_beams,
            do_sample=False,
            early_stopping=num_beams > 1,
            length_penalty=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            encoder_no_repeat_ngram_size=0,
            forced_bos_token_id=text.bos_token_id,
            bos_token_id=text.bos_token_id,
            eos_token_id=text.eos_token_id,
            pad_token_id=text.pad_token_id,
            decoder_start_token_id=text.decoder_start_token_id,
            use_cache=True,
        ),
    )
    encoder = florence.text_encoder
    return [encoder.decode(row) for row in ids.tolist()]
