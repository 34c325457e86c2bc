"""How fast shards are written, read and decoded, beside webdataset, litdata and mosaicml-streaming.

    pip install webdataset && pip install --no-deps litdata lightning-utilities mosaicml-streaming
    python bench/shards.py

Without `--no-deps`, litdata and mosaicml-streaming bring torchvision, and with it another torch: a
CPU build is replaced by the CUDA build. litdata does without; mosaicml-streaming does not import
then.

On generated scan-like pages of 1700x2200 pixels and about 325 kB, each under an id of its own, of
`--distinct` different contents. Writes `bench/results/shards.md` and `.json`. A measurement is the
best of `--repeats`, in turn with its peers; the files are in the page cache. A peer that does not
import is listed with the reason. Florence-2's official processor is its image processor from
transformers, on one thread.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import tyro

from florence_data import Image, Sample, SampleSet, ShardReader, Supervision
from florence_data.conversion import convert
from florence_data.images import pixels
from florence_data.operators import Source
from florence_data.permutation import Permutation
from florence_data.shard_format import ImageDescription
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import ProcessPool, shard

RESULTS = Path(__file__).parent / "results"
WORDS = [
    "invoice",
    "total",
    "amount",
    "date",
    "account",
    "number",
    "payable",
    "remittance",
    "page",
    "of",
    "the",
    "to",
    "net",
]


@dataclass
class Results:
    """Every measurement by its name, with its unit."""

    values: dict[str, tuple[float, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str) -> None:
        """Keep a measurement and show it."""
        self.values[name] = (value, unit)
        print(f"{name}: {value:,.4g} {unit}", flush=True)

    def ratio(self, of: str, to: str) -> float:
        """How many times one measurement is another."""
        return self.values[of][0] / self.values[to][0]


def scan(seed: int) -> PIL.Image.Image:
    """A grey page with lines of text, noise and a slight blur, as a scanner gives it."""
    chance = np.random.default_rng(seed)
    page = PIL.Image.new("L", (1700, 2200), 244)
    draw = PIL.ImageDraw.Draw(page)
    for y in range(120, 2080, 44):
        line = " ".join(chance.choice(WORDS, size=int(chance.integers(4, 16))))
        draw.text((140, y), line, fill=int(chance.integers(10, 70)), font_size=28)
    page = page.filter(PIL.ImageFilter.GaussianBlur(0.7))
    noise = chance.normal(0, 2.6, (2200, 1700))
    values = np.clip(np.asarray(page) + noise, 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(values).convert("RGB")


def encode(picture: PIL.Image.Image, format: str, **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def content(number: int) -> dict[str, Any]:
    """What is asked about a page, as another tool's user would have it."""
    return {
        "id": f"page_{number:06d}",
        "supervisions": [
            {"id": f"{number}_{q}", "question": f"What is the total {q}?", "answers": [f"{q}.00"]}
            for q in range(4)
        ],
    }


def sample(number: int, data: bytes, image: Image | None = None) -> Sample:
    """The same as our record, from the image's bytes, unless its own record is there already."""
    asked = content(number)
    return Sample(
        id=asked["id"],
        source="bench",
        split="train",
        doc_id=asked["id"],
        image=image or Image.from_bytes(data, asked["id"]),
        supervisions=tuple(
            Supervision(id=s["id"], question=s["question"], answers=tuple(s["answers"]))
            for s in asked["supervisions"]
        ),
    )


def best(measured: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The largest rate of each, in turns. A measured function returns a rate."""
    rates = dict.fromkeys(measured, 0.0)
    for _ in range(repeats):
        for name, measure in measured.items():
            rates[name] = max(rates[name], measure())
    return rates


class Files:
    """The generated pages and the folders that measurements write to."""

    def __init__(self, folder: Path, count: int, distinct: int) -> None:
        self.folder = folder
        self.count = count
        pictures = [scan(seed) for seed in range(distinct)]
        self.jpegs = [encode(picture, "JPEG", quality=67) for picture in pictures]
        self.pngs = [encode(picture, "PNG") for picture in pictures]
        self.small = [
            convert(sample(0, data), ImageDescription(size=(768, 768), format="jpeg")).image.data
            for data in self.jpegs
        ]

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Every page's number and bytes."""
        for number in range(self.count):
            yield number, self.jpegs[number % len(self.jpegs)]

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def rate(self, work: Callable[[], int]) -> float:
        """Pages a second; the work says how many it did."""
        begun = time.perf_counter()
        done = work()
        return done / (time.perf_counter() - begun)


@dataclass(frozen=True)
class Pages:
    """The generated pages as a source, made into samples when they are read.

    `images` are the pages' records; without them each is made anew, which hashes the bytes.
    """

    jpegs: list[bytes]
    count: int
    images: list[Image] | None = None

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int, account: Any) -> Iterator[Sample]:
        """The pages of a range."""
        for number in range(start, stop):
            content = number % len(self.jpegs)
            image = self.images[content] if self.images else None
            made = sample(number, self.jpegs[content], image)
            account.rows.read += 1
            account.rows.kept += 1
            account.questions.read += len(made.supervisions)
            yield made


