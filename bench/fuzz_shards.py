"""Mutated tars, indexes, descriptions, lines and images: read, or refused in one line.

    python bench/fuzz_shards.py --cases 10000

Each case changes one file of a good set (bits, bytes, blocks, numbers, cuts) and reads it as a user
would. What may happen: `InputError` with a message of one line, or every sample comes out or is
counted as dropped. What may not: another exception, fewer samples without a word, more than
10 seconds, or more than 2 GiB. The first failure ends the run with its number, which repeats it:
`--first N --cases 1`. Results of a full run are in `bench/results/shards.md`.
"""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import tyro
import xxhash

from florence_data import Account, Image, InputError, Sample, SampleSet, ShardReader, Supervision
from florence_data.images import decode, pixels
from florence_data.plain_tars import stream
from florence_data.sharding import shard

PAGES = 6
NUMBERS = (0, 1, 7, 127, 255, 511, 512, 2**15, 2**31 - 1, 2**32, 2**63 - 1, 2**64, -1)


def page(number: int) -> Sample:
    """A small page in one of the formats."""
    noise = np.random.default_rng(number).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, ("PNG", "JPEG", "WEBP")[number % 3])
    return Sample(
        id=f"page {number}",
        source="fuzz",
        split="train",
        doc_id=str(number),
        image=Image.from_bytes(file.getvalue(), "page"),
        supervisions=(Supervision(id=str(number), question="What?", answers=("a", "ü")),),
    )


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change a few places of some bytes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5, 20))):
        if not changed:
            return bytes(changed)
        at = chance.randrange(len(changed))
        length = chance.choice((1, 2, 8, 12, 100, 512))
        kind = chance.randrange(9)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.randrange(256)
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = chance.randbytes(length)
        elif kind == 4:
            other = chance.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
        elif kind == 5:
            del changed[at:]
        elif kind == 6:
            changed[at : at + length] = bytes(length)
        elif kind == 7:
            text = str(chance.choice(NUMBERS)).encode()
            changed[at : at + len(text)] = text
        else:
            number = chance.choice(NUMBERS) & (2**64 - 1)
            changed[at : at + 8] = number.to_bytes(8, chance.choice(("little", "big")))
    return bytes(changed)


class Fuzz:
    """A good set in a directory, and the ways to damage and to read it."""

    def __init__(self, directory: Path) -> None:
        pages = SampleSet.from_samples(page(number) for number in range(PAGES))
        self.directory = directory
        self.set = directory / "set"
        shard(pages, self.set)
        pages.to_jsonl(directory / "good.jsonl")
        self.files = {path.name: path.read_bytes() for path in self.set.iterdir()}
        self.lines = (directory / "good.jsonl").read_bytes()
        self.foreign = {format: self._foreign(pages, format) for format in (0, 1, 2)}
        self.images = [sample.image.data for sample in pages]
        self.kinds: dict[str, Callable[[random.Random], None]] = {
            "tar": self.tar,
            "foreign tar": self.foreign_tar,
            "index": self.index,
            "description": self.description,
            "lines": self.json_lines,
            "image": self.image,
        }

    @staticmethod
    def _foreign(pages: SampleSet, format: int) -> bytes:
        """A tar by Python's tarfile, with names that need the format's extensions."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=format) as tar:
            for sample in pages:
                folder = "a" * 60 + "/" + "b" * (60 if format else 20)
                for suffix, data in (
                    (sample.image.format.replace("jpeg", "jpg"), sample.image.data),
                    ("json", sample.to_json()),
                ):
                    info = tarfile.TarInfo(f"{folder}/{sample.id}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return file.getvalue()

    def restore(self) -> None:
        """Put the good files back."""
        for name, data in self.files.items():
            (self.set / name).write_bytes(data)

    def read_set(self) -> None:
        reader = ShardReader(self.set)
        found = [reader[position] for position in range(len(reader))]
        assert len(found) == PAGES, f"{len(found)} of {PAGES} samples"

    def tar(self, chance: random.Random) -> None:
        name = "train-000000.tar"
        (self.set / name).write_bytes(mutate(self.files[name], chance))
        self.read_set()

    def index(self, chance: random.Random) -> None:
        changed = mutate(self.files["index.arrow"], chance)
        (self.set / "index.arrow").write_bytes(changed)
        if chance.random() < 0.9:  # as an attacker would: the checksum fits
            described = json.loads(self.files["dataset.json"])
            digest = f"xxh3-128:{xxhash.xxh3_128_hexdigest(changed)}"
            described["index"] |= {"bytes": len(changed), "checksum": digest}
            (self.set / "dataset.json").write_text(json.dumps(described))
        self.read_set()

    def description(self, chance: random.Random) -> None:
        (self.set / "dataset.json").write_bytes(mutate(self.files["dataset.json"], chance))
        self.read_set()

    def foreign_tar(self, chance: random.Random) -> None:
        path = self.directory / "x.tar"
        path.write_bytes(mutate(self.foreign[chance.randrange(3)], chance))
        account = Account()
        found = sum(1 for _ in stream([path], account))
        accounted = found + account.rows.dropped.total()
        assert accounted >= PAGES, f"{found} of {PAGES} samples, {account}"

    def json_lines(self, chance: random.Random) -> None:
        path = self.directory / "x.jsonl"
        changed = mutate(self.lines, chance)
        path.write_bytes(changed)
        found = sum(1 for _ in SampleSet.from_jsonl(path))
        lines = sum(1 for line in changed.split(b"\n") if line.strip())
        assert found == lines, f"{found} samples of {lines} lines"

    def image(self, chance: random.Random) -> None:
        data = mutate(chance.choice(self.images), chance)
        decode(data, "image")
        pixels(data, (16, 16), "image")
        Image.from_bytes(data, "image")


def main(cases: int = 10_000, first: int = 0, seed: int = 0) -> int:
    """Fuzz the readers.

    Args:
        cases: How many mutated inputs.
        first: The number of the first.
        seed: Which sequence of them.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + (2 << 30), hard))
    signal.signal(signal.SIGALRM, _too_long)
    outcomes: Counter[str] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        fuzz = Fuzz(Path(directory))
        kinds = list(fuzz.kinds)
        for case in range(first, first + cases):
            kind = kinds[case % len(kinds)]
            signal.alarm(10)
            try:
                fuzz.kinds[kind](random.Random(f"{seed}/{case}"))
                outcomes[f"{kind}: read"] += 1
            except InputError as error:
                if "\n" in str(error):
                    raise AssertionError(f"case {case}: not one line: {error}") from error
                outcomes[f"{kind}: refused"] += 1
            except BaseException:
                print(f"case {case} ({kind}) failed", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
            fuzz.restore()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7,} {outcome}")
    print(f"{cases:,} cases in {time.monotonic() - begun:.0f} s: none failed")
    return 0


def _too_long(*_: object) -> None:
    raise AssertionError("more than 10 seconds")


def _address_space() -> int:
    """Bytes of address space that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
