"""The options of a run: one frozen dataclass is the flags, the YAML file and the record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_type_hints

import msgspec
import yaml

import florence_eval
from florence_data import InputError
from florence_eval.metrics import NAMES, Metric


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune a Florence-2 model on shard sets.

    --config FILE.yaml sets any of these; a flag given beside it wins.
    """

    data: tuple[str, ...]
    """Directories of the training shards."""
    out: str
    """Directory of the run: configuration, log and checkpoints. It must not hold another run."""
    weights: tuple[float, ...] = ()
    """Share of each set of --data in the pages of an epoch; by default all of each, once."""
    eval_data: tuple[str, ...] = ()
    """Directories of shards to evaluate on while training; the best model is kept."""

    model: str = "florence-community/Florence-2-base-ft"
    """tiny, a checkpoint's or a run's directory, or a checkpoint of the hub."""
    template: str | None = None
    """Prompt template: docvqa, vqa, region, or a text with {question} in it. By default the
    checkpoint's own, else docvqa."""
    reference: Literal["first", "random", "most-common"] = "first"
    """The answer to teach where a question has several."""
    freeze_vision: bool = False
    """Train the projector and the language model only; page features are made once and kept."""
    cache_features: bool = True
    """With --freeze-vision, keep the features in the run's directory."""
    lora_rank: int = 0
    """Rank of LoRA adapters in the language model; 0 trains all weights."""
    lora_alpha: float = 32.0
    """Scale of the adapters' output, times 1 / rank."""
    lora_dropout: float = 0.0
    """Dropout before the adapters."""
    lora_dora: bool = False
    """Train magnitudes beside directions (DoRA)."""
    lora_rslora: bool = False
    """Scale by 1 / square root of the rank (rsLoRA)."""
    lora_targets: str = r".*language_model.*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
    """Regular expression over the names of the modules that get an adapter; each alternative in its
    last parentheses must match some."""

    epochs: int = 7
    """How often each question is seen."""
    max_steps: int | None = None
    """Stop after so many steps, whatever the number of epochs."""
    batch_size: int = 6
    """Questions an optimiser step, over all devices; a page's questions stay together."""
    page_questions: int | None = None
    """At most so many questions of a page in one step; by default all. Where too few pages are left
    to fill a step, it is smaller."""
    max_questions: int = 64
    """Questions in a device's memory at a time; a larger step is computed in several parts."""
    max_target_tokens: int = 128
    """Leave out questions whose answer is longer; they are counted. An evaluation asks them all the
    same, and its loss is of their first so many tokens. Together with --max-questions it bounds the
    memory of the loss."""
    lr: float = 1e-6
    """Highest learning rate, reached at the end of the warm-up."""
    warmup_steps: int = 0
    """Steps of linear warm-up; after it the rate falls linearly to zero."""
    weight_decay: float = 0.0
    """AdamW's weight decay, on matrices only."""
    beta2: float = 0.999
    """AdamW's second beta; 0.98 suits training from scratch."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Seed of the order of pages, of drop-path and dropout, and of the tiny model's weights."""

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of matrix products; auto is bfloat16 where the GPU has it, float16 on older ones."""
    attn: Literal["sdpa", "flash", "eager"] = "sdpa"
    """Attention: sdpa or eager in the whole model; flash in the language model's encoder, with sdpa
    elsewhere, which needs flash-attn and a GPU from Ampere on."""
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass: about a third slower, much less memory."""
    compile: bool = False
    """Compile the layers: a whole large model trains 1.4 times as fast on an H100, after some
    minutes. Refused where compiling changes the gradient."""
    workers: int = 2
    """Processes that read and decode pages; 0 does it in the training process."""

    eval_every: int | None = None
    """Steps between evaluations; by default an epoch's."""
    eval_pages: int = 64
    """Pages of the evaluation sets to answer each time: whole documents, drawn by the seed."""
    eval_metric: str = "anls"
    """The evaluator's metric that chooses the best model."""
    patience: int | None = None
    """Stop after so many evaluations without a better one."""
    max_new_tokens: int = 64
    """Longest answer in an evaluation, in tokens."""
    save_every: int | None = None
    """Steps between checkpoints to resume from; by default an epoch's."""
    keep_best: bool = True
    """The model that stays is the best one; without evaluation, or with --no-keep-best, the
    last."""
    keep_last: int = 1
    """How many of those checkpoints stay."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; begin it where there is none."""
    log_every: int = 10
    """Steps between lines of the log."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where to log beside the run's own log; each needs the package of its name."""
    dry_run: bool = False
    """Do everything but the optimiser's steps, on the longest and the largest batch; say what a
    run would take, and write nothing."""

    def __post_init__(self) -> None:
        """Refuse values out of range with a line that names the option."""
        for name in ("data", "eval_data"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
        if not self.data:
            raise InputError("data is empty; one shard directory or more is accepted")
        if self.weights and len(self.weights) != len(self.data):
            raise InputError(
                f"weights has {len(self.weights)} numbers for {len(self.data)} sets of data; "
                "one for each is accepted"
            )
        if self.attn == "flash" and self.precision == "float32":
            raise InputError(
                "precision is float32, and attn flash, which computes in half precision; auto, "
                "bfloat16 and float16 are accepted with it"
            )
        for name, value in vars(self).items():
            check_value(name, value)

    def save(self, path: Path) -> None:
        """Write the YAML form, every option included; half of it never stands under its name."""
        new = path.with_suffix(".new")
        new.write_text(self.to_yaml())
        new.replace(path)

    def flat(self) -> dict[str, str | int | float | bool]:
        """The options for a tracker, which takes no lists."""
        return {
            name: value if isinstance(value, (str, int, float)) else str(value)
            for name, value in asdict(self).items()
        }

    def to_yaml(self) -> str:
        """Every option by name, tuples as lists."""
        options = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        text: str = yaml.safe_dump(options, sort_keys=False)
        return text


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Answer every question of a shard set, one row of JSON each."""

    model: str
    """tiny, a run's or a checkpoint's directory, or a checkpoint of the hub."""
    data: str
    """Directory of the shards."""
    out: str
    """The file to write, one JSON object a line. It appears when it is complete, in place of one
    that is there."""
    template: str | None = None
    """Prompt template; by default, and at most, the one that the model was trained with."""
    limit: int | None = None
    """Pages to answer; by default all."""
    batch_size: int = 32
    """Questions at a time; a page's questions stay together."""
    num_beams: int = 1
    """Beams; 1 is greedy."""
    max_new_tokens: int = 64
    """Longest answer in tokens, `<s>` and `</s>` included."""
    confidence: bool = False
    """Add the probability that the model gives to the answer, 0 to 1, to each row."""
    resume: bool = False
    """Answer only what an interrupted prediction to the same --out, by the same weights from the
    same shards, left unanswered. Without it, what that one answered is deleted."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of matrix products; auto is bfloat16 where the GPU has it, float16 on older ones."""
    workers: int = 2
    """Processes that read and decode pages; 0 does it in this process."""
    seed: int = 0
    """Seed of the untrained weights of the model tiny."""

    def __post_init__(self) -> None:
        """Refuse values out of range with a line that names the option."""
        for name, value in vars(self).items():
            check_value(name, value)


@dataclass(frozen=True)
class _Range:
    """Finite numbers: `least` or more, or above it, and below `limit`."""

    least: float
    above: bool = False
    limit: float = math.inf

    def __contains__(self, number: float) -> bool:
        enough = number > self.least if self.above else number >= self.least
        return enough and number < self.limit

    def __str__(self) -> str:
        low = f"above {self.least}" if self.above else f"{self.least} or more"
        return low if math.isinf(self.limit) else f"{low}, below {self.limit}"


_ACCEPTED = {
    **dict.fromkeys(
        (
            *("epochs", "max_steps", "batch_size", "page_questions", "max_questions"),
            *("max_target_tokens", "eval_every", "eval_pages", "patience", "max_new_tokens"),
            *("save_every", "keep_last", "log_every", "num_beams", "limit"),
        ),
        _Range(1),
    ),
    **dict.fromkeys(("warmup_steps", "weight_decay", "workers", "lora_rank"), _Range(0)),
    **dict.fromkeys(("lr", "clip", "lora_alpha", "weights"), _Range(0, above=True)),
    **dict.fromkeys(("beta2", "lora_dropout"), _Range(0, limit=1)),
    "seed": _Range(0, limit=2**31),
}
"""The numbers that options accept, each number of those that are lists."""


def check_value(name: str, value: object) -> None:
    """Raise `InputError` for a value that the option of that name does not accept; it names it."""
    if name == "eval_metric":
        _check_metric(str(value))
    accepted = _ACCEPTED.get(name)
    numbers = value if isinstance(value, tuple) else (value,)
    if accepted is not None and any(n is not None and n not in accepted for n in numbers):
        raise InputError(f"{name} is {value}; {accepted} is accepted")


def _check_metric(name: str) -> None:
    """Refuse what is no metric (`auto` may be another one for each source), and one whose package
    is not there."""
    if name.partition("+")[0] not in NAMES:
        raise InputError(f"eval_metric is {name}; accepted: {', '.join(NAMES)}")
    try:
        metric = Metric.parse(name)
        if metric.name not in ("anls", "nls"):  # the evaluator computes these by itself
            metric.values(["a"], [["a"] * 10], [None])  # ten answers, as vqa_accuracy wants them
    except florence_eval.InputError as error:
        raise InputError(f"eval_metric is {name}; {error}") from None


def flags_from_yaml(path: str | Path) -> list[str]:
    """The command line that says what a YAML file of options says.

    Raises `InputError` for a file that cannot be read, a key that is no option, and a value of the
    wrong type or out of range. Numbers may be quoted, since YAML reads `1e-6` as text.
    """
    try:
        options = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; a YAML file of options is accepted") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict):
        raise InputError(f"{path}: found {type(options).__name__}, expected options by name")
    types = get_type_hints(TrainConfig)
    flags: list[str] = []
    for name, value in options.items():
        if name not in types:
            raise InputError(f"{path}: unknown option {name!r}; known: {', '.join(types)}")
        try:
            value = msgspec.convert(value, types[name], strict=False)
            check_value(name, value)
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: {name}: {error}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            flags += [f"--{flag}", *map(str, value)]
        else:
            flags += [f"--{flag}", str(value)]
    return flags
