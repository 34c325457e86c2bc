"""Whether two pictures show the same page: registration, then correlation block by block.

Pages that look alike are the hard case: two receipts of one shop differ in a few lines. A hash of
the whole picture cannot tell them apart from one receipt that was cropped, so the pictures are laid
over each other first (an affine map, fitted to how far each block of one has moved in the other)
and then compared locally: the same page correlates everywhere, another page of the same form does
not where it was filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

Picture = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

SIDE = 512
"""Pixels a side of the pictures that are compared; text of a page is about five pixels high."""

SMALL = 128
"""Pixels a side at which the pictures are laid over each other."""

PASSES = ((12, 0.45), (6, 0.7))
"""How the pictures are laid over each other at `SMALL`: how many pixels off a block is looked for,
and the mean correlation of the blocks below which the pictures are not looked at closer."""

INK = {SMALL: 20.0, SIDE: 100.0}
"""Variance of grey (0…255) in a block, above that of the noise, from which it shows something.

By the picture's side: where a page is shrunk more, its print is averaged with more of the paper."""

QUANTILE = 0.05
"""The likeness is this quantile of the blocks' correlations: nearly the worst block decides."""

NEARBY = 0.02
"""How much correlation a block may lose to stay near: a line fits everywhere along itself."""

FEWEST_BLOCKS = 4
"""With fewer blocks that show something there is nothing to tell pages by."""

_IDENTITY: Floats = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""A map takes x, y and 1, in sides of one picture from its top left, to x and y in the other."""


def likeness(first: Picture, second: Picture) -> float:
    """How alike two grey pictures (uint8 [512, 512]) are in the places where they differ most.

    Close to 1 for the same picture, more than 0.8 for the same page after re-encoding, scaling,
    noise or a small crop, less for different pages; 0 where there is too little to compare.
    """
    small, other_small = _shrink(first), _shrink(second)
    coarse = _Blocks(SMALL, size=32, step=16)
    placed = _IDENTITY
    for reach, least in PASSES:
        match = coarse.match(small, other_small, placed, reach)
        if match.count < FEWEST_BLOCKS or match.correlation.mean() < least:
            return 0.0
        placed = match.refined()
    placed = _Blocks(SIDE, size=64, step=64).match(first, second, placed, reach=8).refined()
    match = _Blocks(SIDE, size=64, step=32).match(first, second, placed, reach=4)
    return float(np.quantile(match.correlation, QUANTILE)) if match.count >= FEWEST_BLOCKS else 0.0


@dataclass(frozen=True)
class _Match:
    """Blocks of one picture and where each fits best in another one, seen through a map.

    `correlation` is the normalised correlation there (-1…1). `centres` and `moved` (x and y,
    [n, 2], in sides of the picture) are where the blocks are and how far off the map they fit best.
    """

    placed: Floats
    correlation: Floats
    centres: Floats
    moved: Floats

    @property
    def count(self) -> int:
        return len(self.correlation)

    def refined(self) -> Floats:
        """The affine map [2, 3] that explains the places best, by weighted least squares.

        Blocks that match badly count little, and so do those more than a hundredth of a side off.
        """
        if self.count < FEWEST_BLOCKS:
            return self.placed
        places = np.column_stack([self.centres, np.ones(self.count)])
        trust = np.clip(self.correlation, 0, 1) ** 4 + 1e-9
        weights = trust
        for _ in range(4):
            scale = np.sqrt(weights)[:, None]
            shift, *_ = np.linalg.lstsq(places * scale, self.moved * scale, rcond=None)
            off = ((places @ shift - self.moved) ** 2).sum(axis=1)
            weights = trust / (1 + off / 0.01**2)
        refined: Floats = self.placed @ np.vstack([_IDENTITY + shift.T, [0.0, 0.0, 1.0]])
        return refined


class _Blocks:
    """Overlapping square blocks of a square picture."""

    def __init__(self, side: int, size: int, step: int) -> None:
        corners = np.arange(0, side - size + 1, step)
        y, x = np.meshgrid(corners, corners, indexing="ij")
        self.corners = np.column_stack([x.ravel(), y.ravel()])
        self.size = size

    def match(self, first: Picture, second: Picture, placed: Floats, reach: int) -> _Match:
        """Where the blocks of the first fit best in the second, seen through the map.

        They are looked for up to `reach` pixels off the map. Left out are blocks that show nothing
        in both pictures and those that the map takes out of the second.
        """
        warped, covered = _warp(second, placed)
        used = self._show_something(first) | self._show_something(warped)
        used &= self._cut(covered).min(axis=(1, 2)) > 0
        corners = self.corners[used]
        correlation, moved = self._best(first, warped, corners, reach)
        side = len(first)
        return _Match(placed, correlation, (corners + self.size / 2) / side, moved / side)

    def _best(
        self, first: Picture, second: Picture, corners: Integers, reach: int
    ) -> tuple[Floats, Integers]:
        """The best normalised correlation of each block, and how far off (x and y) it is."""
        size, shifts = self.size, 2 * reach + 1
        window = size + 2 * reach
        template = _cut(first, corners, size)
        template -= template.mean(axis=(1, 2), keepdims=True)
        padded = np.pad(second, reach, mode="edge").astype(np.float64)
        padded -= padded.mean()
        spectrum = np.fft.rfft2(_cut(padded, corners, window).astype(np.float32))
        spectrum *= np.conj(np.fft.rfft2(template.astype(np.float32), s=(window, window)))
        product = np.fft.irfft2(spectrum, s=(window, window))[:, :shifts, :shifts]
        spread = _sums(padded**2, size) - _sums(padded, size) ** 2 / size**2
        energy = (template**2).sum(axis=(1, 2))[:, None, None]
        scale = np.sqrt(np.maximum(energy, 1) * np.maximum(_cut(spread, corners, shifts), 1))
        correlation = (product / scale).reshape(-1, shifts**2)
        y, x = np.divmod(np.arange(shifts**2), shifts) - np.int64(reach)
        best = (correlation - NEARBY * (x**2 + y**2) / reach**2).argmax(axis=1)
        found = np.take_along_axis(correlation, best[:, None], axis=1)[:, 0]
        return found, np.column_stack([x, y])[best]

    def _cut(self, picture: Picture) -> Floats:
        return _cut(picture, self.corners, self.size)

    def _show_something(self, picture: Picture) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which blocks vary by more than noise does."""
        variance: Floats = self._cut(picture).var(axis=(1, 2))
        return variance > INK[len(picture)] + 2 * _noise(picture)


