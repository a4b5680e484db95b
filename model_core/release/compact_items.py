"""The item vectors as 8-bit integers: a quarter of the memory to read, and products four times as fast."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.release.near_items import ROUNDING, ZERO, Floats, Near, Written

WIDTH = 8192
"""Items of a block, whose products with a batch stay in the processor's cache."""
MIN_WIDTH = 256
LEVELS = 63
"""Largest integer of an item: without VNNI, ONNX Runtime's sums of two products of larger ones saturate."""

njit = numba.njit(cache=True, nogil=True, error_model="numpy")


class CompactItems:
    """See `NearItems`. An item is a scale and whole numbers up to `LEVELS`; so is a user, up to 127.

    Parameters
    ----------
    session
        Runs `match_graph`.
    dim
        Width of a vector.
    """

    def __init__(self, session: Any, dim: int) -> None:
        self._session, self._dim = session, dim
        self._blocks: list[NDArray[np.int8]] = []  # (dim, WIDTH) each; a first one may be less wide
        self._scales = np.zeros(0, np.float32)
        self.norms, self.errors = self._scales.copy(), self._scales.copy()
        self._written = Written()
        self._asked: Floats | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the copy."""
        return sum(block.nbytes for block in self._blocks) + 3 * self._scales.nbytes

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""
        self._written.write(rows)

    def hold(self, items: Floats) -> None:
        """See `NearItems.hold`."""
        if not len(rows := self._written.due(items)):
            return
        self._make_room(len(items))
        starts = np.searchsorted(rows, np.arange(len(self._blocks) + 1) * WIDTH)
        for at, block in enumerate(self._blocks):
            some = rows[starts[at] : starts[at + 1]]
            if len(some):
                quantize(some, at * WIDTH, items, block, self._scales, self.norms, self.errors)

    def at_once(self, requests: int) -> int:
        """See `NearItems.at_once`."""
        return WIDTH

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """See `NearItems.near`."""
        integers, scales, of_norm, of_error = self._integers(match)
        block = self._blocks[begin // WIDTH]
        products = self._session.run(None, {"match": integers, "items": block})[0]
        near = np.empty((len(match), end - begin), np.float32)
        rescale(products, scales, self._scales[begin:end], near)
        return Near(near, of_norm, of_error)

    def _integers(self, match: Floats) -> tuple[NDArray[np.uint8], Floats, Floats, Floats]:
        if match is not self._asked:  # it comes again with every block
            integers = np.empty(match.shape, np.uint8)
            scales, of_norm, of_error = np.empty((3, len(match)), np.float32)
            quantize_users(match, integers, scales, of_norm, of_error)
            self._asked, self._answer = match, (integers, scales, of_norm, of_error)
        return self._answer

    def _make_room(self, n: int) -> None:
        widths = [WIDTH] * (n // WIDTH)
        if n % WIDTH:
            widths.append(WIDTH if widths else max(MIN_WIDTH, 1 << (n - 1).bit_length()))
        for at, width in enumerate(widths):
            if at == len(self._blocks):
                self._blocks.append(np.zeros((self._dim, width), np.int8))
            elif (had := self._blocks[at]).shape[1] < width:
                self._blocks[at] = np.zeros((self._dim, width), np.int8)
                self._blocks[at][:, : had.shape[1]] = had
        if n > len(self._scales):
            more = max(n, len(self._scales) * 5 // 4) - len(self._scales)
            self._scales, self.norms, self.errors = (
                np.concatenate((of, np.zeros(more, np.float32)))
                for of in (self._scales, self.norms, self.errors)
            )


@njit
def quantize(
    rows: NDArray[np.int64],
    first: int,
    items: Floats,
    block: NDArray[np.int8],
    scales: Floats,
    norms: Floats,
    errors: Floats,
) -> None:
    """Write rows of the items, in ascending order, to the block that begins with row `first`.

    block : (dim, width); scales, norms, errors : of all items. The errors are of what is written.
    """
    for row in rows:
        vector, lane = items[row], row - first
        top, square = np.float32(0), np.float32(0)
        for value in vector:
            top, square = max(top, abs(value)), square + value * value
        if not np.isfinite(square):
            block[:, lane] = 0
            scales[row], norms[row], errors[row] = 0, np.nan, np.nan
            continue
        scale = top / np.float32(LEVELS)
        off = np.float32(0)
        for d in range(len(vector)):
            level = np.rint(vector[d] / scale) if scale > 0 else np.float32(0)
            block[d, lane] = np.int8(level)
            off += (vector[d] - level * scale) ** 2
        scales[row], norms[row], errors[row] = scale, np.sqrt(square), np.sqrt(off)


@njit
def quantize_users(
    match: Floats, integers: NDArray[np.uint8], scales: Floats, of_norm: Floats, of_error: Floats
) -> None:
    """Write users as integers around `ZERO`, their scales and what their products may be off by.

    With m the user, n what stands for it, and likewise v and w of the item,
    ``|m v - n w| = |(m - n) v + n (v - w)| <= |m - n| |v| + |n| |v - w|``.
    """
    for b in range(len(match)):
        top = np.float32(0)
        for value in match[b]:
            top = max(top, abs(value))
        scale = top / np.float32(127)
        norm, off, kept = np.float32(0), np.float32(0), np.float32(0)
        for d in range(match.shape[1]):
            level = np.rint(match[b, d] / scale) if scale > 0 else np.float32(0)
            integers[b, d] = np.uint8(level + ZERO)
            norm += match[b, d] ** 2
            kept += (level * scale) ** 2
            off += (match[b, d] - level * scale) ** 2
        scales[b] = scale
        of_norm[b] = np.sqrt(off) + ROUNDING * np.sqrt(norm)
        of_error[b] = np.sqrt(kept) * (1 + ROUNDING)


@njit
def rescale(products: NDArray[np.int32], users: Floats, items: Floats, out: Floats) -> None:
    """Write products of integers as those of vectors: (b, at least n), (b,) and (n,) to (b, n)."""
    for b in range(len(out)):
        mine, to, scale = products[b], out[b], users[b]
        for i in range(len(items)):
            to[i] = np.float32(mine[i]) * (scale * items[i])


def warm() -> None:
    """Compile every kernel, or load it from the cache, so that no request waits for it."""
    one, row = np.ones((1, 1), np.float32), np.zeros(1, np.int64)
    quantize(row, 0, one, np.zeros((1, 1), np.int8), one[0].copy(), one[0].copy(), one[0].copy())
    quantize_users(one, np.zeros((1, 1), np.uint8), one[0].copy(), one[0].copy(), one[0].copy())
    rescale(np.zeros((1, 1), np.int32), one[0], one[0], one.copy())
