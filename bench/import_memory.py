"""How much memory an import needs as its source grows, up to a million rows.

For each size it writes a parquet file in DocVQA's layout (one row a question, four questions a
page, each row with its page's image), and in The Cauldron's (one row a page). One process reads all
of its samples and lets go of them, another imports it into shards; the peak resident memory of each
and its time are recorded.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

RESULT = Path(__file__).parent / "results" / "import_memory.md"
SEED = 7
DISTINCT_IMAGES = 500
QUESTIONS_A_PAGE = 4
ROWS_A_GROUP = 1000


def encoded_images() -> list[bytes]:
    """Small PNG files of noise, of 4 kB each: their number matters here, not their size."""
    random = np.random.default_rng(SEED)
    images = []
    for _ in range(DISTINCT_IMAGES):
        data = io.BytesIO()
        pixels = random.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(data, "PNG")
        images.append(data.getvalue())
    return images


def docvqa_rows(start: int, images: list[bytes]) -> Iterator[dict[str, Any]]:
    for number in range(start, start + ROWS_A_GROUP):
        page = number // QUESTIONS_A_PAGE
        yield {
            "questionId": str(number),
            "question": f"What is the amount in line {number % QUESTIONS_A_PAGE} of page {page}?",
            "question_types": ["table/list"],
            "image": {"bytes": images[page % len(images)], "path": None},
            "docId": page,
            "ucsf_document_id": f"doc{page // 3:08d}",
            "ucsf_document_page_no": str(page % 3),
            "answers": [f"{number * 7919 % 100003 / 100:.2f}"],
        }


def cauldron_rows(start: int, images: list[bytes]) -> Iterator[dict[str, Any]]:
    for number in range(start, start + ROWS_A_GROUP):
        turns = [
            {
                "user": f"What is the amount in line {line}?\nBe succinct.",
                "assistant": f"{number * 7919 % 100003 / 100:.2f}.",
                "source": "bench",
            }
            for line in range(2)
        ]
        image = {"bytes": images[number % len(images)], "path": None}
        yield {"images": [image], "texts": turns}


def write_source(recipe: str, rows: int, directory: Path) -> None:
    """Write the rows a row group at a time."""
    images = encoded_images()
    make = docvqa_rows if recipe == "docvqa" else cauldron_rows
    path = directory / "st_vqa" if recipe == "cauldron" else directory
    path.mkdir(exist_ok=True)
    writer = None
    for start in range(0, rows, ROWS_A_GROUP):
        table = pa.Table.from_pylist(list(make(start, images)))
        if writer is None:
            # Without a dictionary or compression every row holds its image's bytes, as on the hub.
            writer = pq.ParquetWriter(
                path / "train-00000-of-00001.parquet",
                table.schema,
                use_dictionary=False,
                compression="none",
            )
        writer.write_table(table)
    assert writer is not None
    writer.close()


def run_child(step: str, recipe: str, source: str, out: str) -> None:
    """Read or shard in this process, then print its figures as JSON."""
    from florence_data.recipes import RECIPES
    from florence_data.sharding import shard

    flags = {"subsets": "st_vqa"} if recipe == "cauldron" else {}
    began = time.perf_counter()
    samples = RECIPES[recipe](source, **flags)
    pages = sum(1 for _ in samples) if step == "read" else shard(samples, out).samples
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"pages": pages, "seconds": seconds, "peak_mib": peak}))


def measure(recipe: str, rows: int, scratch: Path) -> dict[str, Any]:
    """Write a source and return the figures of reading and of sharding it."""
    figures: dict[str, Any] = {"recipe": recipe, "rows": rows}
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        source = Path(directory) / "source"
        source.mkdir()
        write_source(recipe, rows, source)
        size = sum(path.stat().st_size for path in source.rglob("*.parquet"))
        figures["source_mib"] = size / 2**20
        for step in ("read", "shard"):
            command = [sys.executable, __file__, "--child", step, recipe, str(source)]
            child = subprocess.run(
                [*command, f"{directory}/out"], stdout=subprocess.PIPE, text=True, check=True
            )
            figures[step] = json.loads(child.stdout.splitlines()[-1])
    return figures


def report(measured: list[dict[str, Any]]) -> str:
    """The figures as a Markdown page."""
    lines = [
        "# Memory of an import",
        "",
        f"`bench/import_memory.py`, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, pyarrow {pa.__version__}; one process; images of 4 kB "
        f"(noise, seed {SEED}), row groups of {ROWS_A_GROUP:,}. A peak is a process's resident "
        "memory with everything it imports: about 160 MiB before the first row.",
        "",
        "| recipe | rows | pages | source, MiB | read: peak, MiB | seconds | shard: peak, MiB | "
        "seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {m['recipe']} | {m['rows']:,} | {m['read']['pages']:,} | {m['source_mib']:,.0f} | "
        f"{m['read']['peak_mib']:,.0f} | {m['read']['seconds']:.0f} | "
        f"{m['shard']['peak_mib']:,.0f} | {m['shard']['seconds']:.0f} |"
        for m in measured
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--recipes", nargs="+", default=["docvqa", "cauldron"])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--child", nargs=4, metavar=("STEP", "RECIPE", "SOURCE", "OUT"))
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child)
        return
    measured = [
        measure(recipe, rows, arguments.scratch)
        for recipe in arguments.recipes
        for rows in arguments.rows
    ]
    RESULT.write_text(report(measured), encoding="utf-8")
    print(report(measured))


if __name__ == "__main__":
    main()
