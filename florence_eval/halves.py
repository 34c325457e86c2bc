"""The table of a large file of predictions, made by two processes.

Much of the work holds Python's lock, so threads help little. The second process reads the end of
the file, somewhat less than half, and hands its table back through an Arrow file; anything unusual
in the file makes both give up, and the ordinary way, with its messages, does the work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from florence_eval import arrow_columns, arrow_text, jsonl
from florence_eval.categories import CATEGORIES, FoldedAnswers, categorise
from florence_eval.matching import match
from florence_eval.metrics import Metric
from florence_eval.pairs import Pairs
from florence_eval.similarity import Variant
from florence_eval.tabulation import tabulate, unscorable

# What one process reads and scores while another one starts: some 110,000 questions.
START_BYTES = 20 * 2**20


def tabulate_large(
    path: Path, metrics: Sequence[Metric] | None, variant: Variant, columns: Sequence[str]
) -> pa.Table | None:
    """`tabulate` of a file of one prediction a line; None where the ordinary way must be taken:
    a small file or a single core, a metric of the whole corpus, or anything wrong in the file."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        return None
    if size < 2 * START_BYTES or _cores() < 2 or not path.is_file():
        return None
    if metrics is not None and any(metric.of_corpus for metric in metrics):
        return None
    # The second process has as much less to do as the first one does while it starts.
    middle = _line_start(path, (size + START_BYTES) // 2)
    with tempfile.TemporaryDirectory(prefix="florence-eval-") as folder:
        handed_back = Path(folder) / "half.arrow"
        order = {
            "path": str(path),
            "start": middle,
            "metrics": None if metrics is None else [str(metric) for metric in metrics],
            "variant": variant.name,
            "columns": list(columns),
            "out": str(handed_back),
        }
        command = [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(order)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            first = _tabulate_part(path, 0, middle, metrics, variant, columns)
            if first is None or process.wait() != 0:
                return None
        finally:
            process.kill()
            process.wait()
        with pa.memory_map(str(handed_back)) as file:
            second = pa.ipc.open_file(file).read_all()
            return _joined(first, second, variant)


def main() -> None:
    """What the second process runs: its order is one JSON argument."""
    order = json.loads(sys.argv[1])
    named = order["metrics"]
    metrics = None if named is None else [Metric.parse(name) for name in named]
    table = _tabulate_part(
        Path(order["path"]),
        order["start"],
        None,
        metrics,
        Variant.parse(order["variant"]),
        order["columns"],
    )
    if table is None:
        raise SystemExit(1)
    with pa.OSFile(order["out"], "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    # The operating system frees a million objects at once; Python would free one after another.
    os._exit(0)


def _tabulate_part(
    path: Path,
    start: int,
    end: int | None,
    metrics: Sequence[Metric] | None,
    variant: Variant,
    columns: Sequence[str],
) -> pa.Table | None:
    with path.open("rb") as file:
        file.seek(start)
        content = file.read() if end is None else file.read(end - start)
    if start == 0:
        content = content.removeprefix(jsonl.BYTE_ORDER_MARK)
    predictions = jsonl.parse_well_formed(content, str(path), columns)
    del content
    if predictions is None or predictions.rows["answers"].null_count:
        return None
    if unscorable(predictions, metrics):
        return None
    table = tabulate(predictions, metrics, variant)
    of_corpus = [Metric.parse(name).of_corpus for name in table["metric"].unique().to_pylist()]
    return None if any(of_corpus) else table


def _joined(first: pa.Table, second: pa.Table, variant: Variant) -> pa.Table | None:
    """Both halves' rows; None where the halves tell documents apart differently, have columns of
    other types, or share an id."""
    if first.schema.metadata != second.schema.metadata:
        return None
    try:
        table = pa.concat_tables([first, second], promote_options="default").unify_dictionaries()
    except pa.ArrowException:
        return None
    if not arrow_text.all_differ(arrow_columns.whole(table["question_id"])):
        return None
    if table.schema.metadata[b"doc_id"] == b"question_id":
        return table
    documents = first["doc_id"].unique()
    shared = documents.filter(pc.is_in(documents, value_set=second["doc_id"].unique()))
    return _with_categories_of(shared, table, variant) if len(shared) else table


def _with_categories_of(documents: pa.Array, table: pa.Table, variant: Variant) -> pa.Table:
    """The table with the questions of `documents`, which both halves have some of, categorised
    again, this time all together."""
    in_both = pc.is_in(table["doc_id"], value_set=documents)
    rows = table.filter(in_both)
    codes = arrow_columns.to_numpy(table["category"]).copy()
    pairs = Pairs.of(arrow_columns.whole(rows["prediction"]), arrow_columns.whole(rows["answers"]))
    folded = FoldedAnswers.of(pairs, arrow_columns.whole(rows["doc_id"]))
    codes[arrow_columns.to_numpy(in_both)] = categorise(
        pairs, folded, match(pairs, variant), variant
    )
    place = table.schema.get_field_index("category")
    return table.set_column(place, "category", arrow_columns.labels(codes, CATEGORIES))


def _line_start(path: Path, position: int) -> int:
    """The first line start at or after a position of a file."""
    with path.open("rb") as file:
        file.seek(position - 1)
        file.readline()
        return file.tell()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