FLOOR = "write: the images alone into one file, no checksum"
OURS = "write: ours, index and checksums"
OURS_HASHING = "write: ours, index and checksums, making the images' SHA-256 too"
THEIRS = "write: webdataset.ShardWriter"
THEIRS_DURABLE = "write: webdataset.ShardWriter, then flushed to disk"
OF_PROCESSOR = ", by processor time"


def writers(files: Files, results: Results) -> dict[str, Callable[[], None]]:
    """Ways to write all pages."""

    def ours(pages: Source) -> None:
        path = files.fresh("ours")
        path.rmdir()
        shard(SampleSet(pages), path)

    images = [Image.from_bytes(data, "page") for data in files.jpegs]
    hashed = Pages(files.jpegs, files.count, images)

    def floor() -> None:
        with (files.fresh("floor") / "file").open("wb") as file:
            for _, data in files.pages():
                file.write(data)

    measured: dict[str, Callable[[], None]] = {
        FLOOR: floor,
        OURS: lambda: ours(hashed),
        OURS_HASHING: lambda: ours(Pages(files.jpegs, files.count)),
    }
    try:
        import webdataset
    except ImportError as error:
        results.notes.append(f"webdataset does not import: {error}")
    else:

        def theirs() -> None:
            pattern = str(files.fresh("webdataset") / "train-%06d.tar")
            with webdataset.ShardWriter(pattern, maxsize=512e6, verbose=0) as writer:
                for number, data in files.pages():
                    asked = content(number)
                    writer.write({"__key__": asked["id"], "jpg": data, "json": asked})

        def theirs_durable() -> None:
            theirs()
            for path in (files.folder / "webdataset").iterdir():
                with path.open("rb") as tar:
                    os.fsync(tar.fileno())

        measured[THEIRS] = theirs
        measured[THEIRS_DURABLE] = theirs_durable
    try:
        import streaming
    except Exception as error:
        results.notes.append(f"mosaicml-streaming does not import here: {error}")
    else:

        def mds() -> None:
            columns = {"jpg": "bytes", "json": "json"}
            with streaming.MDSWriter(out=str(files.fresh("mds")), columns=columns) as writer:
                for number, data in files.pages():
                    writer.write({"jpg": data, "json": content(number)})

        measured["write: MDSWriter (mosaicml-streaming)"] = mds
    try:
        from litdata.streaming import writer as lit
    except Exception as error:
        results.notes.append(f"litdata does not import here: {error}")
    else:

        def lightning() -> None:
            writer = lit.BinaryWriter(str(files.fresh("litdata")), chunk_bytes="64MB")
            for number, data in files.pages():
                writer[number] = {"jpg": data, "json": json.dumps(content(number))}
            writer.done()
            writer.merge(1)

        measured["write: litdata BinaryWriter"] = lightning
    return measured


def by_wall_and_by_processor(
    work: dict[str, Callable[[], None]], pages: int, repeats: int, results: Results
) -> None:
    """The best rates of each, in turns: pages a second, and pages a second of processor time.

    The second counts all threads and the kernel's work for them. It says what a machine with idle
    cores would do where it is higher, and is the one to compare where others use the machine.
    """
    wall, processor = dict.fromkeys(work, 0.0), dict.fromkeys(work, 0.0)
    for _ in range(repeats):
        for name, run in work.items():
            begun, begun_processor = time.perf_counter(), time.process_time()
            run()
            wall[name] = max(wall[name], pages / (time.perf_counter() - begun))
            used = time.process_time() - begun_processor
            processor[name] = max(processor[name], pages / used)
    for name in work:
        results.add(name, wall[name], "pages/s")
        results.add(f"{name}{OF_PROCESSOR}", processor[name], "pages/s of processor time")


