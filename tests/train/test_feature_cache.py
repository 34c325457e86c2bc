"""A row comes back as it was put, or not at all."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import pickle
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from florence_data import InputError
from florence_train.feature_cache import (
    FeatureCache,
    feature_identity,
    feature_shape,
    features_bytes,
    project,
    tower_features,
)
from florence_train.tiny import tiny_model, tiny_processor

SHAPE = (3, 5)
HASHES = [hashlib.sha256(bytes([index])).hexdigest() for index in range(6)]


def features(sha256: str, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """A page's features, which differ from all others'."""
    generator = torch.Generator().manual_seed(int(sha256[:12], 16))
    return torch.randn(shape, generator=generator).bfloat16()


def opened(directory: Path, hashes: list[str] | None = None, identity: str = "a") -> FeatureCache:
    return FeatureCache.open(directory, hashes or HASHES, SHAPE, identity)


def test_a_row_comes_back_bit_for_bit(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert all(cache.get(sha256) is None for sha256 in HASHES)
    for sha256 in HASHES[:4]:
        cache.put(sha256, features(sha256))
    assert (len(cache), cache.filled) == (6, 4)
    for again in (cache, opened(tmp_path), pickle.loads(pickle.dumps(cache))):
        for sha256 in HASHES[:4]:
            row = again.get(sha256)
            assert row is not None and row.dtype == torch.bfloat16
            assert torch.equal(row, features(sha256))
        assert again.get(HASHES[4]) is None


def test_the_files_are_as_the_module_says(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for sha256 in HASHES:
        cache.put(sha256, features(sha256))
    values = torch.from_file(
        str(tmp_path / "features.bin"), size=6 * 15, dtype=torch.bfloat16
    ).view(6, *SHAPE)
    records = np.fromfile(tmp_path / "pages.bin", np.uint8).reshape(6, 48)
    for record, row in zip(records, values, strict=True):
        assert torch.equal(row, features(record[:32].tobytes().hex()))
    assert sum(file.stat().st_size for file in tmp_path.glob("*.bin")) == cache.size_bytes
    assert features_bytes(HASHES, SHAPE) == cache.size_bytes == 6 * (15 * 2 + 48)


def test_values_are_rounded_to_the_nearest_bfloat16(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    exact = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    cache.put(HASHES[0], exact)
    row = cache.get(HASHES[0])
    assert row is not None
    assert float(((row.float() - exact) / exact).abs().max()) <= 2**-8


def test_identical_images_share_a_row(tmp_path: Path) -> None:
    cache = opened(tmp_path, [HASHES[0], HASHES[1], HASHES[0]])
    assert len(cache) == 2
    assert features_bytes([HASHES[0], HASHES[1], HASHES[0]], SHAPE) == cache.size_bytes


def test_pages_can_be_added_later(tmp_path: Path) -> None:
    first = opened(tmp_path, HASHES[:2])
    first.put(HASHES[1], features(HASHES[1]))
    more = opened(tmp_path, HASHES[::-1])
    assert len(more) == 6
    more.put(HASHES[5], features(HASHES[5]))
    for sha256 in (HASHES[1], HASHES[5]):
        row = more.get(sha256)
        assert row is not None and torch.equal(row, features(sha256))
    assert first.get(HASHES[5]) is None


def test_a_row_written_by_another_process_is_seen(tmp_path: Path) -> None:
    reader, writer = opened(tmp_path), opened(tmp_path)
    assert reader.get(HASHES[2]) is None
    writer.put(HASHES[2], features(HASHES[2]))
    row = reader.get(HASHES[2])
    assert row is not None and torch.equal(row, features(HASHES[2]))


def test_worker_processes_read_it(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for sha256 in HASHES:
        cache.put(sha256, features(sha256))
    loader = DataLoader(
        HASHES,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=1,
        collate_fn=cache.get,
    )
    assert all(
        torch.equal(row, features(sha256)) for row, sha256 in zip(loader, HASHES, strict=True)
    )


@pytest.mark.parametrize("file", ["features.bin", "pages.bin"])
def test_no_damaged_byte_makes_a_wrong_row(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened(tmp_path)
    for sha256 in HASHES:
        cache.put(sha256, features(sha256))
    path = tmp_path / file
    sound = path.read_bytes()
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        rows = [FeatureCache(tmp_path).get(sha256) for sha256 in HASHES]
        assert sum(row is None for row in rows) == 1, position
        for row, sha256 in zip(rows, HASHES, strict=True):
            assert row is None or torch.equal(row, features(sha256))
    assert "features.bin: row 0, of page" in caplog.text and "is damaged" in caplog.text


def test_a_row_under_another_pages_name_is_damaged(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for sha256 in HASHES:
        cache.put(sha256, features(sha256))
    records = np.memmap(tmp_path / "pages.bin", np.uint8, "r+").reshape(6, 48)
    records[[0, 1], :32] = records[[1, 0], :32]
    records.flush()
    rows = [FeatureCache(tmp_path).get(sha256) for sha256 in HASHES]
    assert [row is None for row in rows] == [True, True, False, False, False, False]


def test_a_damaged_row_can_be_put_again(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.put(HASHES[0], features(HASHES[0]))
    with (tmp_path / "features.bin").open("r+b") as file:
        file.write(b"\xff\xff")
    assert cache.get(HASHES[0]) is None
    cache.put(HASHES[0], features(HASHES[0]))
    row = cache.get(HASHES[0])
    assert row is not None and torch.equal(row, features(HASHES[0]))


@pytest.mark.parametrize("file", ["features.bin", "pages.bin"])
def test_a_file_cut_short_costs_the_rows_it_held(tmp_path: Path, file: str) -> None:
    cache = opened(tmp_path)
    for sha256 in HASHES:
        cache.put(sha256, features(sha256))
    path = tmp_path / file
    kept = 3 * path.stat().st_size // 6
    os.truncate(path, kept + 7)
    again = opened(tmp_path)
    rows = [again.get(sha256) for sha256 in HASHES]
    assert [row is not None for row in rows] == [True] * 3 + [False] * 3
    for sha256 in HASHES:
        again.put(sha256, features(sha256))
    assert all(torch.equal(again.get(sha256), features(sha256)) for sha256 in HASHES)  # type: ignore[arg-type]


KILLED_SHAPE = (1 << 20,)


def fill(directory: Path) -> None:
    """Put the rows that are not there, over and over."""
    torch.set_num_threads(1)
    while True:
        cache = FeatureCache.open(directory, HASHES, KILLED_SHAPE, "a")
        for sha256 in HASHES:
            if cache.get(sha256) is None:
                cache.put(sha256, features(sha256, KILLED_SHAPE))
        (directory / "features.bin").unlink()
        (directory / "pages.bin").unlink()


def test_killed_at_any_moment_it_never_gives_a_wrong_row(tmp_path: Path) -> None:
    expected = {sha256: features(sha256, KILLED_SHAPE) for sha256 in HASHES}
    rng = random.Random(0)
    states = set()
    for _ in range(25):
        process = multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path,))
        process.start()
        assert process.pid is not None
        time.sleep(rng.uniform(0.01, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        cache = FeatureCache.open(tmp_path, HASHES, KILLED_SHAPE, "a")
        states.add(cache.filled)
        for sha256 in HASHES:
            row = cache.get(sha256)
            assert row is None or torch.equal(row, expected[sha256])
    assert len(states) > 2, "the kills met the work at one point only"


@pytest.mark.parametrize(
    ("shape", "identity"), [(SHAPE, "another model"), ((5, 3), "a"), ((3, 5, 1), "a")]
)
def test_features_of_another_kind_are_refused(
    tmp_path: Path, shape: tuple[int, ...], identity: str
) -> None:
    opened(tmp_path).put(HASHES[0], features(HASHES[0]))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"features of another kind, a \[3, 5\]; this run needs"):
        FeatureCache.open(tmp_path, HASHES, shape, identity)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text('{"version": 1, "identity": "a"}')
    with pytest.raises(InputError, match=r"features.json: .*missing required field `shape`"):
        opened(tmp_path)
    (tmp_path / "features.json").write_text('{"version": 2, "identity": "a", "shape": [3, 5]}')
    with pytest.raises(InputError, match="version 2 of the layout; 1 is accepted"):
        opened(tmp_path)
    with pytest.raises(InputError, match="no page to keep"):
        FeatureCache.open(tmp_path / "new", [], SHAPE, "a")
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        FeatureCache.open(tmp_path / "new", ["abc"], SHAPE, "a")


def test_a_disk_without_room_is_known_before_the_first_page(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(InputError, match=r"no place for 12,583,200 bytes of features: File"):
            FeatureCache.open(tmp_path, HASHES, KILLED_SHAPE, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "features.bin").stat().st_size == 0
    assert FeatureCache.open(tmp_path, HASHES, KILLED_SHAPE, "a").filled == 0


def test_a_disk_that_fills_up_gets_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(file: int, offset: int, size: int) -> None:
        os.ftruncate(file, offset + size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", half)
    with pytest.raises(InputError, match="no place for 468 bytes of features: No space left"):
        opened(tmp_path)
    assert (tmp_path / "features.bin").stat().st_size == 0


def test_a_disk_that_refuses_a_row_is_an_error_and_no_row(tmp_path: Path) -> None:
    cache = FeatureCache.open(tmp_path, HASHES, KILLED_SHAPE, "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(InputError, match="features cannot be written: File too large"):
            cache.put(HASHES[0], features(HASHES[0], KILLED_SHAPE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache.get(HASHES[0]) is None


def test_a_row_of_another_shape_or_page_is_a_mistake(tmp_path: Path) -> None:
    cache = opened(tmp_path, HASHES[:1])
    with pytest.raises(ValueError, match=r"features of shape \(5, 3\); \(3, 5\) is stored"):
        cache.put(HASHES[0], torch.zeros(5, 3))
    with pytest.raises(KeyError):
        cache.put(HASHES[1], torch.zeros(SHAPE))
    assert cache.get(HASHES[1]) is None


@torch.no_grad()
def test_projected_tower_features_are_the_models_own() -> None:
    model = tiny_model(tiny_processor(), seed=0).eval()
    pixels = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    tower = tower_features(model, pixels)
    tokens = project(model, tower)
    assert torch.equal(tokens, model.get_image_features(pixels).pooler_output)
    assert feature_shape(model, (96, 64), projected=False) == tower.shape[1:]
    assert feature_shape(model, (96, 64), projected=True) == tokens.shape[1:]


@torch.no_grad()
def test_stored_features_give_nearly_the_same_tokens(tmp_path: Path) -> None:
    model = tiny_model(tiny_processor(), seed=0).eval()
    tower = tower_features(model, torch.randn(1, 3, 64, 64))
    exact = project(model, tower)
    cache = FeatureCache.open(
        tmp_path, HASHES, feature_shape(model, (64, 64), projected=False), "a"
    )
    cache.put(HASHES[0], tower[0])
    row = cache.get(HASHES[0])
    assert row is not None
    stored = project(model, row[None])
    assert stored.dtype == torch.float32
    assert float((stored - exact).norm() / exact.norm()) < 3e-3


def test_the_identity_names_weights_preprocessing_and_what_is_stored() -> None:
    model = tiny_model(tiny_processor(), seed=0)
    same = tiny_model(tiny_processor(), seed=0)
    tower = feature_identity(model, "64x64", projected=False)
    tokens = feature_identity(model, "64x64", projected=True)
    assert feature_identity(same, "64x64", projected=False) == tower
    assert "64x64" in tower and tower != tokens
    assert feature_identity(model, "32x32", projected=False) != tower
    with torch.no_grad():
        model.model.multi_modal_projector.image_proj_norm.bias[0] += 1
    assert feature_identity(model, "64x64", projected=False) == tower
    assert feature_identity(model, "64x64", projected=True) != tokens
    with torch.no_grad():
        model.model.vision_tower.convs[0].conv.bias[0] += 1
    assert feature_identity(model, "64x64", projected=False) != tower
