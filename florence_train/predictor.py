"""Answers for every question of a shard set: one encoding a page, one line a question.

While it works, each process appends to a file of its own beside the output, a line
`{"at": [page, question], "row": {…}}` an answer. When all is done they become the output, in the
order of the set. `--resume` answers what is not in them yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
import xxhash
from accelerate import Accelerator
from accelerate.utils import disable_fsdp_ram_efficient_loading
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from florence_data import InputError, SampleSet
from florence_data.prompts import Example, PromptTemplate, prompt_template
from florence_train.attention import set_attention
from florence_train.batches import Batch, Group, Groups, PageReader, count_questions, pack
from florence_train.config import PredictConfig
from florence_train.model import Florence, load_florence, resolve_template
from florence_train.precision import mixed_precision
from florence_train.progress import progress_bar
from florence_train.survey import set_fingerprints
from florence_train.text import TextEncoder


class _Answer(msgspec.Struct):
    """A line of an unfinished file: where the question is in the set, and its row."""

    at: tuple[int, int]
    row: dict[str, Any]


def predict(config: PredictConfig) -> int:
    """Write the predictions as configured and return how many there are.

    The rows stand in the order of the set. All processes of a launch call this, each answers its
    share. Raises `InputError` for what cannot be used.
    """
    disable_fsdp_ram_efficient_loading()  # every process answers, with the model's weights
    accelerator = Accelerator(mixed_precision=mixed_precision(config.precision))
    florence = load_florence(config.model, config.seed)
    florence.refuse_longer(max_new_tokens=config.max_new_tokens)
    template = prompt_template(resolve_template(florence.template, config.template))
    samples = SampleSet.from_shards(config.data)
    if config.limit is not None:
        samples = samples.subset(first=config.limit)
    limit = florence.max_prompt_tokens
    groups, shortened = _by_length(samples, template, florence.text_encoder, limit)
    if shortened:
        accelerator.print(f"{shortened} questions shortened to fit {limit} tokens")
    if not groups:
        raise InputError(f"{config.data}: no question in it")
    out = Path(config.out)
    if out.is_dir():
        raise InputError(f"{out}: a directory; the name of a file to write is accepted")
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.unfinished-{_identity(config, template, florence)}")
    if not config.resume and accelerator.is_main_process:
        for path in out.parent.glob(f"{out.name}.unfinished-*"):
            path.unlink()
    accelerator.wait_for_everyone()
    done = _answered(out, unfinished) if config.resume else set()

    left = [group for group in groups if any((group.page, q) not in done for q in group.questions)]
    plan = pack(left, config.batch_size)[accelerator.process_index :: accelerator.num_processes]
    florence.model.to(accelerator.device)
    set_attention(florence.model, "sdpa")
    reader = PageReader((samples,), template, florence.collator, limit, config.workers)
    encoder = msgspec.json.Encoder()
    mine = unfinished.with_name(f"{unfinished.name}-{accelerator.process_index:04}")
    with _writing(out):
        mine.touch()
    with progress_bar(disable=not accelerator.is_main_process) as progress:
        task = progress.add_task("predict", total=len(plan), questions=0, note="")
        count = 0
        for part, batch in zip(plan, reader.batches(plan), strict=True):
            with accelerator.autocast():
                answers = answer(
                    florence, batch.to(accelerator.device), config.num_beams, config.max_new_tokens
                )
            lines = []
            for at, example, (text, confidence) in zip(
                _positions(part), batch.examples, answers, strict=True
            ):
                row = prediction_row(example, text)
                if config.confidence:
                    row["confidence"] = confidence
                if at not in done:
                    lines.append(encoder.encode(_Answer(at, row)) + b"\n")
            # A file that stays open would write what the disk refused once more as it is closed.
            with _writing(out), mine.open("ab") as file:
                file.writelines(lines)
            count += len(answers)
            progress.update(task, advance=1, questions=count)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with _writing(out):
            _finish(out, _files(unfinished), encoder)
    accelerator.wait_for_everyone()
    count = count_questions(groups)
    accelerator.print(f"{count} predictions in {out}")
    return count


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn what the file system refuses into an `InputError` that names the output."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}); a directory with room that can be "
            "written to is accepted"
        ) from None


def _by_length(
    samples: SampleSet, template: PromptTemplate, encoder: TextEncoder, limit: int
) -> tuple[list[Group], int]:
    """One group a page, pages with long questions last: a batch is padded to its longest one.

    Also returns how many prompts have more than `limit` tokens.
    """
    longest: dict[Group, int] = {}
    shortened = 0
    for page, sample in enumerate(samples.texts()):
        if sample.supervisions:
            lengths = [encoder.count(example.prompt) for example in template.examples(sample)]
            longest[Group(page, tuple(range(len(lengths))))] = max(lengths)
            shortened += sum(length > limit for length in lengths)
    return sorted(longest, key=lambda group: (longest[group], group.page)), shortened


def _positions(part: Groups) -> list[tuple[int, int]]:
    return [(group.page, question) for group in part for question in group.questions]


def _identity(config: PredictConfig, template: PromptTemplate, florence: Florence) -> str:
    """Short for everything that the answers depend on, the weights and the shards themselves
    included: a run that was trained on, and a set that was written anew, have the names they had.
    """
    weights = xxhash.xxh3_128()
    for tensor in florence.model.state_dict().values():
        weights.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    data = list(set_fingerprints((config.data,)).values()) or config.data
    told = (weights.hexdigest(), data, config.limit, template.name)
    generation = (config.num_beams, config.max_new_tokens, config.confidence, config.precision)
    return hashlib.sha256(repr((told, generation)).encode()).hexdigest()[:12]


def _files(unfinished: Path) -> list[Path]:
    return sorted(unfinished.parent.glob(f"{unfinished.name}-[0-9]*"))


def _answered(out: Path, unfinished: Path) -> set[tuple[int, int]]:
    """What is answered already; a line that was cut short is removed, to be written again.

    Raises `InputError` if there is nothing to resume, or only what other options, weights or
    shards began.
    """
    paths = _files(unfinished)
    if not paths:
        others = any(out.parent.glob(f"{out.name}.unfinished-*"))
        what = "a prediction with other options, weights or shards" if others else "nothing"
        raise InputError(
            f"{out}: {what} to resume there; give the options it began with, or leave --resume out"
        )
    for path in paths:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            path.write_bytes(whole)
    return set(_read(paths))


def _read(paths: Iterable[Path]) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows in unfinished files. Raises `InputError` for a line that no process wrote."""
    decoder = msgspec.json.Decoder(_Answer)
    rows = {}
    for path in paths:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                found = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise InputError(f"{path}, line {number}: {error}; remove the file") from None
            rows[found.at] = found.row
    return rows