def readers(files: Files) -> dict[str, Callable[[], float]]:
    """Ways to read all pages, bytes and questions, from what the writers wrote."""
    reader = ShardReader(files.folder / "ours")

    def at_random(seed: list[int]) -> int:
        seed[0] += 1
        return sum(
            len(reader[position].supervisions) > 0
            for position in Permutation(len(reader), "bench", seed[0])
        )

    def in_order() -> int:
        return sum(len(page.supervisions) > 0 for page in SampleSet(reader))

    seed = [0]
    measured = {
        "read: ours, at random by the index": lambda: files.rate(lambda: at_random(seed)),
        "read: ours, in order": lambda: files.rate(in_order),
    }
    if (files.folder / "webdataset").exists():
        import webdataset

        def theirs() -> int:
            urls = sorted(map(str, (files.folder / "webdataset").glob("*.tar")))
            return sum(
                len(json.loads(page["json"])["supervisions"]) > 0
                for page in webdataset.WebDataset(urls, shardshuffle=False)
            )

        measured["read: webdataset, in order"] = lambda: files.rate(theirs)
    if (files.folder / "mds").exists():
        import streaming

        def mds() -> int:
            pages = streaming.StreamingDataset(local=str(files.folder / "mds"), batch_size=1)
            return sum(len(page["json"]["supervisions"]) > 0 for page in pages)

        measured["read: StreamingDataset (mosaicml-streaming), in order"] = lambda: files.rate(mds)
    if (files.folder / "litdata").exists():
        import litdata

        def lightning() -> int:
            pages = litdata.StreamingDataset(str(files.folder / "litdata"))
            return sum(len(json.loads(page["json"])["supervisions"]) > 0 for page in pages)

        measured["read: litdata.StreamingDataset, in order"] = lambda: files.rate(lightning)
    return measured


def decoders(files: Files, repeats: int, results: Results) -> None:
    """Page to normalised tensor on one core, and how far each is from the official processor."""
    import torch
    from transformers import CLIPImageProcessorPil

    from florence_data import loader

    torch.set_num_threads(1)
    official = CLIPImageProcessorPil(
        size={"height": 768, "width": 768},
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=PIL.Image.Resampling.BICUBIC,
    )

    def processor(data: bytes) -> Any:
        return official(PIL.Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="np")

    ways: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
        "decode: official processor, full JPEG": (processor, files.jpegs),
        "decode: ours (Pillow), full JPEG": (pixels, files.jpegs),
        "decode: ours (torch), full JPEG": (loader.pixels, files.jpegs),
        "decode: official processor, full PNG": (processor, files.pngs),
        "decode: ours (Pillow), full PNG": (pixels, files.pngs),
        "decode: ours (torch), full PNG": (loader.pixels, files.pngs),
        "decode: ours, JPEG stored at 768": (pixels, files.small),
    }
    rates = best(
        {
            name: lambda read=read, images=images: files.rate(
                lambda: sum(read(data) is not None for data in images)
            )
            for name, (read, images) in ways.items()
        },
        repeats,
    )
    for name, rate in rates.items():
        results.add(name, rate, "pages/s")
    levels = 255 * np.array([0.229, 0.224, 0.225])[:, None, None]
    for kind, images in (("JPEG", files.jpegs), ("PNG", files.pngs)):
        for name, read in (("Pillow", pixels), ("torch", loader.pixels)):
            differences = [
                np.abs(np.asarray(read(data)) - processor(data)["pixel_values"][0]) * levels
                for data in images
            ]
            results.add(
                f"difference: ours ({name}) to the official processor, full {kind}, mean",
                float(np.mean(differences)),
                "of 255 levels",
            )
            results.add(
                f"difference: ours ({name}) to the official processor, full {kind}, largest",
                float(np.max(differences)),
                "of 255 levels",
            )
    for format in ("png", "jpeg"):
        to = ImageDescription(size=(768, 768), format=format)
        stored = [
            np.abs(
                pixels(convert(sample(0, data), to).image.data) - processor(data)["pixel_values"][0]
            )
            * levels
            for data in files.jpegs
        ]
        for name, value in (("mean", np.mean(stored)), ("largest", np.max(stored))):
            results.add(
                f"difference: stored at 768 as {format} to the official processor, {name}",
                float(value),
                "of 255 levels",
            )


def prepare(page: Sample) -> int:
    """Decode a page in a loader's worker; the tensor stays there."""
    from florence_data import loader

    return len(loader.pixels(page.image.data))


