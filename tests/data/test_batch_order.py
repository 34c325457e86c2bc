"""Every sample once an epoch and equal batches for every rank, from any position, for any world."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_data import InputError
from florence_data.batch_order import EpochOrder, Position

SIZES = st.integers(0, 60)
BATCHES = st.integers(1, 7)
WORLDS = st.integers(1, 6)
WORKERS = st.integers(1, 4)


def run(
    size: int, start: Position, batch: int, world: int, workers: int, ending: str = "short"
) -> list[list[list[int]]]:
    """The batches of each rank, put together from its workers as a DataLoader does it."""
    ranks = []
    for rank in range(world):
        order = EpochOrder(size, start, batch, rank, world, ending=ending)  # type: ignore[arg-type]
        parts = [list(order.batches(worker, workers)) for worker in range(workers)]
        ranks.append([parts[n % workers][n // workers] for n in range(sum(map(len, parts)))])
    return ranks


@given(SIZES, BATCHES, WORLDS, WORKERS, st.integers(0, 3))
def test_each_sample_comes_once_and_ranks_have_equal_batches(
    size: int, batch: int, world: int, workers: int, epoch: int
) -> None:
    ranks = run(size, Position(9, epoch), batch, world, workers)
    order = EpochOrder(size, Position(9, epoch), batch, 0, world)
    assert {len(batches) for batches in ranks} == {len(order)}
    seen = Counter(n for batches in ranks for positions in batches for n in positions)
    assert set(seen) == set(range(size))
    assert seen.total() - size == order.repeated <= max(0, world - 1)
    assert all(1 <= len(positions) <= batch for batches in ranks for positions in batches)


@given(SIZES, BATCHES, WORLDS, WORKERS)
def test_dropping_leaves_out_less_than_a_step_and_says_how_many(
    size: int, batch: int, world: int, workers: int
) -> None:
    ranks = run(size, Position(1), batch, world, workers, "drop")
    order = EpochOrder(size, Position(1), batch, 0, world, ending="drop")
    seen = [n for batches in ranks for positions in batches for n in positions]
    assert len(seen) == len(set(seen)) == size - order.dropped
    assert order.dropped < world * batch and order.repeated == 0
    assert all(len(positions) == batch for batches in ranks for positions in batches)


@given(SIZES, BATCHES, WORLDS, WORKERS, WORLDS, BATCHES, st.floats(0, 1))
def test_an_interrupted_epoch_goes_on_with_exactly_the_rest_in_another_world(
    size: int, batch: int, world: int, workers: int, later_world: int, later_batch: int, cut: float
) -> None:
    begun = EpochOrder(size, Position(3, 1), batch, 0, world)
    done = int(cut * len(begun))
    before = [
        n
        for batches in run(size, Position(3, 1), batch, world, workers)
        for positions in batches[:done]
        for n in positions
    ]
    resumed = Position.from_dict(Position(3, 1, begun.used_after(done)).to_dict())
    later = EpochOrder(size, resumed, later_batch, 0, later_world)
    after = [
        n
        for batches in run(size, resumed, later_batch, later_world, 1)
        for positions in batches
        for n in positions
    ]
    repeated = (begun.repeated if done == len(begun) else 0) + later.repeated
    assert len(before) + len(after) == size + repeated
    assert set(before) | set(after) == set(range(size))


@given(SIZES, BATCHES, WORLDS)
def test_in_the_same_world_the_rest_is_the_very_same_batches(
    size: int, batch: int, world: int
) -> None:
    whole = run(size, Position(5), batch, world, 1)
    order = EpochOrder(size, Position(5), batch, 0, world)
    for done in range(len(order) + 1):
        rest = run(size, Position(5, 0, order.used_after(done)), batch, world, 2)
        assert rest == [batches[done:] for batches in whole]


def test_epochs_and_seeds_have_their_own_order_and_no_shuffle_has_none() -> None:
    def first(position: Position, shuffle: bool = True) -> list[int]:
        return next(EpochOrder(100, position, 100, shuffle=shuffle).batches())

    assert first(Position(1, 0)) == first(Position(1, 0))
    assert first(Position(1, 0)) != first(Position(1, 1)) != first(Position(2, 0))
    assert first(Position(1), shuffle=False) == list(range(100))


def test_restoring_takes_milliseconds_in_the_middle_of_a_billion() -> None:
    begun = time.perf_counter()
    order = EpochOrder(10**9, Position(0, 0, 7 * 10**8), 32, 3, 8)
    batch = next(order.batches())
    assert time.perf_counter() - begun < 0.05
    assert len(batch) == 32 and len(order) == -(-3 * 10**8 // 256)


@pytest.mark.parametrize(
    "state", [{}, {"seed": 1, "epoch": 0}, {"seed": 1, "epoch": -1, "position": 0}, None, "x"]
)
def test_what_is_no_state_is_refused(state: object) -> None:
    with pytest.raises(InputError, match="expected whole numbers for seed, epoch and position"):
        Position.from_dict(state)  # type: ignore[arg-type]


def test_a_state_of_another_set_and_a_rank_out_of_its_world_are_refused() -> None:
    with pytest.raises(InputError, match="state is of another set"):
        EpochOrder(10, Position(0, 0, 11), 1)
    for rank, world, batch in [(2, 2, 1), (-1, 2, 1), (0, 1, 0)]:
        with pytest.raises(InputError, match="rank"):
            EpochOrder(10, Position(0), batch, rank, world)
