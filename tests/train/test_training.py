"""The whole way: training teaches, freezes what it says, and what it saves answers the same."""

from __future__ import annotations

import json
import math
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
import yaml

from florence_data import InputError, Sample, SampleSet
from florence_data.prompts import prompt_template
from florence_eval import score
from florence_train import PredictConfig, TrainConfig, load_florence, predict, train
from florence_train.batches import Batch, Group, PageReader
from florence_train.model import Florence, GroupedFlorence
from florence_train.predictor import answer
from florence_train.trainer import TrainResult

FROM_SCRATCH = {"model": "tiny", "lr": 1e-3, "beta2": 0.98, "workers": 0, "batch_size": 20}


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A tiny model that has learnt the twenty questions of the eight pages by heart."""
    return train(
        TrainConfig(
            data=(str(shards),),
            eval_data=(str(shards),),
            out=str(tmp_path_factory.mktemp("runs") / "run"),
            epochs=150,
            warmup_steps=20,
            eval_every=75,
            **FROM_SCRATCH,
        )
    )


def test_training_teaches_and_the_saved_model_answers(
    trained: TrainResult, shards: Path, pages: list[Sample], tmp_path: Path
) -> None:
    out = tmp_path / "predictions.jsonl"
    asked = sum(len(sample.supervisions) for sample in pages)
    assert predict(PredictConfig(model="tiny", data=str(shards), out=str(out))) == asked
    untrained = score(out).summary["metrics"]["anls"]["mean"]
    count = predict(PredictConfig(model=str(trained.directory), data=str(shards), out=str(out)))
    learnt = score(out).summary["metrics"]["anls"]["mean"]
    assert count == asked
    assert untrained < 0.2
    assert learnt > 0.95
    assert trained.evaluation is not None
    assert trained.evaluation.score == pytest.approx(learnt, abs=1e-4)


def test_predictions_carry_their_references_in_the_order_of_the_set(
    trained: TrainResult, shards: Path, pages: list[Sample], tmp_path: Path
) -> None:
    out = tmp_path / "predictions.jsonl"
    predict(PredictConfig(model=str(trained.directory), data=str(shards), out=str(out)))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [(s.id, s.doc_id, v) for s in pages for v in s.supervisions]
    assert [row["question_id"] for row in rows] == [v.id for _, _, v in expected]
    for row, (image, document, supervision) in zip(rows, expected, strict=True):
        assert (row["image"], row["doc_id"], row["source"]) == (image, document, "test")
        assert row["question"] == supervision.question
        assert tuple(row["answers"]) == supervision.answers


@pytest.fixture(scope="module")
def half_taught(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Florence:
    """A model that is unsure, so that its answers hang on how they are searched for."""
    out = tmp_path_factory.mktemp("runs") / "half"
    train(
        TrainConfig(data=(str(shards),), out=str(out), epochs=10, warmup_steps=20, **FROM_SCRATCH)
    )
    return load_florence(str(out))


def plainly_generated(florence: Florence, batch: Batch, **arguments: object) -> list[str]:
    """The answers by the model's own `generate`, one by one, the page encoded for each."""
    image = torch.full((1, florence.image_tokens), florence.model.config.image_token_id)
    texts = []
    for prompt, mask, page in zip(batch.prompts, batch.prompt_mask, batch.page, strict=True):
        prompt = prompt[None, : int(mask.sum())]
        ids = florence.model.generate(
            input_ids=torch.cat([image, prompt], dim=1),
            pixel_values=batch.pixels[page][None],
            attention_mask=torch.ones(1, image.shape[1] + prompt.shape[1]),
            do_sample=False,
            bos_token_id=0,
            forced_bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            **arguments,
        )
        texts.append(florence.text_encoder.decode(ids[0].tolist()))
    return texts


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batched_answers_equal_those_of_plain_generate_one_by_one(
    half_taught: Florence, samples: SampleSet, num_beams: int
) -> None:
    florence = half_taught
    reader = PageReader((samples,), prompt_template("docvqa"), florence.collator, 400, workers=0)
    groups = [Group(p, tuple(range(len(s.supervisions)))) for p, s in enumerate(samples)]
    batch = reader.batch(tuple(groups))
    arguments = {
        "num_beams": num_beams,
        "early_stopping": num_beams > 1,
        "length_penalty": 1.0,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "min_new_tokens": 0,
        "max_new_tokens": 20,
    }
    together = [text for text, _ in answer(florence, batch, num_beams, max_new_tokens=20)]
    assert together == plainly_generated(florence, batch, **arguments)
    # Each of these would have changed an answer.
    others = [{"no_repeat_ngram_size": 3}, {"repetition_penalty": 1.3}]
    others += [{"length_penalty": 0.3}, {"length_penalty": 2.0}] * (num_beams > 1)
    for other in others:
        assert together != plainly_generated(florence, batch, **(arguments | other)), other


