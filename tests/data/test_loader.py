"""A loader gives the same batches with any number of workers and goes on where it was stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from florence_data import InputError, Sample, SampleSet
from florence_data.images import decode
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import shard

torch = pytest.importorskip("torch")
loader = pytest.importorskip("florence_data.loader")


def number(sample: Sample) -> int:
    """The number of a page whose image can be decoded."""
    decode(sample.image.read(), "image")
    return int(sample.id.split()[1])


@pytest.fixture
def pages(make_pages: Callable[..., SampleSet], tmp_path: Path) -> SampleSet:
    """Twenty-three pages in several shards."""
    shard(make_pages(23), tmp_path / "set", options=ShardOptions(shard_pages=5))
    return SampleSet.from_shards(tmp_path / "set")


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(pages: SampleSet, workers: int) -> None:
    def epoch(workers: int) -> list[list[int]]:
        return list(loader.Loader(pages, number, list, batch_size=4, workers=workers, seed=7))

    assert epoch(workers) == epoch(0)
    assert sorted(n for batch in epoch(workers) for n in batch) == list(range(23))


@pytest.mark.parametrize("stop", range(7))
def test_a_state_saved_after_a_batch_continues_with_the_next(pages: SampleSet, stop: int) -> None:
    whole = loader.Loader(pages, number, list, batch_size=4, seed=1)
    expected = [*whole, *whole]
    first = loader.Loader(pages, number, list, batch_size=4, seed=1)
    begun = list(islice(first, stop))
    state = first.state_dict()
    resumed = loader.Loader(pages, number, list, batch_size=4, seed=99, workers=2)
    resumed.load_state_dict(state)
    assert len(resumed) == 6 - stop
    assert [*begun, *resumed, *resumed] == expected


def test_two_ranks_share_an_epoch(pages: SampleSet) -> None:
    ranks = [
        loader.Loader(pages, number, list, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)
    ]
    assert len(ranks[0]) == len(ranks[1]) == 3
    assert (ranks[0].repeated, ranks[0].dropped) == (0, 0)
    assert sorted(n for rank in ranks for batch in rank for n in batch) == list(range(23))


def test_epochs_differ_and_a_mix_goes_on(pages: SampleSet) -> None:
    mixed = SampleSet.mix(pages.subset(first=3), pages.subset(last=20), weights=[1, 1])
    feed = loader.Loader(mixed, number, list, batch_size=4)
    epochs = [[n for batch in feed for n in batch] for _ in range(2)]
    assert epochs[0] != epochs[1]
    large = [n for epoch in epochs for n in epoch if n >= 3]
    assert set(large) == set(range(3, 23))


def corrupt(sample: Sample) -> Sample:
    """The page with half of its image, if its number is even."""
    if int(sample.id.split()[1]) % 2:
        return sample
    data = sample.image.data
    return replace(sample, image=replace(sample.image, data=data[: len(data) // 2]))


def test_a_corrupt_image_is_an_error_with_shard_key_and_reason(pages: SampleSet) -> None:
    feed = loader.Loader(pages.map(corrupt), number, list, batch_size=4)
    with pytest.raises(InputError, match=r"train-00000\d.tar, sample page \d+: .*not an image"):
        list(feed)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_counted_with_their_reasons(pages: SampleSet, workers: int) -> None:
    skip = loader.OnCorrupt(skip=True)
    feed = loader.Loader(
        pages.map(corrupt), number, list, batch_size=4, workers=workers, on_corrupt=skip
    )
    assert sorted(n for batch in feed for n in batch) == list(range(1, 23, 2))
    assert sorted(skipped.sample_id for skipped in feed.skipped) == sorted(
        f"page {n}" for n in range(0, 23, 2)
    )
    assert all("not an image" in skipped.reason for skipped in feed.skipped)


def test_too_many_or_a_run_of_corrupt_images_stop_the_job(pages: SampleSet) -> None:
    def read(policy: object) -> None:
        list(loader.Loader(pages.map(corrupt), number, list, batch_size=4, on_corrupt=policy))

    with pytest.raises(InputError, match=r"\d samples were skipped, more than 5; the last: .*page"):
        read(loader.OnCorrupt(skip=True, most=5))
    with pytest.raises(InputError, match="1 samples in a row cannot be prepared"):
        read(loader.OnCorrupt(skip=True, run=1))


def test_a_stream_fits_a_plain_dataloader(pages: SampleSet) -> None:
    order = loader.EpochOrder(23, loader.Position(4), 5)
    stream = loader.SampleStream(pages, order, number)
    read = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)
    assert [batch.items for batch in read] == [batch.items for batch in stream]


def test_spawned_workers_read_too(pages: SampleSet, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        "import sys, torch\n"
        "from operator import attrgetter\n"
        "from florence_data import SampleSet\n"
        "from florence_data.loader import EpochOrder, Position, SampleStream\n"
        "if __name__ == '__main__':\n"
        "    stream = SampleStream(SampleSet.from_shards(sys.argv[1]),\n"
        "                          EpochOrder(23, Position(0), 4), attrgetter('id'))\n"
        "    batches = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1,\n"
        "                                          multiprocessing_context='spawn')\n"
        "    print(sum(len(batch.items) for batch in batches))\n"
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path / "set"],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == b"23"