def in_parallel(files: Files, count: int, results: Results) -> None:
    """One worker and two, for writes that resize and for decoding."""
    from florence_data.loader import Loader

    samples = SampleSet.from_shards(files.folder / "ours").subset(first=min(count, files.count))
    options = ShardOptions(item_pages=64, images=ImageDescription(size=(768, 768), format="jpeg"))
    for workers in (1, 2):

        def resize(workers: int = workers) -> int:
            path = files.fresh("resized")
            path.rmdir()
            shard(samples, path, options=options, executor=ProcessPool(workers))
            return len(samples)

        results.add(f"resizing write, processes: {workers}", files.rate(resize), "pages/s")
    for workers in (1, 2):

        def load(workers: int = workers) -> int:
            feed = Loader(samples, prepare, len, batch_size=8, workers=workers)
            return sum(feed)

        results.add(f"decoding loader, workers: {workers}", files.rate(load), "pages/s")


AIMS = (
    ("writing", OURS, THEIRS, 2.0),
    ("writing, processor time", OURS + OF_PROCESSOR, THEIRS + OF_PROCESSOR, 2.0),
    ("writing and hashing", OURS_HASHING, THEIRS, 2.0),
    (
        "writing and hashing, processor time",
        OURS_HASHING + OF_PROCESSOR,
        THEIRS + OF_PROCESSOR,
        2.0,
    ),
    ("writing, both flushed to the disk", OURS, THEIRS_DURABLE, 2.0),
    ("random reads", "read: ours, at random by the index", "read: webdataset, in order", 3.0),
    (
        "full JPEG to tensor",
        "decode: ours (torch), full JPEG",
        "decode: official processor, full JPEG",
        3.0,
    ),
    (
        "full PNG to tensor",
        "decode: ours (torch), full PNG",
        "decode: official processor, full PNG",
        3.0,
    ),
    (
        "stored at 768 to tensor",
        "decode: ours, JPEG stored at 768",
        "decode: official processor, full JPEG",
        7.0,
    ),
    ("two processes resize", "resizing write, processes: 2", "resizing write, processes: 1", 1.8),
    ("two workers decode", "decoding loader, workers: 2", "decoding loader, workers: 1", 1.8),
)


def report(results: Results, machine: dict[str, str]) -> str:
    """The results as Markdown."""
    lines = ["# Shards", "", "From `python bench/shards.py`.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += ["", "| aim | measured | aimed at |", "|---|---|---|"]
    for name, of, to, aim in AIMS:
        if of in results.values and to in results.values:
            lines.append(f"| {name}: `{of}` / `{to}` | {results.ratio(of, to):.2f}x | {aim}x |")
    lines += ["", "| measurement | value | |", "|---|---|---|"]
    lines += [
        f"| {name} | {value:,.4g} | {unit} |" for name, (value, unit) in results.values.items()
    ]
    lines += [""] + [f"- {note}" for note in results.notes]
    notes = RESULTS / "shards_findings.md"
    if notes.exists():
        lines += ["", notes.read_text().rstrip()]
    return "\n".join(lines).rstrip() + "\n"


def main(
    pages: int = 2000,
    distinct: int = 16,
    repeats: int = 3,
    parallel_pages: int = 1000,
    where: Path | None = None,
) -> None:
    """Measure, print, and write the results.

    Args:
        pages: Pages to write and read.
        distinct: Different contents among them, and pages to decode.
        repeats: Times that each is measured.
        parallel_pages: Pages for the comparison of one worker and two.
        where: A folder to write into; by default the system's temporary one.
    """
    results = Results()
    with tempfile.TemporaryDirectory(dir=where) as folder:
        files = Files(Path(folder), pages, distinct)
        results.add("page: mean size, JPEG", float(np.mean([*map(len, files.jpegs)])) / 1e3, "kB")
        results.add("page: mean size, PNG", float(np.mean([*map(len, files.pngs)])) / 1e3, "kB")
        by_wall_and_by_processor(writers(files, results), pages, repeats, results)
        for name, rate in best(readers(files), repeats).items():
            results.add(name, rate, "pages/s")
        decoders(files, repeats, results)
        in_parallel(files, parallel_pages, results)
    machine = {
        "machine": f"{platform.machine()}, {multiprocessing.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before and now": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "pages": f"{pages} of {distinct} contents, best of {repeats}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shards.md").write_text(report(results, machine))
    (RESULTS / "shards.json").write_text(
        json.dumps({"machine": machine, **asdict(results)}, indent=2) + "\n"
    )


PACKAGES = ("pillow", "numpy", "torch", "transformers", "webdataset", "litdata")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    tyro.cli(main)