def _finish(out: Path, paths: list[Path], encoder: msgspec.json.Encoder) -> None:
    """Make the output of the unfinished files, in the order of the set."""
    rows = _read(paths)
    new = out.with_name(out.name + ".new")
    try:
        with new.open("wb") as file:
            for at in sorted(rows):
                file.write(encoder.encode(rows[at]) + b"\n")
        new.replace(out)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    for path in paths:
        path.unlink()


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
def answer(
    florence: Florence, batch: Batch, num_beams: int, max_new_tokens: int
) -> list[tuple[str, float]]:
    """The answers to a batch's Q questions, its pages encoded once, greedy or by beam search.

    Each comes with its confidence: the probability, 0 to 1, that the model gives to exactly these
    tokens. Every generation argument is given here: a checkpoint's own configuration may ban
    repeated 3-grams.
    """
    model = florence.model.eval()
    embeddings, mask = florence.grouped.embed(batch)
    encoded = model.model.language_model.encoder(inputs_embeds=embeddings, attention_mask=mask)
    text = model.config.text_config
    generated = model.generate(
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
            output_scores=True,
            return_dict_in_generate=True,
        ),
    )
    logs = model.compute_transition_scores(
        generated.sequences,
        generated.scores,
        getattr(generated, "beam_indices", None),
        normalize_logits=num_beams == 1,
    )
    # What follows `</s>` is padding, whose scores say nothing about the answer.
    counted = generated.sequences[:, 1 : 1 + logs.shape[1]] != text.pad_token_id
    confidences = torch.where(counted, logs, 0.0).sum(dim=1).exp().tolist()
    encoder = florence.text_encoder
    texts = [encoder.decode(row) for row in generated.sequences.tolist()]
    return list(zip(texts, confidences, strict=True))
