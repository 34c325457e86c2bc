"""Bad input ends every tool with one line that says what is wrong, and leaves nothing that looks
whole."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from florence_data import Image, ShardWriter, recipes
from florence_train import load_florence

RunTool = Callable[..., Any]

ROWS = 6
NOISE = io.BytesIO()
PIL.Image.effect_noise((200, 300), 80).save(NOISE, "JPEG")
IMAGE = NOISE.getvalue()
CUT_IMAGE = IMAGE[: len(IMAGE) // 2]


def write_parquet(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)


def docvqa_columns(images: list[bytes]) -> dict[str, list[Any]]:
    """A row a question, two questions a page, with the columns of HuggingFaceM4/DocumentVQA."""
    rows = range(len(images))
    return {
        "questionId": [str(row) for row in rows],
        "question": [f"What is {row}?" for row in rows],
        "question_types": [["form"] for _ in rows],
        "image": [{"bytes": image, "path": "page.png"} for image in images],
        "docId": [row // 2 for row in rows],
        "ucsf_document_id": [f"doc{row // 2}" for row in rows],
        "ucsf_document_page_no": ["1" for _ in rows],
        "answers": [[f"answer {row}"] for row in rows],
    }


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two good things, `shards` and `run`, and much that is not."""
    root = tmp_path_factory.mktemp("workplace")
    (root / "empty").mkdir()
    (root / "note.txt").write_text("not what you are looking for")
    (root / "diary").mkdir()
    (root / "diary" / "monday").write_text("")

    _write_sources(root)
    _write_shard_sets(root)
    _write_models(root)
    lines = {
        "scored": '{"question_id": "1", "prediction": "a", "answers": ["a"]}',
        "no-key": '{"question_id": "1", "answers": ["a"]}',
        "bare-answers": '{"question_id": "1", "prediction": "a", "answers": "a"}',
        "not-json": "question_id,prediction\n1,a",
        "void": "",
    }
    for name, text in lines.items():
        (root / f"{name}.jsonl").write_text(f"{text}\n" if text else "")
    (root / "options.yaml").write_text("learning_rate: 1\n")
    (root / "fast.yaml").write_text("model: tiny\nlr: -1\n")
    return root


