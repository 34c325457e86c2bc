"""Features of pages, computed once by a frozen tower and kept beside the run.

What is stored follows from what is trained: the tower's output while the projector trains, the
projected tokens when it does not. Rows are bfloat16. Under bfloat16 autocast the tower's output is
that already and nothing is lost. Of what float32 computes, rows differ by 1.7e-3 (relative, root
mean square), and the logits by 6e-5 with random weights of base's size and by 5e-4 with the tiny
model's, where autocast itself makes 5e-3 and 8e-3.

A cache is a directory of three files:

features.json   {"version": 1, "identity": …, "shape": [577, 768]}: of what the rows are
features.bin    the rows, each of that shape, little-endian bfloat16, one behind the other
pages.bin       48 bytes a row: SHA-256 of the page's encoded image; the XXH3-128 of that and of
                the row, big-endian; 16 zero bytes in its place while the row is absent

A row's checksum is written when the row is, so a process may be killed at any moment. What has not
its checksum, for whatever reason, counts as absent.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
import xxhash
from torch import Tensor

from florence_data import InputError

if TYPE_CHECKING:
    from transformers import Florence2ForConditionalGeneration

DESCRIPTION, FEATURES, PAGES = "features.json", "features.bin", "pages.bin"

_KEY, _CHECKSUM = 32, 16
_ABSENT = bytes(_CHECKSUM)

VERSION = 1
"""Of the layout above."""

logger = logging.getLogger(__name__)


class FeatureCache:
    """Rows of one shape, one a page, found by the SHA-256 of the page's encoded image.

    Any number of processes may read and write rows at once; a pickled cache is its path, so a
    worker process opens the files itself. `FeatureCache(directory)` opens what `open` has made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shape = _read_description(directory / DESCRIPTION).shape
        records = np.memmap(directory / PAGES, np.uint8, "r").reshape(-1, _KEY + _CHECKSUM)
        self._rows = {record[:_KEY].tobytes(): row for row, record in enumerate(records)}
        self._checksums = records[:, _KEY:]
        self._features = np.memmap(
            directory / FEATURES, np.int16, "r", shape=(len(records), prod(self.shape))
        )

    @classmethod
    def open(
        cls, directory: Path, hashes: Sequence[str], shape: tuple[int, ...], identity: str
    ) -> FeatureCache:
        """Make the cache of some pages, or go on with the one that is there.

        `hashes` are of the pages' images, hexadecimal; pages with the same image share a row, and
        pages that the cache does not know yet are added to it. The disk space of all rows is taken
        at once. Raises `InputError` if the directory holds features of another shape or `identity`
        (see `feature_identity`), or if the space is not there.

        Of several processes one opens a cache with new pages, and the others after it.
        """
        wanted = dict.fromkeys(_key(sha256) for sha256 in hashes)
        if not wanted:
            raise InputError(f"{directory}: no page to keep features of; one or more is accepted")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _describe(directory / DESCRIPTION, _Description(VERSION, identity, shape))
            records = _whole_records(directory / PAGES)
            known = {record[:_KEY] for record in records}
            added = [key for key in wanted if key not in known]
            _reserve(directory / FEATURES, 2 * prod(shape) * (len(records) + len(added)))
            with (directory / PAGES).open("ab") as file:
                file.write(b"".join(key + _ABSENT for key in added))
        except OSError as error:
            raise InputError(
                f"{directory}: no place for {features_bytes(hashes, shape):,} bytes of features: "
                f"{error.strerror}; another directory or a run without cached features is accepted"
            ) from None
        return cls(directory)

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[Path]]:
        """What a worker process gets."""
        return FeatureCache, (self.directory,)

    def __len__(self) -> int:
        """How many rows there are, present or not."""
        return len(self._checksums)

    @property
    def filled(self) -> int:
        """How many rows are present; one that was damaged since is among them until it is read."""
        return int(self._checksums.any(axis=1).sum())

    @property
    def size_bytes(self) -> int:
        """What the cache takes on the disk, all rows present."""
        return len(self) * _bytes_a_page(self.shape)

    def get(self, sha256: str) -> Tensor | None:
        """A copy of a page's row, bfloat16 of the cache's shape; None where it is absent.

        A row that does not have its checksum is absent, and a warning is logged.
        """
        key = _key(sha256)
        row = self._rows.get(key)
        if row is None:
            return None
        checksum = self._checksums[row].tobytes()
        if checksum == _ABSENT:
            return None
        values = np.array(self._features[row])
        if _checksum(key, values) != checksum:
            path = self.directory / FEATURES
            logger.warning("%s: row %d, of page %s, is damaged: left out", path, row, sha256)
            return None
        return torch.from_numpy(values).view(torch.bfloat16).view(self.shape)

    def put(self, sha256: str, features: Tensor) -> None:
        """Store a page's features, of the cache's shape, in any dtype and on any device.

        Raises `KeyError` for a page that the cache was not opened with, `ValueError` for another
        shape, and `InputError` where the disk refuses to write.
        """
        key = _key(sha256)
        row = self._rows[key]
        if tuple(features.shape) != self.shape:
            raise ValueError(f"features of shape {tuple(features.shape)}; {self.shape} is stored")
        stored = features.detach().to("cpu", torch.bfloat16).contiguous()
        values = stored.flatten().view(torch.int16).numpy()
        checksum_at = row * (_KEY + _CHECKSUM) + _KEY
        try:
            _write(self.directory / PAGES, checksum_at, _ABSENT)
            _write(self.directory / FEATURES, row * values.nbytes, values.data)
            _write(self.directory / PAGES, checksum_at, _checksum(key, values))
        except OSError as error:
            raise InputError(
                f"{self.directory}: features cannot be written: {error.strerror}; the cache takes "
                f"{self.size_bytes:,} bytes"
            ) from None


