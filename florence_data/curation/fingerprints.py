"""Fingerprints of pages, and the pairs of pages whose fingerprints are close.

The fingerprint is a perceptual hash of 256 bits (pHash of the `ImageHash` library: the signs of the
16 x 16 lowest frequencies against their median). It finds candidates and decides nothing: different
receipts of one shop are as close as a receipt and its own crop.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from florence_data.curation.likeness import SIDE, Picture
from florence_data.errors import InputError
from florence_data.images import decode_at
from florence_data.sample import Sample

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

HASH_SIDE = 16
BITS = HASH_SIDE**2
TILE = 4096
"""Fingerprints a side of the tiles in which distances are computed: 128 MB at a time."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is remembered of a page: its sample, the hash of its bytes and that of its looks."""

    sample_id: str
    sha256: str
    pixels: int
    looks: bytes


def fingerprint(sample: Sample) -> Fingerprint:
    """Decode a page and hash what it looks like. Raises `InputError` if it cannot be decoded."""
    import imagehash  # of an extra, and slow to import

    looks = imagehash.phash(PIL.Image.fromarray(grey_picture(sample)), hash_size=HASH_SIDE)
    return Fingerprint(
        sample_id=sample.id,
        sha256=sample.image.sha256,
        pixels=sample.image.width * sample.image.height,
        looks=np.packbits(looks.hash).tobytes(),
    )


def grey_picture(sample: Sample) -> Picture:
    """The page in grey, squeezed to a square, uint8 [512, 512]."""
    picture = decode_at(sample.image.read(), (SIDE, SIDE), f"sample {sample.id}")
    return np.asarray(picture.convert("L"))


def require_imagehash() -> None:
    """Raise `InputError` where the library that hashes looks is not installed."""
    if importlib.util.find_spec("imagehash") is None:
        raise InputError(
            "near duplicates: the curation extra is not installed; "
            "pip install 'florence-docs[curation]', or look for exact ones only"
        )


def close_pairs(
    left: Sequence[Fingerprint], right: Sequence[Fingerprint], distance: int
) -> Iterator[tuple[int, int]]:
    """Positions in `left` and `right` of fingerprints that differ in at most `distance` bits."""
    lefts, rights = _as_words(left), _as_words(right)
    for top in range(0, len(lefts), TILE):
        for start in range(0, len(rights), TILE):
            yield from _close_in_tile(lefts, rights, top, start, distance)


def close_pairs_within(pages: Sequence[Fingerprint], distance: int) -> Iterator[tuple[int, int]]:
    """Like `close_pairs` of a set with itself; the first position is the smaller one."""
    words = _as_words(pages)
    for top in range(0, len(words), TILE):
        for start in range(top, len(words), TILE):
            for i, j in _close_in_tile(words, words, top, start, distance):
                if i < j:
                    yield i, j


def _close_in_tile(
    left: Hashes, right: Hashes, top: int, start: int, distance: int
) -> Iterator[tuple[int, int]]:
    rows, columns = left[top : top + TILE], right[start : start + TILE]
    differing = np.zeros((len(rows), len(columns)), np.uint16)
    for word in range(left.shape[1]):
        differing += np.bitwise_count(rows[:, None, word] ^ columns[None, :, word])
    for i, j in zip(*np.nonzero(differing <= distance), strict=True):
        yield top + int(i), start + int(j)


def _as_words(pages: Sequence[Fingerprint]) -> Hashes:
    """uint64 [pages, 4]."""
    joined = b"".join(page.looks for page in pages)
    return np.frombuffer(joined, np.uint64).reshape(len(pages), BITS // 64)
