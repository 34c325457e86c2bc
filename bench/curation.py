"""How many repeated pages are found after they were altered, and how many others are taken for one.

    python bench/curation.py [--documents ../shared/data/documents]

100 real pages (50 receipts, 50 pages of reports) are altered in each of several ways and looked up
among all 140 originals. Receipts are the hard case: several are of the same shop and form. As
peers, the perceptual hash alone, at 64 bits (what deduplication tools usually compare) and at 256.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import PIL.Image
import pyarrow.parquet as pq

from florence_data.curation import NearDuplicates, find_contamination
from florence_data.curation.fingerprints import (
    Fingerprint,
    close_pairs_within,
    fingerprint,
    grey_picture,
)
from florence_data.curation.likeness import likeness
from florence_data.recipes import synthetic
from florence_data.sample import Image, Sample, Supervision
from florence_data.sample_set import SampleSet

RESULT = Path(__file__).parent / "results" / "curation.md"
SEED = 1
RECEIPTS = 50
ALTERED = 100
NEAR = NearDuplicates()

Picture = PIL.Image.Image
Alteration = Callable[[Picture, np.random.Generator], bytes]


def encode(picture: Picture, format: str = "JPEG", quality: int = 85) -> bytes:
    target = io.BytesIO()
    picture.save(target, format, quality=quality)
    return target.getvalue()


def scaled(picture: Picture, factor: float) -> Picture:
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, PIL.Image.Resampling.LANCZOS)


def cropped(picture: Picture, most: float, rng: np.random.Generator) -> Picture:
    """Each side loses up to `most` of the page."""
    left, top, right, bottom = rng.uniform(0, most, 4)
    width, height = picture.size
    return picture.crop(
        (int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height))
    )


def noisy(picture: Picture, deviation: float, rng: np.random.Generator) -> Picture:
    pixels = np.asarray(picture, np.float32)
    pixels = pixels + rng.normal(0, deviation, pixels.shape)
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def turned(picture: Picture, degrees: float) -> Picture:
    bicubic = PIL.Image.Resampling.BICUBIC
    return picture.rotate(degrees, resample=bicubic, fillcolor=(255, 255, 255))


def scanned_again(picture: Picture, rng: np.random.Generator) -> bytes:
    return encode(noisy(scaled(cropped(picture, 0.03, rng), 0.7), 10, rng), quality=60)


ALTERATIONS: dict[str, Alteration] = {
    "re-encoded, JPEG quality 30": lambda page, _: encode(page, quality=30),
    "re-encoded, WebP quality 50": lambda page, _: encode(page, "WEBP", 50),
    "grey PNG": lambda page, _: encode(page.convert("L"), "PNG"),
    "scaled by 0.5": lambda page, _: encode(scaled(page, 0.5)),
    "scaled by 1.4": lambda page, _: encode(scaled(page, 1.4)),
    "noise, deviation 10": lambda page, rng: encode(noisy(page, 10, rng)),
    "noise, deviation 25": lambda page, rng: encode(noisy(page, 25, rng)),
    "turned by 1 degree": lambda page, _: encode(turned(page, 1)),
    "cropped by up to 2 % a side": lambda page, rng: encode(cropped(page, 0.02, rng)),
    "cropped by up to 3 % a side": lambda page, rng: encode(cropped(page, 0.03, rng)),
    "cropped by up to 5 % a side": lambda page, rng: encode(cropped(page, 0.05, rng)),
    "cropped 3 %, scaled 0.7, noise 10, JPEG 60": scanned_again,
}


def real_pages(documents: Path) -> list[Sample]:
    """The receipts, then the pages of reports."""
    rows = [
        row["images"][0]
        for part in ("sroie", "mmlongbench_doc")
        for row in pq.read_table(documents / part, columns=["images"]).to_pylist()
    ]
    return [page(row["path"], row["bytes"]) for row in rows]


def page(name: str, data: bytes) -> Sample:
    row = Supervision(id=name, question="?", answers=("x",))
    image = Image.from_bytes(data, name)
    return Sample(
        id=name, source="bench", split="train", doc_id=name, image=image, supervisions=(row,)
    )


def altered(samples: Sequence[Sample], alteration: Alteration) -> list[Sample]:
    rng = np.random.default_rng(SEED)
    return [
        page(
            sample.id,
            alteration(PIL.Image.open(io.BytesIO(sample.image.data)).convert("RGB"), rng),
        )
        for sample in samples
    ]


def small_hash(picture: np.ndarray) -> bytes:
    looks = imagehash.phash(PIL.Image.fromarray(picture))
    return np.packbits(looks.hash).tobytes()


def large_hash(picture: np.ndarray) -> bytes:
    looks = imagehash.phash(PIL.Image.fromarray(picture), hash_size=16)
    return np.packbits(looks.hash).tobytes()


def bits_apart(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


PEERS = (
    ("64-bit hash, up to 10 bits", small_hash, 10),
    ("256-bit hash, up to 30 bits", large_hash, 30),
    ("256-bit hash, up to 96 bits", large_hash, 96),
)


def found_by_hash(
    hashes: Callable[[np.ndarray], bytes],
    distance: int,
    queries: dict[str, np.ndarray],
    pages: dict[str, np.ndarray],
) -> tuple[int, int]:
    """How many queries are found among the pages, and how many other pages are taken for one."""
    known = {name: hashes(picture) for name, picture in pages.items()}
    asked = {name: hashes(picture) for name, picture in queries.items()}
    return counts(
        [
            (query, other)
            for query, looks in asked.items()
            for other, others in known.items()
            if bits_apart(looks, others) <= distance
        ]
    )


def counts(matches: list[tuple[str, str]]) -> tuple[int, int]:
    right = sum(first == second for first, second in matches)
    return right, len(matches) - right


def grey_pictures(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    return {sample.id: grey_picture(sample) for sample in samples}


def recall_table(pages: list[Sample]) -> list[str]:
    peers = " | ".join(name for name, *_ in PEERS)
    lines = [f"| altered | ours | least likeness | {peers} |", "|---" * (3 + len(PEERS)) + "|"]
    originals, pictures = SampleSet.from_samples(pages), grey_pictures(pages)
    for name, alteration in ALTERATIONS.items():
        queries = altered(pages[:ALTERED], alteration)
        matches = find_contamination(SampleSet.from_samples(queries), originals, NEAR).matches
        ours = counts([(match.first, match.second) for match in matches])
        least = min(match.likeness for match in matches if match.first == match.second)
        asked = grey_pictures(queries)
        cells = [ours, *(found_by_hash(h, d, asked, pictures) for _, h, d in PEERS)]
        shown = [f"{right} / {wrong}" for right, wrong in cells]
        lines.append(f"| {name} | {shown[0]} | {least:.2f} | {' | '.join(shown[1:])} |")
        print(lines[-1], flush=True)
    return lines


def false_match_table(sets: dict[str, list[Sample]]) -> list[str]:
    """Different pages of a set that are taken for the same."""
    peers = " | ".join(name for name, *_ in PEERS)
    lines = [
        f"| different pages | pairs | candidates | ours | greatest likeness | {peers} |",
        "|---" * (5 + len(PEERS)) + "|",
    ]
    for name, pages in sets.items():
        pictures = grey_pictures(pages)
        candidates = close_pairs_within([fingerprint(each) for each in pages], NEAR.distance)
        alike = [
            min(likeness(first, second), likeness(second, first))
            for first, second in (
                (pictures[pages[i].id], pictures[pages[j].id]) for i, j in candidates
            )
        ]
        by_hash = []
        for _, hashes, distance in PEERS:
            looks = [hashes(picture) for picture in pictures.values()]
            by_hash.append(sum(bits_apart(a, b) <= distance for a, b in combinations(looks, 2)))
        cells = [
            *(name, len(pages) * (len(pages) - 1) // 2, len(alike)),
            *(sum(each >= NEAR.likeness for each in alike), f"{max(alike, default=0):.2f}"),
            *by_hash,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
        print(lines[-1], flush=True)
    return lines


def replaced_line(sample: Sample, donor: Sample, part: float, rng: np.random.Generator) -> Sample:
    """The page with a strip of 3 % of its height, `part` of its width, from another page."""
    target = PIL.Image.open(io.BytesIO(sample.image.data)).convert("RGB")
    source = PIL.Image.open(io.BytesIO(donor.image.data)).convert("RGB").resize(target.size)
    width, height = target.size
    left, top = int((1 - part) / 2 * width), int(rng.uniform(0.25, 0.8) * height)
    box = (left, top, left + int(part * width), top + int(0.03 * height))
    target.paste(source.crop(box), box[:2])
    return page(sample.id, encode(target, quality=90))


def edit_table(receipts: list[Sample]) -> list[str]:
    lines = ["| receipts with | taken for the same as the original |", "|---|---|"]
    for name, part in (("one line of another receipt", 1.0), ("two fifths of such a line", 0.4)):
        rng = np.random.default_rng(SEED)
        edited = [
            replaced_line(each, receipts[i - 1], part, rng) for i, each in enumerate(receipts)
        ]
        report = find_contamination(
            SampleSet.from_samples(edited), SampleSet.from_samples(receipts), NEAR
        )
        right, _ = counts([(match.first, match.second) for match in report.matches])
        lines.append(f"| {name} | {right} of {len(receipts)} |")
        print(lines[-1], flush=True)
    return lines


def speed_table(pages: list[Sample]) -> list[str]:
    prints, decoding = timed(lambda: [fingerprint(each) for each in pages])
    pictures = [grey_picture(each) for each in pages]
    close = list(close_pairs_within(prints, NEAR.distance))
    _, same = timed(lambda: [likeness(each, each) for each in pictures[:30]])
    _, other = timed(lambda: [likeness(pictures[i], pictures[j]) for i, j in close])
    rng = np.random.default_rng(SEED)
    many = [Fingerprint(str(i), str(i), 1, rng.bytes(32)) for i in range(20_000)]
    _, matching = timed(lambda: list(close_pairs_within(many, NEAR.distance)))
    pairs = len(many) * (len(many) - 1) / 2
    return [
        "| step | rate |",
        "|---|---|",
        f"| decode and hash a page | {len(pages) / decoding:.0f} pages/s |",
        f"| compare 20,000 random fingerprints | {pairs / matching / 1e6:.0f} million pairs/s |",
        f"| compare a candidate that is another page | {len(close) / other:.0f} pairs/s |",
        f"| compare a candidate that is the same page | {30 / same:.0f} pairs/s |",
    ]


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """What the work returns, and its processor time in seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=Path, default=Path("../shared/data/documents"))
    pages = real_pages(parser.parse_args().documents)
    kinds = ("invoice", "form", "table", "letter")
    invented = list(synthetic(pages=120, seed=SEED, kinds=kinds))
    recall = recall_table(pages)
    false_matches = false_match_table(
        {
            "50 receipts": pages[:RECEIPTS],
            "90 pages of reports": pages[RECEIPTS:],
            "120 synthetic invoices, forms, tables, letters": invented,
        }
    )
    edits = edit_table(pages[:RECEIPTS])
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("ImageHash", "numpy", "pillow")
    )
    text = "\n".join(
        (
            "# Near duplicates among real pages",
            "",
            "Found / other pages taken for it: 100 altered pages, each looked up among 140 pages.",
            f"`ours`: 256-bit pHash up to {NEAR.distance} bits apart, then a likeness of at least "
            f"{NEAR.likeness}.",
            f"Seed {SEED}. The least likeness is that among the pages found. The limits were "
            "chosen on these pages, altered with another seed; the synthetic pages had no part.",
            "",
            *recall,
            "",
            "Pairs of different pages that are taken for the same; a candidate is a pair that the "
            "hash leaves over.",
            "",
            *false_matches,
            "",
            "What it cannot see: a copy of a page with something else in one place.",
            "",
            *edits,
            "",
            f"Processor time on one core ({platform.machine()}; Python "
            f"{platform.python_version()}, {versions}):",
            "",
            *speed_table(pages),
            "",
        )
    )
    RESULT.write_text(text)


if __name__ == "__main__":
    main()
