"""Training, top to bottom: set up, check, step, evaluate, save."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import count, islice
from math import ceil, log2
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedType,
    GradScalerKwargs,
    disable_fsdp_ram_efficient_loading,
    gather_object,
    parse_flag_from_env,
    set_seed,
)
from torch import Tensor, nn
from torch.optim import AdamW

from florence_data import InputError, SampleSet
from florence_data.prompts import prompt_template
from florence_train import fsdp, run
from florence_train.activation_checkpointing import checkpoint_activations
from florence_train.adapters import AdapterOptions, add_adapters
from florence_train.attention import set_attention
from florence_train.batches import Groups, PageReader, Plan, count_questions, pack
from florence_train.checkpoint import Progress, load_checkpoint, save_checkpoint
from florence_train.checks import check_compiled, check_start, fingerprints
from florence_train.compilation import compile_layers
from florence_train.config import TrainConfig
from florence_train.dry_run import rehearse
from florence_train.evaluation import Evaluation, Evaluator, choose_documents
from florence_train.feature_cache import (
    FeatureCache,
    feature_identity,
    feature_shape,
    features_bytes,
)
from florence_train.interruption import StopRequest
from florence_train.measurements import Measurements
from florence_train.memory import forget_peak, memory_advice
from florence_train.model import (
    Florence,
    freeze_vision,
    load_florence,
    question_losses,
    resolve_template,
    set_train_mode,
    trains,
)
from florence_train.precision import mixed_precision
from florence_train.recorder import Recorder, Step
from florence_train.survey import Survey, survey
from florence_train.timing import Stopwatch

PROBE_QUESTIONS = 8
"""How many questions the start-up checks compute."""


@dataclass(frozen=True)
class TrainResult:
    """A run that ended: its directory, the steps done, the last loss in its log, and the last
    evaluation; None where there was none, or no evaluation since the run was resumed.

    `ended` says why: every step was done, no evaluation was better for `patience` of them, a signal
    asked for it (then `--resume` goes on), or it was a dry run.
    """

    directory: Path
    steps: int
    loss: float | None
    evaluation: Evaluation | None
    ended: Literal["finished", "early", "interrupted", "rehearsed"]


def train(config: TrainConfig) -> TrainResult:
    """Fine-tune a model as configured and write the run to `config.out`.

    The model that stays is the best by the evaluator's metric where there is an evaluation set,
    else the last. All processes of a launch call this. Raises `InputError` for what cannot be used:
    data without a usable question, a model without weights, a template other than the checkpoint's,
    a directory that holds another run; and `TrainingError` for what only shows on the way.
    """
    # Set up: the model, the data, the plan of all steps.
    _refuse_missing_trackers(config)
    disable_fsdp_ram_efficient_loading()  # every process checks the model, with its weights
    accelerator = Accelerator(
        mixed_precision=mixed_precision(config.precision),
        log_with=list(config.track) or None,
        project_dir=config.out,
        kwargs_handlers=[GradScalerKwargs(init_scale=_first_scale(config.batch_size))],
    )
    _refuse_unsupported(accelerator, config)
    checkpoint = run.find_checkpoint(config) if accelerator.is_main_process else None
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    tell = accelerator.print
    set_seed(config.seed)
    florence = _model(config)
    florence.refuse_longer(
        max_target_tokens=config.max_target_tokens, max_new_tokens=config.max_new_tokens
    )
    with memory_advice(config, device):
        florence.model.to(device)
    frozen = {name: p for name, p in florence.model.named_parameters() if not p.requires_grad}
    before = fingerprints(frozen)
    reader, found = _data(config.data, config, florence, config.max_target_tokens)
    plan = Plan(
        found.groups, config.batch_size, config.seed, config.weights or None, config.page_questions
    )
    per_epoch = len(plan.epoch(0))
    steps = _steps(plan, config)
    eval_every, save_every = config.eval_every or per_epoch, config.save_every or per_epoch
    share_of = partial(
        _share,
        rank=rank,
        world=world,
        max_questions=config.max_questions,
        together=accelerator.distributed_type == DistributedType.FSDP,
    )
    for line in found.notes(florence.max_prompt_tokens):
        tell(line)
    tell(
        f"{sum(map(count_questions, steps))} questions in {len(steps)} steps, {per_epoch} an epoch"
    )
    if config.warmup_steps >= len(steps):
        highest = _rate(len(steps) - 1, config.warmup_steps, len(steps))
        tell(
            f"warning: the warm-up is as long as the run, whose rate reaches {highest:.0%} of --lr"
        )
    evaluator = None
    if config.eval_data:
        eval_reader, eval_found = _data(config.eval_data, config, florence)
        for line in eval_found.notes(florence.max_prompt_tokens):
            tell(f"eval_data: {line}")
        chosen = choose_documents(eval_found, config.eval_pages, config.seed)
        evaluator = Evaluator(
            eval_reader, chosen, config.eval_metric, config.max_questions, config.max_new_tokens
        )
        if overlap := found.overlap(eval_found):
            tell(f"warning: {overlap}")
    images = set(found.images.values())
    if evaluator is not None:
        images |= eval_found.images_of(evaluator.groups)
    caches = config.cache_features and not trains(florence.model.model.vision_tower)
    # What is kept of a page: the tower's output while the projector trains, else its tokens.
    projected = not trains(florence.model.model.multi_modal_projector)
    shape = feature_shape(florence.model, florence.image_size, projected)
    kept_bytes = features_bytes(sorted(images), shape) if caches else 0

    # Check, before anything is written.
    if config.checkpoint_activations:
        checkpoint_activations(florence.model)
    with memory_advice(config, device):
        probe = reader.batch(pack(steps[0], min(PROBE_QUESTIONS, config.max_questions))[0])
        probe = probe.to(device)
        for line in check_start(florence, probe):
            tell(f"check: {line}")
        _tune(florence, config)
        if config.compile:
            tell(f"check: {check_compiled(florence, probe, accelerator.autocast)}")
    del probe
    forget_peak(device)
    if config.dry_run:
        parts = [share_of(step).parts for step in steps]
        rehearsal = rehearse(
            config,
            accelerator,
            florence,
            reader,
            parts,
            found.longest,
            per_epoch,
            evaluator,
            kept_bytes,
        )
        for line in rehearsal.lines(config):
            tell(line)
        return TrainResult(Path(config.out), 0, None, None, "rehearsed")

    # Begin, or go on where a checkpoint was written.
    if accelerator.is_main_process:
        run.open_run(config)
    checkpoint = gather_object([checkpoint])[0]
    directory = Path(config.out)
    accelerator.init_trackers("tracking", config=config.flat())
    if caches:
        tell(f"features of {len(images)} pages will take {kept_bytes / 1e9:.2f} GB")
        with accelerator.main_process_first():
            how = f"{florence.image_size} pixels, {accelerator.mixed_precision} precision"
            identity = feature_identity(florence.model, how, projected)
            cache = FeatureCache.open(directory / run.FEATURES, sorted(images), shape, identity)
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
    grouped, prepared, whole = fsdp.prepare(accelerator, florence, optimizer)
    set_seed(config.seed + rank)
    progress, window = Progress(), Measurements()
    if checkpoint is not None:
        progress, window, note = load_checkpoint(checkpoint, accelerator, grouped, optimizer)
        tell(f"resumed at step {progress.step}" + (f"; {note}" if note else ""))
    elif config.resume:
        tell(f"no checkpoint in {directory} yet: the run begins")
    if accelerator.is_main_process:
        run.forget_after(directory, progress)

    # What a step measured is read one step later, so that the device never waits for it.
    begun, saved = progress.step, progress.step
    shares = [share_of(step) for step in steps[begun:]]
    batches = reader.batches([part for share in shares for part in share.parts])
    evaluation: Evaluation | None = None
    ended: Literal["finished", "early", "interrupted"] | None = None
    with (
        StopRequest() as stop,
        Recorder(config, accelerator, florence, progress, window, len(steps)) as recorder,
        memory_advice(config, device),
    ):
        for done in range(begun, len(steps) + 1):
            # Evaluate and save what the steps until here have made.
            last = done == len(steps)
            due = progress.evaluated < done and (done % eval_every == 0 or last)
            if evaluator is not None and due:
                recorder.flush()
                if not recorder.stop_requested:
                    evaluation = evaluator(whole(), accelerator, stop)
                if recorder.stop_requested or evaluation is None:
                    ended = "interrupted"  # and resumed with this evaluation
                else:
                    recorder.evaluated(done, evaluation)
                    better = evaluation.is_better_than(progress.best)
                    progress.evaluated = done
                    progress.stale = 0 if better else progress.stale + 1
                    if better:
                        progress.best = evaluation.score
                    if better and config.keep_best:
                        run.save_model(directory, whole(), accelerator)
                        run.save_scores(directory, evaluation.scores, evaluator.page, accelerator)
            if ended is None:
                ended = _ending(config, progress, last, recorder.stop_requested)
            if done > saved and (done % save_every == 0 or ended is not None):
                recorder.flush()
                if ended == "early":
                    recorder.write()
                # The weights before a step without a finite gradient may be at fault.
                if not recorder.skipped_in_a_row or (last and not recorder.in_trouble):
                    if evaluator is None or not config.keep_best:
                        run.save_model(directory, whole(), accelerator)
                    save_checkpoint(
                        *(directory, accelerator, grouped, optimizer, progress, recorder.window),
                        config.keep_last,
                    )
                    saved = done
            if ended is not None:
                break

            # Step.
            share = shares[done - begun]
            set_train_mode(florence.model)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _rate(done, config.warmup_steps, len(steps))
            watch = Stopwatch(device)
            watch.mark()
            asked = []
            for left in reversed(range(len(share.parts))):
                batch = watch.wait(batches)
                on_device = batch.to(device)
                with accelerator.no_sync(grouped) if left else nullcontext():
                    losses = question_losses(grouped(on_device), on_device.labels)
                    # Gradients are of the summed loss until the tokens of all processes are known.
                    accelerator.backward(losses.sum() * (left < share.counted))
                if left < share.counted:
                    asked.append((batch, losses.detach()))
            watch.mark()
            tokens = sum(batch.target_tokens for batch, _ in asked)
            counts = torch.tensor([tokens, stop.made], dtype=torch.float64, device=device)
            counts = accelerator.reduce(counts, "sum")
            _scale_gradients(florence.model, world / counts[0])
            norm = accelerator.clip_grad_norm_(florence.model.parameters(), config.clip)
            norm = fsdp.whole_tensor(norm)
            if accelerator.scaler is None:
                optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            prepared.step()
            prepared.zero_grad()
            watch.mark()
            questions = count_questions(steps[done])
            recorder.add(Step(done + 1, questions, asked, counts, norm, group["lr"], watch))
        assert ended is not None
        recorder.close(ended)

    # See that what was frozen is what it was.
    if fingerprints(frozen) != before:
        raise RuntimeError("a frozen parameter changed while training")
    if frozen:
        tell(f"check: {len(frozen)} frozen tensors are bit-identical to the start")
    if ended == "interrupted":
        tell(f"stopped at step {progress.step}; go on with the same options and --resume")
    else:
        loss = "none" if progress.loss is None else f"{progress.loss:.4f}"
        tell(f"{progress.step} steps, loss {loss}; the model is in {directory}/model")
    return TrainResult(directory, progress.step, progress.loss, evaluation, ended)


def _refuse_missing_trackers(config: TrainConfig) -> None:
    """Refuse a tracker whose package is not there; accelerate would go on without it."""
    for name in config.track:
        if find_spec(name) is None:
            raise InputError(f"--track {name}: the package {name} is not installed")


def _first_scale(batch_size: int) -> float:
    """Where a float16 loss scale begins. The usual 2¹⁶ is for a mean; the loss here is a sum over
    the tokens of a step, some 16 a question."""
    return 2.0 ** (16 - ceil(log2(16 * batch_size)))


def _refuse_unsupported(accelerator: Accelerator, config: TrainConfig) -> None:
    """Refuse a launch whose processes would not train together as this loop expects."""
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP:
        fsdp.refuse_unsupported(accelerator, config)
    elif parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise InputError(
            f"launched with FSDP on {accelerator.device.type}, where accelerate does not offer it; "
            "GPUs are accepted, or a launch without --use_fsdp"
        )
    elif kind not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise InputError(
            f"launched as {kind.value}; one process, data parallelism (DDP) or FSDP with "
            "--fsdp_version 2 is accepted"
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
    """How the model computes, which changes nothing of what it computes. Not before the checks,
    which are in float32: flash-attn computes in half precision only."""
    set_attention(florence.model, config.attn)
    if config.compile:
        compile_layers(florence.model)
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
    collator = replace(florence.collator, max_target_tokens=config.max_target_tokens)
    return PageReader(samples, template, collator, limit, config.workers), found


def _steps(plan: Plan, config: TrainConfig) -> list[Groups]:
    """All steps of a run: those of its epochs, or as many as it says."""
    if config.max_steps is None:
        return [step for epoch in range(config.epochs) for step in plan.epoch(epoch)]
    endless = (step for epoch in count() for step in plan.epoch(epoch))
    return list(islice(endless, config.max_steps))


def _ending(
    config: TrainConfig, progress: Progress, last: bool, stop_requested: bool
) -> Literal["finished", "early", "interrupted"] | None:
    """Why a run ends here, if it does."""
    if last:
        return "finished"
    if config.patience is not None and progress.stale >= config.patience:
        return "early"
    return "interrupted" if stop_requested else None


@dataclass(frozen=True)
class _Share:
    """What one process computes of a step, in parts that fit its memory; the last `counted` count.

    A process that gets no page of a small step takes one all the same, and counts it as nothing:
    all processes must take part in averaging the gradients. With FSDP all must take part in every
    part, since each gathers the weights from all of them.
    """

    parts: list[Groups]
    counted: int


def _share(step: Groups, rank: int, world: int, max_questions: int, together: bool) -> _Share:
    """The share of a process: `together`, as many parts as the longest share of them all has."""
    mine = pack(step[rank::world], max_questions)
    needed = 1
    if together:
        needed = max(len(pack(step[r::world], max_questions)) for r in range(world))
    idle = pack(step[:1], max_questions)[:1] * (needed - len(mine))
    return _Share(idle + mine, counted=len(mine))


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