def _cut(picture: Picture | Floats, corners: Integers, side: int) -> Floats:
    """The squares at these corners (x and y), float64 [n, side, side]."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side))
    squares: Floats = windows[corners[:, 1], corners[:, 0]].astype(np.float64)
    return squares


def _sums(field: Floats, size: int) -> Floats:
    """The sum in each square of `size` pixels, [h, w] to [h - size + 1, w - size + 1]."""
    table = np.pad(field.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows = table[size:] - table[:-size]
    sums: Floats = rows[:, size:] - rows[:, :-size]
    return sums


def _noise(picture: Picture) -> float:
    """The variance of the picture's noise, from the median of its second differences.

    After Immerkær, "Fast Noise Variance Estimation", 1996, with the median in place of the mean so
    that ink counts little: the mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] has norm 6, and the
    median of |N(0, 1)| is 0.6745.
    """
    rows = np.diff(np.asarray(picture, np.float64), n=2, axis=0)
    laplacian = np.diff(rows, n=2, axis=1)
    return float((np.median(np.abs(laplacian)) / 0.6745 / 6) ** 2)


def _warp(picture: Picture, placed: Floats) -> tuple[Picture, Picture]:
    """The picture as seen through the map, and 1 where it lies within the picture, else 0."""
    image = PIL.Image.fromarray(picture)
    pixels = placed.copy()
    pixels[:, 2] *= len(picture)
    coefficients = tuple(pixels.ravel().tolist())
    affine, bilinear = PIL.Image.Transform.AFFINE, PIL.Image.Resampling.BILINEAR
    warped = image.transform(image.size, affine, coefficients, resample=bilinear)
    covered = PIL.Image.new("L", image.size, 1).transform(image.size, affine, coefficients)
    return np.asarray(warped), np.asarray(covered)


def _shrink(picture: Picture) -> Picture:
    small = PIL.Image.fromarray(picture).resize((SMALL, SMALL), PIL.Image.Resampling.BOX)
    return np.asarray(small)
