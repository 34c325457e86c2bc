"""Measures florence_eval.score against its peers on the same questions, in one process.

    python bench/score.py [--questions 100000] [--lines 1000000] [--predictions FILE …]

Writes bench/results/score.md and score.json. Peers: the `anls` package, the definition by plain
dynamic programming (both on a part of the questions, because they are slow: their rate is per
question), and rapidfuzz called question by question. Needs `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import cycle, pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
import tyro
from rapidfuzz.distance import Levenshtein

import florence_eval

RESULTS = Path(__file__).parent / "results"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Options:
    """What to measure."""

    questions: int = 100_000
    """Questions of the comparison with peers."""
    peer_questions: int = 4_000
    """How many of them the slow peers score."""
    predictions: tuple[Path, ...] = ()
    """Files of a model's own predictions, which are measured too: their questions over and over,
    under new ids."""
    lines: int = 1_000_000
    """Lines of the large file."""
    repeats: int = 9
    """Times that each is run, the peers on a part of their questions each time; the median
    counts."""
    seed: int = 0


@dataclass(frozen=True)
class Question:
    question_id: str
    prediction: str
    answers: list[str]
    question: str
    doc_id: str


def questions(count: int, seed: int) -> list[Question]:
    """Questions like those of DocVQA: 1.8 answers on average, of some 16 characters with a long
    tail, four questions a document, and predictions of which two fifths equal an answer, a seventh
    differ in case, and the rest are misread, cut, wordy or another answer altogether."""
    generator = random.Random(seed)
    words = [
        "".join(generator.choices(LETTERS, k=generator.randint(2, 9))).capitalize()
        for _ in range(5_000)
    ]

    def answer() -> str:
        if generator.random() < 0.3:
            return f"{generator.randint(1, 99_999):,}"
        length = generator.choice((1, 1, 2, 2, 3, 3, 4, 6, 12))
        return " ".join(generator.choices(words, k=length))

    def misread(text: str) -> str:
        place = generator.randrange(len(text))
        return text[:place] + generator.choice(LETTERS) + text[place + 1 :]

    found = []
    for number in range(count):
        first = answer()
        answers = [first, first.upper(), misread(first)][: generator.choice((1, 1, 2, 2, 3))]
        kind = generator.random()
        if kind < 0.42:
            prediction = generator.choice(answers)
        elif kind < 0.56:
            prediction = first.swapcase() if first.isalpha() else f"{first} "
        elif kind < 0.66:
            prediction = misread(first)
        elif kind < 0.72:
            prediction = f"The {generator.choice(words)} on this page of the document is {first}."
        elif kind < 0.78:
            prediction = first[: len(first) // 2 + 1]
        else:
            prediction = answer()
        found.append(
            Question(
                f"q{number}",
                prediction,
                answers,
                f"What is the {generator.choice(words)} of {generator.choice(words)}?",
                f"page-{number // 4:06}",
            )
        )
    return found


def plain_anls(prediction: str, answers: list[str]) -> float:
    """The official definition with a plain table of edit distances."""
    values = []
    predicted = " ".join(prediction.strip().lower().split())
    for answer in answers:
        expected = " ".join(answer.strip().lower().split())
        row = list(range(len(predicted) + 1))
        for i, left in enumerate(expected, 1):
            previous, row[0] = row[0], i
            for j, right in enumerate(predicted, 1):
                change = previous + (left != right)
                previous, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
        length = max(len(answer.upper()), len(prediction.upper()))
        values.append(row[-1] / length if length else 0.0)
    similarity = 1 - min(values)
    return similarity if similarity >= 0.5 else 0.0


def rapidfuzz_anls(prediction: str, answers: list[str]) -> float:
    """The official definition, question by question, with rapidfuzz's distance."""
    predicted = " ".join(prediction.lower().split())
    values = []
    for answer in answers:
        distance = Levenshtein.distance(" ".join(answer.lower().split()), predicted)
        length = max(len(answer.upper()), len(prediction.upper()))
        values.append(distance / length if length else 0.0)
    similarity = 1 - min(values)
    return similarity if similarity >= 0.5 else 0.0


