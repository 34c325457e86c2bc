"""A shuffled order of any length that takes no memory: each position is computed when it is asked.

A balanced Feistel network over the smallest even number of bits that holds the length, walked until
the result lies inside it (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import overload

ROUNDS = 6
_MASK = (1 << 64) - 1


class Permutation(Sequence[int]):
    """A permutation of `range(size)` that is drawn by its seeds.

    `seeds` are integers or texts: the same ones give the same order, on every machine.
    """

    def __init__(self, size: int, *seeds: int | str) -> None:
        self._size = size
        self._half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self._low = (1 << self._half) - 1
        digest = hashlib.blake2b(repr(seeds).encode(), digest_size=8 * ROUNDS).digest()
        self._keys = [
            int.from_bytes(digest[8 * round : 8 * round + 8], "little") for round in range(ROUNDS)
        ]

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._size))]
        if not -self._size <= index < self._size:
            raise IndexError(f"position {index} of a permutation of {self._size}")
        value = index % self._size
        while True:
            value = self._encrypt(value)
            if value < self._size:
                return value

    def _encrypt(self, value: int) -> int:
        half, low = self._half, self._low
        left, right = value >> half, value & low
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & low)
        return left << half | right


def _mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
