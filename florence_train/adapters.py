"""Low-rank adapters: small matrices are trained beside frozen ones (LoRA, rsLoRA, DoRA).

peft puts them into the model in place, so the model that was given computes with them, and its
other parameters, the projector's too, are frozen. What peft returns is needed to save them.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import Florence2ForConditionalGeneration

from florence_data import InputError

LANGUAGE_MODEL = r".*language_model.*(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
"""All matrices of BART but the embeddings. Without its first words it would match the fc1 and fc2
of the vision tower too."""


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """What adapters are added, and where.

    Raises `InputError` for values out of range and for a pattern that is none.
    """

    rank: int = 16
    """Inner width of an adapter."""
    alpha: float = 32.0
    """An adapter's product is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs that is left out in training."""
    dora: bool = False
    """Train the length of each row of the adapted matrix separately (DoRA, arXiv:2402.09353)."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank), which suits large ranks (rsLoRA, arXiv:2312.03732)."""
    target: str = LANGUAGE_MODEL
    """Regular expression that the whole name of an adapted layer matches."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.rank < 1:
            raise InputError(f"adapter rank {self.rank}; 1 or more is accepted")
        if not self.alpha > 0:
            raise InputError(f"adapter alpha {self.alpha}; above 0 is accepted")
        if not 0 <= self.dropout < 1:
            raise InputError(f"adapter dropout {self.dropout}; 0 or more, below 1, is accepted")
        try:
            re.compile(self.target)
        except re.error as error:
            raise InputError(
                f"adapter target {self.target!r}: {error}; a regular expression is accepted"
            ) from None


def add_adapters(model: Florence2ForConditionalGeneration, options: AdapterOptions) -> PeftModel:
    """Add adapters that change nothing yet, and freeze everything else.

    Raises `InputError` if the pattern, or one of its alternatives (`q_proj` and `v_proj` in
    `.*(q_proj|v_proj)`), matches nothing, if it matches a layer of a tower that is frozen already,
    or something that cannot have an adapter.
    """
    target = f"adapter target {options.target!r}"
    names = [name for name, _ in model.named_modules()]
    for alternative, pattern in _alternatives(options.target):
        if not any(re.fullmatch(pattern, name) for name in names):
            which = f"its alternative {alternative!r} " if alternative else ""
            raise InputError(f"{target}: {which}matches no layer; {_layers(model)}")
    tower = model.model.vision_tower
    matched = [name for name in names if re.fullmatch(options.target, name)]
    in_tower = [name for name in matched if "vision_tower" in name]
    if in_tower and not any(parameter.requires_grad for parameter in tower.parameters()):
        raise InputError(
            f"{target}: matches {len(matched)} layers, {len(in_tower)} of them in the frozen "
            f"vision tower, such as {in_tower[0]}; a pattern that leaves it out is accepted, such "
            f"as {LANGUAGE_MODEL}, or a tower that is not frozen"
        )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        use_dora=options.dora,
        use_rslora=options.rslora,
        target_modules=options.target,
        bias="none",
    )
    try:
        with warnings.catch_warnings():
            # peft (0.21) asks transformers (5.24) for it by a name that is to go.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"{target}: {' '.join(str(error).split())}") from None


def _alternatives(pattern: str) -> Iterator[tuple[str, str]]:
    """Each alternative of a pattern's last group, and the pattern with it alone.

    For `.*(fc1|fc2)` that is `fc1` and `.*(fc1)`, then `fc2` and `.*(fc2)`. Without a group, it is
    those of the pattern itself; without alternatives, none and the whole.
    """
    group = re.search(r"\((?:\?:)?([^()[\]]*)\)[^()]*$", pattern)
    group = group or re.fullmatch(r"([^()[\]]*)", pattern)
    if group is None or "|" not in group[1]:
        yield "", pattern
        return
    for alternative in group[1].split("|"):
        yield alternative, pattern[: group.start(1)] + alternative + pattern[group.end(1) :]


def _layers(model: Florence2ForConditionalGeneration) -> str:
    """What a pattern can match in the language model, in words."""
    linear = [
        name
        for name, module in model.named_modules()
        if "language_model" in name and isinstance(module, nn.Linear)
    ]
    kinds = sorted({name.rpartition(".")[2] for name in linear})
    return (
        f"whole names are matched, such as {linear[0]}, and the language model has "
        f"{', '.join(kinds)}"
    )


def merged(adapted: PeftModel) -> Florence2ForConditionalGeneration:
    """A copy of the model with the adapters multiplied into its weights.

    It has the layers and names of one that never had adapters, so that its checkpoint loads
    everywhere. The adapted model is left as it is, since taking adapters out of weights again would
    round; the copy takes the model's memory once more.
    """
    return copy.deepcopy(adapted).merge_and_unload()


def save_adapters(adapted: PeftModel, directory: Path) -> None:
    """Write the adapters alone in peft's format, for `PeftModel.from_pretrained`."""
    # By default peft asks the hub whether the vocabulary has been resized.
    adapted.save_pretrained(str(directory), save_embedding_layers=False)