def peer_anls(prediction: str, answers: list[str]) -> float:
    """The `anls` package's score of one question."""
    from anls import anls_score

    return float(anls_score(prediction=prediction, gold_labels=answers, threshold=0.5))


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """The median wall time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def over_and_over(path: Path, count: int) -> list[Question]:
    """The questions of a file of predictions, again and again, each time on other documents."""
    with path.open(encoding="utf-8") as file:
        lines = list(map(json.loads, file))
    return [
        Question(
            f"{line['question_id']}-{number // len(lines)}",
            line["prediction"],
            line["answers"],
            line.get("question", ""),
            f"{line.get('doc_id') or line.get('image')}-{number // len(lines)}",
        )
        for number, line in zip(range(count), cycle(lines))
    ]


def workload(name: str, asked: list[Question], options: Options) -> dict[str, Any]:
    """What some questions are like, and how fast each peer scores them."""
    rates = against_peers(asked, options)
    ours = rates["florence_eval, DataFrame to table"]
    answers = [answer for each in asked for answer in each.answers]
    again = [
        one.lower() == other.lower() for each in asked for one, other in pairwise(each.answers)
    ]
    return {
        "name": name,
        "answers_a_question": len(answers) / len(asked),
        "answer_characters": mean(map(len, answers)),
        "prediction_characters": mean(len(each.prediction) for each in asked),
        "exact_share": mean(each.prediction in each.answers for each in asked),
        "repeated_share": sum(again) / len(answers),
        "questions_per_second": rates,
        "times_as_fast": {name: ours / rate for name, rate in rates.items()},
    }


def against_peers(asked: list[Question], options: Options) -> dict[str, float]:
    """Questions a second of ours, table included, and of each peer."""
    frame = pd.DataFrame([asdict(question) for question in asked])
    part = asked[: options.peer_questions]
    expected = [plain_anls(each.prediction, each.answers) for each in part]
    got = florence_eval.score(frame.head(len(part))).table["anls"].tolist()
    if max(abs(one - other) for one, other in zip(expected, got, strict=True)) > 1e-12:
        raise SystemExit("bench/score.py: the scores differ from the plain definition's")

    def rate(scorer: Callable[[str, list[str]], float], chosen: list[Question]) -> float:
        return len(chosen) / seconds(
            lambda: [scorer(each.prediction, each.answers) for each in chosen]
        )

    # By turns, so that a machine that is busy for a while is so for all of them.
    rounds = []
    for turn in range(options.repeats):
        ours = seconds(lambda: florence_eval.score(frame).table)
        own_part = part[turn :: options.repeats]
        rounds.append(
            {
                "florence_eval, DataFrame to table": len(asked) / ours,
                "anls (package)": rate(peer_anls, own_part),
                "plain dynamic programming": rate(plain_anls, own_part),
                "rapidfuzz, question by question": rate(
                    rapidfuzz_anls, asked[turn :: options.repeats]
                ),
            }
        )
    return {name: median(each[name] for each in rounds) for name in rounds[0]}


LARGE = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
import florence_eval
scores = florence_eval.score(sys.argv[1])
scored = time.perf_counter()
scores.to_parquet(Path(sys.argv[2]) / "table.parquet")
scores.to_json(Path(sys.argv[2]) / "summary.json")
written = time.perf_counter()
own, other = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"score_s": scored - start, "write_s": written - scored,
                  "seconds": written - start, "peak_mb": own.ru_maxrss / 1024,
                  "cpu_s": own.ru_utime + own.ru_stime,
                  "second_process_cpu_s": other.ru_utime + other.ru_stime,
                  "second_process_mb": other.ru_maxrss / 1024}))
"""