def features_bytes(hashes: Sequence[str], shape: tuple[int, ...]) -> int:
    """What a cache of these pages takes on the disk, before it is made."""
    return len({_key(sha256) for sha256 in hashes}) * _bytes_a_page(shape)


def tower_features(model: Florence2ForConditionalGeneration, pixels: Tensor) -> Tensor:
    """The tower's output, [P, C, H, W], for pixels [P, 3, height, width]."""
    features: Tensor = model.model.vision_tower(pixels).last_hidden_state
    return features


def project(model: Florence2ForConditionalGeneration, features: Tensor) -> Tensor:
    """The tokens [P, N, D] of a tower's output [P, C, H, W]; N is H * W + 1.

    Of what `tower_features` returns it makes `get_image_features(pixels).pooler_output`, bit for
    bit; stored features take the projector's dtype first.
    """
    projector = model.model.multi_modal_projector
    tokens: Tensor = projector(features.to(projector.image_projection.weight.dtype))
    return tokens


def feature_shape(
    model: Florence2ForConditionalGeneration, image_size: tuple[int, int], projected: bool
) -> tuple[int, ...]:
    """What is stored of a page of (width, height) pixels: tokens (N, D) if `projected`, else the
    tower's output (C, H, W)."""
    vision = model.config.vision_config
    width, height = image_size
    for kernel, stride, padding in zip(
        vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True
    ):
        width, height = ((n + 2 * padding - kernel) // stride + 1 for n in (width, height))
    if projected:
        return height * width + 1, vision.projection_dim
    return vision.embed_dim[-1], height, width


def feature_identity(
    model: Florence2ForConditionalGeneration, preprocessing: str, projected: bool
) -> str:
    """What features depend on beside the page: the weights that make them, and `preprocessing`,
    which names what happens to an image before and the precision that the tower computes in.

    With the same weights, it is the same on every device and in every process.
    """
    modules = [("tower", model.model.vision_tower)]
    if projected:
        modules.append(("projector", model.model.multi_modal_projector))
    digest = hashlib.sha256()
    for part, module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    stored = "projected tokens" if projected else "tower output"
    return f"{stored} of weights {digest.hexdigest()[:16]}, {preprocessing}"


def _key(sha256: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(f"image hash {sha256!r}: 64 hexadecimal digits are accepted")
    return bytes.fromhex(sha256)


def _checksum(key: bytes, values: np.ndarray[tuple[int], np.dtype[np.int16]]) -> bytes:
    checksum = xxhash.xxh3_128(key)
    checksum.update(values.data)
    return checksum.digest()


def _bytes_a_page(shape: tuple[int, ...]) -> int:
    return 2 * prod(shape) + _KEY + _CHECKSUM


class _Description(msgspec.Struct, frozen=True):
    version: int
    identity: str
    shape: tuple[int, ...]


def _describe(path: Path, wanted: _Description) -> None:
    """Write the description, or compare the one that is there."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(msgspec.json.encode(wanted) + b"\n")
        unfinished.replace(path)
    held = _read_description(path)
    if held != wanted:
        raise InputError(
            f"{path}: features of another kind, {held.identity} {list(held.shape)}; this run needs "
            f"{wanted.identity} {list(wanted.shape)}, in another directory or with this one removed"
        )


def _read_description(path: Path) -> _Description:
    try:
        description = msgspec.json.decode(path.read_bytes(), type=_Description)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(
            f"{path}: {error}; a directory of features that a run made is accepted, or a new one"
        ) from None
    if description.version != VERSION:
        raise InputError(
            f"{path}: version {description.version} of the layout; {VERSION} is accepted"
        )
    return description


def _whole_records(path: Path) -> list[bytes]:
    """The records of the rows; one that was cut short while it was added is removed."""
    size = _KEY + _CHECKSUM
    data = path.read_bytes() if path.exists() else b""
    count = len(data) // size
    if len(data) > count * size:
        os.truncate(path, count * size)
    return [data[row * size : (row + 1) * size] for row in range(count)]


def _reserve(path: Path, size: int) -> None:
    """Make a file that long, its space taken: a full disk is known now and not hours later."""
    with path.open("ab") as file:
        held = file.tell()
        if size <= held:
            return
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), held, size - held)
            else:
                file.truncate(size)
        except OSError:
            file.truncate(held)
            raise


def _write(path: Path, offset: int, data: bytes | memoryview) -> None:
    """Overwrite a part of a file. Written and not mapped: a full disk is an error, not a signal."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
