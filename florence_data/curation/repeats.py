"""Pages that are in a set twice, or in two sets: the same bytes, or the same page to the eye."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np

from florence_data.curation.fingerprints import (
    Fingerprint,
    close_pairs,
    close_pairs_within,
    fingerprint,
    grey_picture,
    require_imagehash,
)
from florence_data.curation.likeness import SIDE, Picture, likeness
from florence_data.curation.scan import scan
from florence_data.errors import InputError
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

PAIRS_AT_ONCE = 1024
"""How many candidates the threads are given at a time."""


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """When two pages count as the same page to the eye.

    Pages whose 256-bit perceptual hashes differ in at most `distance` bits are candidates; those
    with at least this `likeness` (0…1, `florence_data.curation.likeness`) are the same. Measured on
    real pages (bench/results/curation.md): of copies that were re-encoded, scaled, turned by a
    degree, made noisy, or cropped by up to 5 % a side, 1198 of 1200 are within both limits, with a
    likeness of 0.79 at least; different receipts reach 0.72.
    """

    distance: int = 96
    likeness: float = 0.78


MEASURED = NearDuplicates()
"""The limits whose effect was measured."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two pages found to be the same; `likeness` is 1 for the same bytes."""

    first: str
    second: str
    kind: Literal["exact", "near"]
    likeness: float


def repeats_within(
    samples: SampleSet, near: NearDuplicates | None, workers: int
) -> tuple[list[Fingerprint], list[Match]]:
    """All pages, and the pairs of them that are the same; None for `near` compares bytes only."""
    pages = _fingerprints(samples, near, workers)
    first_with: dict[str, Fingerprint] = {}
    matches = []
    for page in pages:
        first = first_with.setdefault(page.sha256, page)
        if first is not page:
            matches.append(Match(first.sample_id, page.sample_id, "exact", 1.0))
    if near:
        distinct = list(first_with.values())
        pairs = [
            (distinct[i].sample_id, distinct[j].sample_id)
            for i, j in close_pairs_within(distinct, near.distance)
        ]
        with _pictures(samples, (name for pair in pairs for name in pair), workers) as pictures:
            matches += _alike(pairs, pictures, pictures, near, workers)
    return pages, matches


def repeats_across(
    samples: SampleSet, others: SampleSet, near: NearDuplicates | None, workers: int
) -> tuple[list[Fingerprint], list[Fingerprint], list[Match]]:
    """The pages of each set, and the pairs of one of each that are the same."""
    pages, other_pages = (_fingerprints(each, near, workers) for each in (samples, others))
    with_bytes: dict[str, list[str]] = {}
    for other in other_pages:
        with_bytes.setdefault(other.sha256, []).append(other.sample_id)
    matches = [
        Match(page.sample_id, other_id, "exact", 1.0)
        for page in pages
        for other_id in with_bytes.get(page.sha256, ())
    ]
    if near:
        pairs = [
            (pages[i].sample_id, other_pages[j].sample_id)
            for i, j in close_pairs(pages, other_pages, near.distance)
            if pages[i].sha256 != other_pages[j].sha256
        ]
        with (
            _pictures(samples, (first for first, _ in pairs), workers) as left,
            _pictures(others, (second for _, second in pairs), workers) as right,
        ):
            matches += _alike(pairs, left, right, near, workers)
    return pages, other_pages, matches


def _fingerprints(
    samples: SampleSet, near: NearDuplicates | None, workers: int
) -> list[Fingerprint]:
    if near:
        require_imagehash()
    pages = list(scan(samples, fingerprint if near else _bytes_only, workers))
    repeated = [name for name, count in Counter(p.sample_id for p in pages).items() if count > 1]
    if repeated:
        raise InputError(
            f"{len(repeated)} sample ids are there more than once, the first is {repeated[0]!r}; "
            "ids that are unique in their set are needed to name pages (validate lists them)"
        )
    return pages


def _bytes_only(sample: Sample) -> Fingerprint:
    image = sample.image
    return Fingerprint(sample.id, image.sha256, image.width * image.height, b"")


def _alike(
    pairs: Sequence[tuple[str, str]],
    left: _Pictures,
    right: _Pictures,
    near: NearDuplicates,
    workers: int,
) -> Iterator[Match]:
    """The pairs that pass, in order.

    A page may show less than its twin, so either is laid over the other, and the smaller likeness
    counts. The pairs are shared among threads: numpy's transforms let others run.
    """

    def compare(pair: tuple[str, str]) -> float:
        first, second = left[pair[0]], right[pair[1]]
        alike = likeness(first, second)
        return min(alike, likeness(second, first)) if alike >= near.likeness else alike

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            batch = pairs[start : start + PAIRS_AT_ONCE]
            for (first, second), alike in zip(batch, pool.map(compare, batch), strict=True):
                if alike >= near.likeness:
                    yield Match(first, second, "near", alike)


@dataclass(frozen=True)
class _Pictures:
    """Grey pictures by sample id, in a file: a quarter of a megabyte each."""

    file: IO[bytes]
    rows: dict[str, int]

    def __getitem__(self, name: str) -> Picture:
        data = os.pread(self.file.fileno(), SIDE**2, self.rows[name] * SIDE**2)
        return np.frombuffer(data, np.uint8).reshape(SIDE, SIDE)


@contextmanager
def _pictures(samples: SampleSet, names: Iterable[str], workers: int) -> Iterator[_Pictures]:
    """The pictures of the named samples, in a temporary file."""
    candidates = samples.filter(_Among(frozenset(names)))
    with tempfile.TemporaryFile() as file:
        rows: dict[str, int] = {}
        for name, picture in scan(candidates, _named_picture, workers):
            rows[name] = len(rows)
            file.write(picture.tobytes())
        file.flush()
        yield _Pictures(file, rows)


@dataclass(frozen=True)
class _Among:
    names: frozenset[str]

    def __call__(self, sample: Sample) -> bool:
        return sample.id in self.names


def _named_picture(sample: Sample) -> tuple[str, Picture]:
    return sample.id, grey_picture(sample)