def large_file(options: Options) -> dict[str, float]:
    """A file of many lines to a Parquet table and a summary, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for question in questions(options.lines, options.seed):
                file.write(json.dumps(asdict(question)) + "\n")
        runs = []
        for _ in range(options.repeats):
            command = [sys.executable, "-c", LARGE, str(path), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
        middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
        return {"lines": options.lines, "file_mb": path.stat().st_size / 2**20, **middle}


def small_calls(options: Options) -> dict[str, float]:
    """Wall time of the command's help and of a file of ten lines."""
    tool = Path(__file__).parent.parent / "tools" / "score.py"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten.jsonl"
        lines = [json.dumps(asdict(each)) for each in questions(10, options.seed)]
        path.write_text("\n".join(lines), encoding="utf-8")

        def wall(*arguments: str) -> float:
            command = [sys.executable, str(tool), *arguments]
            return seconds(lambda: subprocess.run(command, check=True, capture_output=True), 5)

        return {
            "--help": wall("--help"),
            "ten lines": wall(str(path)),
            "ten lines, --out": wall(str(path), "--out", folder),
        }


def bootstrap() -> float:
    """Seconds for 10,000 resamples of 5,349 questions on 1,286 documents (DocVQA's validation)."""
    import numpy as np

    from florence_eval.statistics import estimate

    generator = np.random.default_rng(0)
    documents = generator.integers(0, 1_286, 5_349)
    values = generator.random(5_349)
    return seconds(lambda: estimate(values, documents, resamples=10_000), 3)


def machine() -> dict[str, str]:
    """The machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("anls", "numpy", "pandas", "pyarrow", "rapidfuzz")
    return {
        "cores": str(os.cpu_count()),
        "architecture": platform.machine(),
        "memory": f"{memory:.0f} GiB",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        **{name: version(name) for name in names},
    }


def peers_report(work: dict[str, Any]) -> str:
    """The rates of one workload as Markdown."""
    rows = "\n".join(
        f"| {name} | {rate:,.0f} | {work['times_as_fast'][name]:.1f} |"
        for name, rate in work["questions_per_second"].items()
    )
    return f"""{work["name"]}: {work["answers_a_question"]:.2f} answers each, of
{work["answer_characters"]:.0f} characters on average, predictions of
{work["prediction_characters"]:.0f}; {work["exact_share"]:.0%} of these equal an answer;
{work["repeated_share"]:.0%} of the answers are the one before but for case.

| | questions a second | ours is times as fast |
|---|---:|---:|
{rows}
"""


def report(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    options, large = result["options"], result["large_file"]
    described = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    peers = "\n".join(map(peers_report, result["workloads"]))
    calls = "\n".join(f"| {name} | {wall:.2f} |" for name, wall in result["small_calls_s"].items())
    return f"""# florence_eval.score

`python bench/score.py`; machine: {described}.

{options["questions"]:,} questions, one process; ours uses a second core in part, the peers do not.
The slow peers score the first {options["peer_questions"]:,}. The scores of those equal the plain
definition's to 1e-12.

{peers}
{large["lines"]:,} lines ({large["file_mb"]:.0f} MB) to table.parquet and summary.json, a fresh
process and its helper: {large["seconds"]:.2f} s ({large["score_s"]:.2f} s of it scoring). They used
{large["cpu_s"]:.1f} s and {large["second_process_cpu_s"]:.1f} s of processor time, and at most
{large["peak_mb"]:.0f} MB and {large["second_process_mb"]:.0f} MB of memory.

10,000 resamples of 5,349 questions on 1,286 documents: {result["bootstrap_s"]:.2f} s.

| tools/score.py | seconds |
|---|---:|
{calls}
"""


def main(options: Options) -> None:
    described = machine()
    seeded = questions(options.questions, options.seed)
    result = {
        "machine": described,
        "options": asdict(options) | {"predictions": [path.name for path in options.predictions]},
        "workloads": [
            workload("Seeded", seeded, options),
            *(
                workload(path.name, over_and_over(path, options.questions), options)
                for path in options.predictions
            ),
        ],
        "large_file": large_file(options),
        "small_calls_s": small_calls(options),
        "bootstrap_s": bootstrap(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "score.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "score.md").write_text(report(result), encoding="utf-8")
    print(report(result))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
