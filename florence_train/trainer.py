"""Training, top to bottom: set up, check, step, evaluate, save."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object, set_seed
from torch import Tensor, nn
from torch.optim import AdamW

from florence_data import InputError, SampleSet
from florence_data.prompts import prompt_template
from florence_train import run
from florence_train.activation_checkpointing import checkpoint_activations
from florence_train.adapters import AdapterOptions, add_adapters
from florence_train.attention import set_attention
from florence_train.batches import Groups, PageReader, Plan, pack
from florence_train.checkpoint import Progress, load_checkpoint, save_checkpoint
from florence_train.checks import check_start, fingerprints, question_losses
from florence_train.config import TrainConfig
from florence_train.dry_run import memory_advice, rehearse
from florence_train.evaluation import Evaluation, Evaluator, choose_documents
from florence_train.feature_cache import FeatureCache, feature_identity, feature_shape
from florence_train.interruption import StopRequest
from florence_train.model import (
    Florence,
    freeze_vision,
    load_florence,
    resolve_template,
    set_train_mode,
)
from florence_train.precision import mixed_precision
from florence_train.recorder import Recorder, Step
from florence_train.survey import Survey, survey
from florence_train.timing import Stopwatch

PROBE_QUESTIONS = 8
"""How many questions the start-up checks compute."""

COMPILED_LENGTH = 32
"""Compiled, text is padded to multiples of so many tokens, since every length is compiled anew."""


@dataclass(frozen=True)
class TrainResult:
    """A run that ended: its directory, the steps done, the last step's loss, the last evaluation.

    `ended` says why: every step was done, no evaluation was better for `patience` of them, a signal
    asked for it (then `--resume` goes on), or it was a dry run.
    """

    directory: Path
    steps: int
    loss: float
    evaluation: Evaluation | None
    ended: Literal["finished", "early", "interrupted", "rehearsed"]


def train(config: TrainConfig) -> TrainResult:
    """Fine-tune a model as configured and write the run to `config.out`.

    The model that stays is the best by the evaluator's metric where there is an evaluation set,
    else the last. All processes of a launch call this. Raises `InputError` for what cannot be used:
    data without a usable question, a model without weights, a template other than the checkpoint's,
    a directory that holds another run.
    """
    # Set up: the model, the data, the plan of all steps.
    accelerator = Accelerator(
        mixed_precision=mixed_precision(config.precision),
        log_with=list(config.track) or None,
        project_dir=config.out,
    )
    _refuse_unsupported(accelerator)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    tell = accelerator.print
    set_seed(config.seed)
    florence = _model(config)
    florence.refuse_longer(
        max_target_tokens=config.max_target_tokens, max_new_tokens=config.max_new_tokens
    )
    florence.model.to(device)
    frozen = {name: p for name, p in florence.model.named_parameters() if not p.requires_grad}
    before = fingerprints(frozen)
    reader, found = _data(config.data, config, florence, config.max_target_tokens)
    plan = Plan(
        found.groups, config.batch_size, config.seed, config.weights or None, config.page_questions
    )
    per_epoch = len(plan.epoch(0))
    steps = [step for epoch in range(config.epochs) for step in plan.epoch(epoch)]
    steps = steps[: config.max_steps]
    for line in found.notes(florence.max_prompt_tokens):
        tell(line)
    evaluator = None
    if config.eval_data:
        eval_reader, eval_found = _data(config.eval_data, config, florence)
        for line in eval_found.notes(florence.max_prompt_tokens):
            tell(f"eval_data: {line}")
        groups = choose_documents(eval_found, config.eval_pages, config.seed)
        evaluator = Evaluator(
            eval_reader, groups, config.eval_metric, config.max_questions, config.max_new_tokens
        )
        if overlap := found.overlap(eval_found):
            tell(f"warning: {overlap}")

    # Check, before anything is written.
    probe = reader.batch(pack(steps[0], PROBE_QUESTIONS)[0]).to(device)
    for line in check_start(florence, probe):
        tell(f"check: {line}")
    _tune(florence, config)
    if config.dry_run:
        rehearsal = rehearse(config, accelerator, florence, reader, steps, found.longest)
        for line in rehearsal.lines(config):
            tell(line)
        return TrainResult(Path(config.out), 0, float("nan"), None, "rehearsed")

    # Begin, or go on where a checkpoint was written.
    checkpoint = run.open_run(config) if accelerator.is_main_process else None
    checkpoint = gather_object([checkpoint])[0]
    directory = Path(config.out)
    accelerator.init_trackers("tracking", config=config.flat())
    if config.cache_features and not _trains(florence.model.model.vision_tower):
        images = found.images | (eval_found.images if config.eval_data else set())
        with accelerator.main_process_first():
            cache = _open_cache(directory / run.FEATURES, florence, sorted(images), accelerator)
        tell(f"features of {len(cache)} pages are kept: {cache.size_bytes / 1e9:.2f} GB")
        florence = replace(florence, cache=cache)
        reader = replace(reader, collate=replace(reader.collate, cache=cache))
        if evaluator is not None:
            evaluator = replace(evaluator, reader=replace(eval_reader, collate=reader.collate))

    optimizer = AdamW(
        _decayed(florence.model, config.weight_decay),
        lr=config.lr,
        betas=(0.9, config.beta2),
        fused=True,  # the only one that leaves out a step by a flag on the device (`found_inf`)
    )
    grouped, prepared = accelerator.prepare(florence.grouped, optimizer)
    set_seed(config.seed + rank)
    progress = Progress()
    if checkpoint is not None:
        progress, note = load_checkpoint(checkpoint, accelerator, grouped, optimizer)
        tell(f"resumed at step {progress.step}" + (f"; {note}" if note else ""))

    # Step. What a step measured is read one step later, so that the device never waits for it.
    shares = [_share(step, rank, world, config.max_questions) for step in steps[progress.step :]]
    batches = reader.batches([part for share in shares for part in share.parts])
    eval_every, save_every = config.eval_every or per_epoch, config.save_every or per_epoch
    evaluation: Evaluation | None = None
    ended: Literal["finished", "early", "interrupted"] = "finished"
    if _is_out_of_patience(config, progress):
        shares, ended = [], "early"
    with (
        StopRequest() as stop,
        Recorder(config, accelerator, florence, progress, len(steps)) as recorder,
        memory_advice(config),
    ):
        for number, share in enumerate(shares, start=progress.step + 1):
            set_train_mode(florence.model)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _rate(number - 1, config.warmup_steps, len(steps))
            watch = Stopwatch(device)
            watch.mark()
            asked = []
            for left in reversed(range(len(share.parts))):
                batch = watch.wait(batches)
                on_device = batch.to(device)
                with accelerator.no_sync(grouped) if left else nullcontext():
                    losses = question_losses(grouped(on_device), on_device.labels)
                    # Gradients are of the summed loss until the tokens of all processes are known.
                    accelerator.backward(losses.sum() * share.counted)
                if share.counted:
                    asked.append((batch, losses.detach()))
            watch.mark()
            tokens = sum(batch.target_tokens for batch, _ in asked)
            counts = torch.tensor([tokens, stop.made], dtype=torch.float64, device=device)
            counts = accelerator.reduce(counts, "sum")
            _scale_gradients(florence.model, world / counts[0])
            norm = accelerator.clip_grad_norm_(florence.model.parameters(), config.clip)
            if accelerator.scaler is None:
                optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            prepared.step()
            prepared.zero_grad()
            watch.mark()
            questions = sum(len(group.questions) for group in steps[number - 1])
            recorder.add(Step(number, questions, asked, counts, norm, group["lr"], watch))

            last = number == len(steps)
            if recorder.stop_requested:
                ended = "interrupted"
            if evaluator is not None and (number % eval_every == 0 or last):
                recorder.flush()
                evaluation = evaluator(florence, accelerator)
                recorder.evaluated(number, evaluation)
                better = progress.best is None or evaluation.score > progress.best
                progress.stale = 0 if better else progress.stale + 1
                if better:
                    progress.best = evaluation.score
                if better and config.keep_best:
                    run.save_model(directory, florence, accelerator)
                    run.save_scores(directory, evaluation.scores, evaluator.page, accelerator)
                if _is_out_of_patience(config, progress):
                    ended = "early"
            if number % save_every == 0 or last or ended != "finished":
                recorder.flush()
                if evaluator is None or not config.keep_best:
                    run.save_model(directory, florence, accelerator)
                save_checkpoint(
                    directory, accelerator, grouped, optimizer, progress, config.keep_last
                )
            if ended != "finished":
                break
        recorder.flush()

    # See that what was frozen is what it was.
    if fingerprints(frozen) != before:
        raise RuntimeError("a frozen parameter changed while training")
    if frozen:
        tell(f"check: {len(frozen)} frozen tensors are bit-identical to the start")
    if ended == "interrupted":
        tell(f"stopped at step {progress.step}; go on with the same options and --resume")
    else:
        tell(f"{progress.step} steps, loss {recorder.loss:.4f}; the model is in {directory}/model")
    return TrainResult(directory, progress.step, recorder.loss, evaluation, ended)


def _refuse_unsupported(accelerator: Accelerator) -> None:
    """Refuse a launch whose processes would not train together as this loop expects."""
    kind = accelerator.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise InputError(
            f"launched as {kind.value}; one process or data parallelism (DDP) is accepted: the "
            "large model with its optimiser's state takes 13 GB, which fits one GPU"
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise InputError(
            f"launched in {launched} processes, of which accelerate sees "
            f"{accelerator.num_processes}; on CPUs, ACCELERATE_USE_CPU=true or --cpu is needed"
        )


def _model(config: TrainConfig) -> Florence:
    """The model as it is trained: its template recorded, its tower frozen if that is asked for."""
    florence = load_florence(config.model, config.seed)
    template = resolve_template(florence.template, config.template)
    if config.freeze_vision:
        freeze_vision(florence.model)
    adapted = None
    if config.lora_rank:
        options = AdapterOptions(
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            dora=config.lora_dora,
            rslora=config.lora_rslora,
            target=config.lora_targets,
        )
        adapted = add_adapters(florence.model, options)
    return replace(florence, template=template, adapted=adapted)


def _tune(florence: Florence, config: TrainConfig) -> None:
    """How the model computes, which changes nothing of what it computes."""
    set_attention(florence.model, config.attn)
    if config.checkpoint_activations:
        checkpoint_activations(florence.model)
    if config.compile:
        parts = florence.model.model
        for part in (
            parts.vision_tower,
            parts.language_model.encoder,
            parts.language_model.decoder,
        ):
            part.compile()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32 for what autocast leaves in float32


def _data(
    sets: tuple[str, ...], config: TrainConfig, florence: Florence, longest: int | None = None
) -> tuple[PageReader, Survey]:
    """The reader of some shard sets and what is in them, less targets of more than `longest`."""
    template = prompt_template(str(florence.template), reference=config.reference, seed=config.seed)
    samples = tuple(SampleSet.from_shards(path) for path in sets)
    limit = florence.max_prompt_tokens
    found = survey(samples, sets, template, florence.text_encoder, limit, longest)
    collator = replace(
        florence.collator,
        max_target_tokens=config.max_target_tokens,
        pad_to=COMPILED_LENGTH if config.compile else 1,
    )
    return PageReader(samples, template, collator, limit, config.workers), found


def _is_out_of_patience(config: TrainConfig, progress: Progress) -> bool:
    return config.patience is not None and progress.stale >= config.patience


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _open_cache(
    directory: Path, florence: Florence, images: list[str], accelerator: Accelerator
) -> FeatureCache:
    """The store of features: the tower's output while the projector trains, else its tokens."""
    model, collator = florence.model, florence.collator
    projected = not _trains(model.model.multi_modal_projector)
    how = f"{collator.image_size} pixels, {accelerator.mixed_precision} precision"
    return FeatureCache.open(
        directory,
        images,
        feature_shape(model, collator.image_size, projected),
        feature_identity(model, how, projected),
    )


@dataclass(frozen=True)
class _Share:
    """What one process computes of a step, in parts that fit its memory.

    A process that gets no page of a small step takes one all the same, and counts it as nothing:
    all processes must take part in averaging the gradients.
    """

    parts: list[Groups]
    counted: bool


def _share(step: Groups, rank: int, world: int, max_questions: int) -> _Share:
    mine = step[rank::world]
    return _Share(pack(mine or step[:1], max_questions), counted=bool(mine))


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's parameter groups: matrices decay, vectors (biases and norms) do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _scale_gradients(model: nn.Module, factor: Tensor) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    torch._foreach_mul_(gradients, factor.float())


def _rate(step: int, warmup: int, steps: int) -> float:
    """The share of the highest rate at a step: linear up over the warm-up, then linear to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