_noise = torch.Generator().manual_seed(0)


def test_a_frozen_tower_is_bit_identical_afterwards_and_the_rest_is_not(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        TrainConfig(
            data=(str(shards),),
            out=str(tmp_path / "run"),
            freeze_vision=True,
            max_steps=3,
            **FROM_SCRATCH,
        )
    )
    assert "frozen tensors are bit-identical" in capsys.readouterr().out
    before = load_florence("tiny").model.state_dict()
    after = load_florence(str(tmp_path / "run")).model.state_dict()
    for name, tensor in before.items():
        if "vision_tower" in name:
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    projection = "model.multi_modal_projector.image_projection.weight"
    assert not torch.equal(before[projection], after[projection])


def test_training_and_prediction_import_neither_timm_nor_torchvision(
    shards: Path, tmp_path: Path
) -> None:
    """Even where timm is there to be imported."""
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("")
    code = (
        "import sys, importlib.util\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "assert importlib.util.find_spec('timm')\n"
        "from florence_train import PredictConfig, TrainConfig, predict, train\n"
        f"data, run = {str(shards)!r}, {str(tmp_path / 'run')!r}\n"
        "train(TrainConfig(data=data, out=run, model='tiny', max_steps=1, workers=0))\n"
        "predict(PredictConfig(model=run, data=data, out=run + '.jsonl', limit=1, workers=0))\n"
        "assert not {'timm', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_step_in_parts_is_the_same_step(shards: Path, tmp_path: Path) -> None:
    weights = []
    for name, max_questions in (("whole", 64), ("parts", 3)):
        config = TrainConfig(
            data=(str(shards),),
            out=str(tmp_path / name),
            max_steps=2,
            max_questions=max_questions,
            **FROM_SCRATCH,
        )
        train(config)
        weights.append(load_florence(config.out).model.state_dict())
    whole, parts = weights
    start = load_florence("tiny").model.state_dict()
    # Adam divides by the gradient's size, so rounding shows where a gradient is almost zero.
    change = torch.cat([(whole[name] - start[name]).flatten() for name in start])
    difference = torch.cat([(whole[name] - parts[name]).flatten() for name in start])
    assert float(difference.norm() / change.norm()) < 1e-2


def test_the_same_seed_trains_the_same_weights(shards: Path, tmp_path: Path) -> None:
    states = []
    for name in ("one", "again"):
        config = TrainConfig(
            data=(str(shards),), out=str(tmp_path / name), max_steps=3, **FROM_SCRATCH
        )
        train(config)
        states.append(load_florence(config.out).model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_run_records_every_option(trained: TrainResult) -> None:
    recorded = yaml.safe_load((trained.directory / "config.yaml").read_text())
    assert recorded["lr"] == 1e-3 and recorded["seed"] == 0 and recorded["epochs"] == 150
    lines = [
        json.loads(line) for line in (trained.directory / "log.jsonl").read_text().split("\n")[:-1]
    ]
    assert [line["step"] for line in lines if "eval_score" in line] == [75, 150]
    assert {"loss", "lr", "gradient_norm"} <= lines[0].keys()


def test_the_best_model_has_its_scores_and_a_report_beside_it(
    trained: TrainResult, pages: list[Sample]
) -> None:
    scores = trained.directory / "scores"
    assert (scores / "table.parquet").is_file()
    assert pages[0].supervisions[0].question in (scores / "report.html").read_text() or any(
        pages[0].supervisions[0].question in path.read_text() for path in scores.rglob("*.js")
    )
    pictures = [p for p in scores.rglob("*") if p.suffix in {".jpg", ".jpeg", ".webp", ".png"}]
    assert len(pictures) == len(pages)


def test_a_directory_with_another_run_is_refused_untouched(
    trained: TrainResult, shards: Path
) -> None:
    before = sorted(trained.directory.rglob("*"))
    with pytest.raises(InputError, match="holds another run"):
        train(TrainConfig(data=(str(shards),), out=str(trained.directory), **FROM_SCRATCH))
    assert sorted(trained.directory.rglob("*")) == before


def test_predicting_with_another_template_is_an_error(
    trained: TrainResult, shards: Path, tmp_path: Path
) -> None:
    config = PredictConfig(
        model=str(trained.directory),
        data=(str(shards),),
        out=str(tmp_path / "predictions.jsonl"),
        template="vqa",
    )
    with pytest.raises(InputError, match="trained with the template docvqa"):
        predict(config)
    assert not any(tmp_path.iterdir())


def test_data_without_an_answer_is_refused_before_a_run_exists(
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
) -> None:
    silent = [
        msgspec.structs.replace(
            sample,
            supervisions=tuple(msgspec.structs.replace(v, answers=()) for v in sample.supervisions),
        )
        for sample in pages
    ]
    data = write_shards(tmp_path / "test-split", silent)
    with pytest.raises(InputError, match="test-split: no question to use, found 20 with no answer"):
        train(TrainConfig(data=str(data), out=str(tmp_path / "run"), **FROM_SCRATCH))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_confidence_is_the_probability_of_the_answers_tokens(
    trained: TrainResult, samples: SampleSet, num_beams: int
) -> None:
    florence = load_florence(str(trained.directory))
    with torch.no_grad():
        for parameter in florence.model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn(parameter.shape, generator=_noise))
    reader = PageReader((samples,), prompt_template("docvqa"), florence.collator, 400, workers=0)
    batch = reader.batch((Group(3, (0, 1, 2, 3)), Group(2, (0, 1))))
    answers = answer(florence, batch, num_beams, max_new_tokens=40)
    # The plain way: give the model its own answers as labels and multiply the probabilities.
    labels = [florence.text_encoder.encode((text,)) for text, _ in answers]
    width = max(map(len, labels))
    taught = replace(
        batch, labels=torch.tensor([ids + [-100] * (width - len(ids)) for ids in labels])
    )
    with torch.no_grad():
        logs = GroupedFlorence(florence.model.eval())(taught).log_softmax(dim=-1)
    for row, ids in enumerate(labels):
        # `<s>` is forced, so it costs nothing.
        expected = sum(float(logs[row, at, ids[at]]) for at in range(1, len(ids)))
        assert answers[row][1] == pytest.approx(math.exp(expected), rel=1e-3)
    assert len({round(confidence, 3) for _, confidence in answers}) > 1


def test_an_interrupted_prediction_goes_on_where_it_was(
    trained: TrainResult, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str, **options: object) -> PredictConfig:
        return PredictConfig(
            model=str(trained.directory),
            data=str(shards),
            out=str(tmp_path / name),
            batch_size=5,
            workers=0,
            **options,  # type: ignore[arg-type]
        )

    predict(config("undisturbed.jsonl"))
    calls = []

    def failing(*arguments: object, **options: object) -> list[tuple[str, float]]:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("florence_train.predictor.answer", failing)
    with pytest.raises(KeyboardInterrupt):
        predict(config("resumed.jsonl"))
    assert not (tmp_path / "resumed.jsonl").exists()
    (part,) = tmp_path.glob("resumed.jsonl.unfinished-*")
    part.write_bytes(part.read_bytes()[:-7])  # a kill in the middle of a line
    with pytest.raises(InputError, match="a prediction with other options, weights or shards"):
        predict(config("resumed.jsonl", resume=True, num_beams=2))
    predict(config("resumed.jsonl", resume=True))
    assert (tmp_path / "resumed.jsonl").read_bytes() == (
        tmp_path / "undisturbed.jsonl"
    ).read_bytes()
    assert len(calls) < 2 * 5
    assert not list(tmp_path.glob("*.unfinished-*"))
    with pytest.raises(InputError, match="nothing to resume"):
        predict(config("resumed.jsonl", resume=True))


def test_a_prediction_by_other_weights_or_of_other_shards_is_not_gone_on_with(
    shards: Path,
    pages: list[Sample],
    write_shards: Callable[[Path, list[Sample]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that was trained on, and a set that was written anew, have the names they had."""
    model, out, data = tmp_path / "model", tmp_path / "out.jsonl", tmp_path / "set"
    shutil.copytree(shards, data)

    def config(**options: object) -> PredictConfig:
        return PredictConfig(
            model=str(model),
            data=str(data),
            out=str(out),
            workers=0,
            **options,  # type: ignore[arg-type]
        )

    def failing(*arguments: object, **options: object) -> list[tuple[str, float]]:
        raise KeyboardInterrupt

    load_florence("tiny", seed=0).save(model)
    with monkeypatch.context() as patch:
        patch.setattr("florence_train.predictor.answer", failing)
        with pytest.raises(KeyboardInterrupt):
            predict(config())
    load_florence("tiny", seed=1).save(model)
    with pytest.raises(InputError, match="a prediction with other options, weights or shards"):
        predict(config(resume=True))
    load_florence("tiny", seed=0).save(model)
    shutil.rmtree(data)
    write_shards(data, pages[::-1])
    with pytest.raises(InputError, match="a prediction with other options, weights or shards"):
        predict(config(resume=True))
    data = shards  # the set that it began with, in another place
    assert predict(config(resume=True)) == 20


def test_a_full_disk_is_one_line_and_what_was_answered_stays(shards: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; 2000 bytes hold some of the rows."""
    config = PredictConfig(
        model="tiny",
        data=str(shards),
        out=str(tmp_path / "out.jsonl"),
        batch_size=5,
        max_new_tokens=4,
        workers=0,
    )
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, usual[1]))
    try:
        with pytest.raises(InputError, match=r"out\.jsonl: cannot be written \(File too large\)"):
            predict(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("out.jsonl.unfinished-") and left.stat().st_size > 0
    assert predict(replace(config, resume=True)) == 20
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20
