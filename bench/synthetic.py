"""How many synthetic pages a second one core makes, for each kind of document."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import PIL

from florence_data.recipes import synthetic
from florence_data.recipes.synthetic import KINDS
from florence_data.recipes.synthetic.fonts import installed_families

RESULT = Path(__file__).parent / "results" / "synthetic.md"
SEED = 7


def seconds(work: Callable[[], object]) -> float:
    """Processor time, so that other programs on the machine count little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(kinds: tuple[str, ...], pages: int, repeats: int) -> str:
    samples = synthetic(pages=pages, seed=SEED, kinds=kinds)
    size = statistics.mean(len(sample.image.data) for sample in samples)
    rates = [pages / seconds(lambda: list(samples)) for _ in range(repeats)]
    name = kinds[0] if len(kinds) == 1 else "all, in turns"
    return (
        f"| {name} | {statistics.median(rates):.1f} | {min(rates):.1f} | {max(rates):.1f} "
        f"| {size / 1000:.0f} |"
    )


def processor() -> str:
    """The processor's name where Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=120, help="pages a row of the table")
    parser.add_argument("--repeats", type=int, default=3, help="times that each row is measured")
    arguments = parser.parse_args()

    rows = [
        row(kinds, arguments.pages, arguments.repeats)
        for kinds in (tuple(KINDS), *((kind,) for kind in KINDS))
    ]
    families = ", ".join(family.name for family in installed_families())
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        f"""# Synthetic pages a second on one core

Pages of 1275x1650 with four questions each, drawn, scanned and encoded as JPEG, in one process;
{arguments.pages} pages a row, seed {SEED}, {arguments.repeats} repeats, processor time.

Machine: {processor()}, {os.cpu_count()} cores; Python {platform.python_version()},
Pillow {PIL.__version__}; fonts: {families}.

| kind | pages/s, median | least | most | mean kB a page |
|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