def _write_sources(root: Path) -> None:
    good = docvqa_columns([IMAGE] * ROWS)
    some_cut = [CUT_IMAGE] * 2 + [IMAGE] * (ROWS - 2)
    write_parquet(root / "docvqa/data/train-0.parquet", **good)
    write_parquet(root / "some-cut/data/train-0.parquet", **docvqa_columns(some_cut))
    write_parquet(root / "all-cut/data/train-0.parquet", **docvqa_columns([CUT_IMAGE] * ROWS))
    fewer = {name: column for name, column in good.items() if name not in ("answers", "docId")}
    write_parquet(root / "no-columns/data/train-0.parquet", **fewer)
    write_parquet(root / "cauldron/ai2d/train-0.parquet", **fewer)
    whole = (root / "docvqa/data/train-0.parquet").read_bytes()
    (root / "half/data").mkdir(parents=True)
    (root / "half/data/train-0.parquet").write_bytes(whole[: len(whole) // 2])


def _write_shard_sets(root: Path) -> None:
    pages = list(recipes.synthetic(pages=2, width=510, height=660))
    with ShardWriter(root / "shards") as writer:
        for page in pages:
            writer.write(page)
    with ShardWriter(root / "cut-page") as writer:
        for page in pages:
            half = page.image.data[: len(page.image.data) // 2]
            writer.write(replace(page, image=Image.from_bytes(half, page.id)))
    for name in ("no-tar", "half-tar", "no-index", "tars", "unfinished"):
        shutil.copytree(root / "shards", root / name)
    tar = "train-000000.tar"
    size = (root / "shards" / tar).stat().st_size
    (root / "no-tar" / tar).write_bytes(b"x" * size)
    (root / "half-tar" / tar).write_bytes((root / "shards" / tar).read_bytes()[: size // 2])
    (root / "no-index/index.arrow").unlink()
    (root / "tars/dataset.json").unlink()
    (root / "unfinished/dataset.json").unlink()
    (root / "unfinished/unfinished").mkdir()
    (root / "unfinished/unfinished/job.json").write_text("{}")
    (root / "others-tar").mkdir()
    (root / "others-tar/a.tar").write_bytes(b"x" * 4096)


def _write_models(root: Path) -> None:
    """A finished run with the template vqa, and copies without this or that."""
    florence = dataclasses.replace(load_florence("tiny"), template="vqa")
    florence.save(root / "run/model")
    (root / "run/config.yaml").write_text("")
    for name in ("no-weights", "half-weights", "other-names"):
        shutil.copytree(root / "run", root / name)
    weights = (root / "run/model/model.safetensors").read_bytes()
    (root / "no-weights/model/model.safetensors").unlink()
    (root / "half-weights/model/model.safetensors").write_bytes(weights[: len(weights) // 2])
    renamed = weights.replace(b"vision_tower", b"visual_tower")
    (root / "other-names/model/model.safetensors").write_bytes(renamed)
    (root / "begun").mkdir()
    (root / "begun/config.yaml").write_text("")


MAKE_SHARDS = {
    "docvqa --source absent --out out": ["absent: no such directory", "is accepted"],
    "docvqa --source empty --out out": [
        *("empty: no parquet file", "found no parquet file at all", "expected train-*.parquet"),
    ],
    "docvqa --source docvqa --split validation --out out": [
        *("no parquet file of split 'validation'", "found files of: train"),
        "expected validation-*.parquet",
    ],
    "docvqa --source no-columns --out out": [
        *("no-columns/data/train-0.parquet: columns missing: docId, answers", "found: questionId"),
        "needed: questionId, question",
    ],
    "docvqa --source half --out out": ["half/data/train-0.parquet: not a parquet file"],
    "docvqa --source all-cut --out out": ["out: no page was kept", "image damaged", "one or more"],
    "docvqa --source docvqa --limit 0 --out out": ["out: no page was kept"],
    "docvqa --source docvqa --out shards": ["shards: already holds a shard set", "choose another"],
    "docvqa --source docvqa --out unfinished": ["unfinished shard set", "--resume"],
    "docvqa --source docvqa --out note.txt": ["note.txt: cannot be written to", "is accepted"],
    "docvqa --source docvqa --out note.txt/x": ["note.txt/x: cannot be written to", "is accepted"],
    "docvqa --source docvqa --shard-size big --out out": ["size 'big'", "expected a number of"],
    "cauldron --source absent --subsets ai2d --out out": ["absent: no such directory"],
    "cauldron --source empty --subsets all --out out": ["empty: no subset", "expected SUBSET/"],
    "cauldron --source cauldron --subsets ai2e --out out": ["'ai2e' is no subset", "ai2d"],
    "cauldron --source cauldron --subsets chartqa --out out": ["no subset chartqa", "found ai2d"],
    "cauldron --source cauldron --subsets ai2d --out out": [
        *("cauldron/ai2d/train-0.parquet: columns missing: images, texts", "found: questionId"),
        "needed: images, texts",
    ],
    "synthetic --pages 0 --out out": ["pages: found 0", "at least 1 is accepted"],
    "index others-tar": ["others-tar/a.tar", "tar"],
    "stats --source absent": ["absent: no shard set", "is accepted"],
    "stats --source empty": ["empty: no shard set", "0 other files", "is accepted"],
    "stats --source no-index": ["no-index/index.arrow: No such file"],
    "check half-tar": ["half-tar/train-000000.tar", "bytes, expected"],
    "check no-tar": ["no-tar/train-000000.tar", "checksum differs"],
}

DATA = {
    "absent": ["absent: no shard set", "is accepted"],
    "empty": ["empty: no shard set", "is accepted"],
    "note.txt": ["note.txt: no shard set", "is accepted"],
    "tars": ["tars: tars without dataset.json", "make_shards.py index"],
    "unfinished": ["unfinished: an unfinished shard set", "--resume"],
    "half-tar": ["half-tar/train-000000.tar", "bytes, expected"],
    "no-tar": ["no-tar/train-000000.tar, position 0", "not the JSON of a sample"],
    "cut-page": ["synthetic-train-0-00000", "not an image that can be read", "are accepted"],
}

MODELS = {
    "no-weights": ["no-weights/model: no weights there", "model.safetensors", "is accepted"],
    "half-weights": ["half-weights/model", "cannot be loaded", "accepted: tiny"],
    "other-names": ["other-names/model", "weights are not in it", "vision_tower", "is accepted"],
    "begun": ["begun: no weights there", "is accepted"],
    "note.txt": ["note.txt: a file", "a checkpoint is a directory"],
    "/absent/absent/absent": ["'/absent/absent/absent' cannot be loaded", "accepted: tiny"],
}

TRAIN = (
    {f"--data {data} --model tiny --workers 0 --out out": words for data, words in DATA.items()}
    | {f"--data shards --model {model} --out out": words for model, words in MODELS.items()}
    | {
        "--data shards --model tiny --out run": ["run: holds another run", "--resume"],
        "--data shards --model tiny --out diary": ["diary: holds something else", "is accepted"],
        "--data shards --model tiny --out note.txt": ["note.txt: a file", "is accepted"],
        "--data shards --eval-data absent --model tiny --out out": ["absent: no shard set"],
        "--data shards --model run --template docvqa --out out": ["trained with the template vqa"],
        "--data shards --model tiny --template x --out out": ["'x' is unknown", "known: docvqa"],
        "--config absent.yaml": ["absent.yaml: No such file", "YAML file of options is accepted"],
        "--config note.txt/x": ["note.txt/x: Not a directory", "YAML file of options is accepted"],
        "--config fast.yaml --data shards --out out": [
            "fast.yaml: lr is -1",
            "above 0 is accepted",
        ],
        "--config=options.yaml": ["options.yaml: unknown option 'learning_rate'", "lr"],
    }
)

TRAIN |= {
    f"--data shards --model tiny --out out {flag}": words
    for flag, words in {
        "--lr -1": ["lr is -1.0; above 0 is accepted"],
        "--lr inf": ["lr is inf; above 0 is accepted"],
        "--weight-decay nan": ["weight_decay is nan; 0 or more is accepted"],
        "--beta2 1.5": ["beta2 is 1.5; 0 or more, below 1 is accepted"],
        "--seed -1": ["seed is -1; 0 or more, below 2147483648 is accepted"],
        "--weights inf": ["weights is (inf,); above 0 is accepted"],
        "--eval-metric blub": ["eval_metric is blub; accepted: anls, nls, exact_match"],
    }.items()
}

PREDICT = (
    {f"--data {data} --model tiny --workers 0 --out out": words for data, words in DATA.items()}
    | {f"--data shards --model {model} --out out": words for model, words in MODELS.items()}
    | {
        "--data shards --model run --out diary": ["diary: a directory", "is accepted"],
        "--data shards --model tiny --out out --seed -1": ["seed is -1; 0 or more, below"],
        "--data shards --model tiny --out /proc/x": ["/proc/x: cannot be written (No such file"],
        "--data shards --model tiny --out out --max-new-tokens 5000": [
            "max_new_tokens is 5000; up to 512 is accepted",
        ],
        "--data shards --model run --template docvqa --out out": ["trained with the template vqa"],
    }
)

SCORE = {
    "absent.jsonl --out out": ["absent.jsonl: cannot be read"],
    "empty --out out": ["empty: a file is expected, found a directory"],
    "void.jsonl --out out": ["void.jsonl: predictions or references are expected", "empty file"],
    "not-json.jsonl --out out": ["not-json.jsonl:1: invalid JSON", "is accepted"],
    "no-key.jsonl --out out": ["no-key.jsonl:1: no 'prediction'", "are required"],
    "bare-answers.jsonl --out out": ["bare-answers.jsonl:1: answers", "found a string", '["a"]'],
    "scored.jsonl --out note.txt": ["note.txt: a folder is expected"],
    "scored.jsonl --metric best": ["'best' is not one of auto, anls"],
    "scored.jsonl --references absent.jsonl": ["absent.jsonl: cannot be read"],
}

CASES = [
    pytest.param(tool, arguments, words, id=f"{tool} {arguments}")
    for tool, cases in {
        "make_shards.py": MAKE_SHARDS,
        "train.py": TRAIN,
        "predict.py": PREDICT,
        "score.py": SCORE,
    }.items()
    for arguments, words in cases.items()
]


WHOLE = {"out", "out/dataset.json", "out/summary.json"}
"""What a stranger would take for a result: predictions, a shard set, scores."""


def files_of(root: Path) -> dict[Path, tuple[int, int]]:
    """The size and the time of writing of every file in and below a directory."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("tool", "arguments", "words"), CASES)
def test_bad_input_is_one_line_and_leaves_nothing_that_looks_whole(
    tool: str,
    arguments: str,
    words: list[str],
    workplace: Path,
    run_tool: RunTool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workplace)
    before = files_of(workplace)

    outcome = run_tool(tool, *arguments.split())

    assert outcome.code == 2, outcome
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"{tool}: ")
    for word in words:
        assert word in outcome.err

    left = files_of(workplace)
    assert {path: left.get(path) for path in before} == before
    new = [path.relative_to(workplace).as_posix() for path in left.keys() - before.keys()]
    for path in new:
        (workplace / path).unlink()
    shutil.rmtree(workplace / "out", ignore_errors=True)
    assert not [path for path in new if path in WHOLE or path.startswith("out/model/")]


def test_a_damaged_page_among_good_ones_is_counted_and_left_out(
    workplace: Path, run_tool: RunTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    outcome = run_tool("make_shards.py", "docvqa", "--source", "some-cut", "--out", tmp_path / "s")
    assert (outcome.code, outcome.err) == (0, "")
    assert "rows: 6 read, 4 kept, 2 dropped\n  2: image damaged\n" in outcome.out
    kept = json.loads((tmp_path / "s" / "dataset.json").read_text())
    assert (kept["samples"], kept["supervisions"]) == (2, 4)
    assert kept["account"]["rows"]["dropped"] == {"image damaged": 2}


@pytest.mark.parametrize(
    "command",
    [
        "make_shards.py docvqa --source absent --out out",
        "train.py --data absent --model tiny --out out",
        "predict.py --data absent --model tiny --out out",
        "score.py absent.jsonl",
    ],
)
def test_a_process_of_its_own_says_no_more_than_that_line(
    command: str, repository: Path, tmp_path: Path
) -> None:
    """Nor do the libraries beneath, which know the standard error that they were imported with."""
    tool, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(repository / "tools" / tool), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tool}: absent")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
