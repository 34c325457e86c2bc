"""Options: what is accepted, and what is said of what is not."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from florence_data import InputError
from florence_train import PredictConfig, TrainConfig
from florence_train.command_line import parse_options
from florence_train.config import flags_from_yaml

REQUIRED = {"data": ("d",), "out": "o"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1", "unknown option 'learning_rate'; known: .*lr"),
        ("epochs: many", "epochs: Expected `int`"),
        ("lr: -1", "run.yaml: lr is -1.0; above 0 is accepted"),
        ("weights: [1, .inf]", r"run.yaml: weights is \(1.0, inf\); above 0 is accepted"),
        ("eval_metric: blub", "run.yaml: eval_metric is blub; accepted: anls"),
        ("- lr", "found list, expected options by name"),
        ("lr: [", "not YAML"),
    ],
)
def test_a_configuration_file_that_is_wrong_names_the_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        flags_from_yaml(path)


def test_a_configuration_file_says_what_flags_say(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("lr: 1e-6\nfreeze_vision: true\nmodel: tiny\nmax_steps: null\n")
    assert flags_from_yaml(path) == [
        *("--lr", "1e-06", "--freeze-vision", "--model", "tiny", "--max-steps", "None"),
    ]


@pytest.mark.parametrize(
    ("name", "refused", "accepted"),
    [
        ("batch_size", [0, -1], [1]),
        ("lr", [0, -1, math.inf, math.nan], [1e-9]),
        ("clip", [0, math.inf, math.nan], [1.0]),
        ("lora_alpha", [0, math.inf, math.nan], [1.0]),
        ("lora_dropout", [-0.1, 1, math.nan], [0.0, 0.5]),
        ("weight_decay", [-1, math.inf, math.nan], [0.0]),
        ("beta2", [-1, 1, 1.5, math.nan], [0.0, 0.999]),
        ("seed", [-1, 2**31], [0, 2**31 - 1]),
        ("weights", [(0,), (-1.0,), (math.inf,), (math.nan,)], [(1.0,)]),
        ("max_steps", [0], [None, 1]),
    ],
)
def test_values_out_of_range_name_the_option(
    name: str, refused: list[Any], accepted: list[Any]
) -> None:
    for value in refused:
        with pytest.raises(InputError, match=f"^{name} is .*; .* is accepted$"):
            TrainConfig(**REQUIRED, **{name: value})  # type: ignore[arg-type]
    for value in accepted:
        TrainConfig(**REQUIRED, **{name: value})  # type: ignore[arg-type]


def test_flash_in_float32_is_refused() -> None:
    with pytest.raises(InputError, match=r"^precision is float32, and attn flash, .* accepted"):
        TrainConfig(data=("shards",), out="run", attn="flash", precision="float32")


def test_prediction_has_ranges_too() -> None:
    for name, value in (("limit", 0), ("workers", -1), ("seed", -1), ("num_beams", 0)):
        with pytest.raises(InputError, match=f"{name} is {value}; .* is accepted"):
            PredictConfig(model="m", data="d", out="o", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["blub", "auto", "anls+thousands"])
def test_a_metric_that_cannot_choose_a_model_is_refused(metric: str) -> None:
    """`auto` may take another metric for each source."""
    with pytest.raises(InputError, match="eval_metric is "):
        TrainConfig(**REQUIRED, eval_metric=metric)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "package"),
    [("anls_star", "anls_star"), ("cider", "pycocoevalcap.cider.cider_scorer")],
)
def test_a_metric_whose_package_is_missing_is_refused(
    metric: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # an import then fails
    with pytest.raises(InputError, match=f"{metric} needs the package .*; install florence-docs"):
        TrainConfig(**REQUIRED, eval_metric=metric)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "metric", ["nls", "cer", "exact_match", "vqa_accuracy", "relaxed_accuracy+thousands"]
)
def test_other_metrics_of_the_evaluator_are_accepted(metric: str) -> None:
    assert TrainConfig(**REQUIRED, eval_metric=metric).eval_metric == metric  # type: ignore[arg-type]


def test_a_command_line_sets_the_options_and_refuses_what_they_refuse() -> None:
    flags = ["--data", "d", "--out", "o", "--lr", "0.5"]
    assert parse_options(TrainConfig, flags, "t") == TrainConfig(data=("d",), out="o", lr=0.5)
    with pytest.raises(InputError, match=r"^lr is -1\.0; above 0 is accepted$"):
        parse_options(TrainConfig, [*flags, "--lr", "-1"], "t")
