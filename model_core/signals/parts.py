"""The co-visitation tables of all partitions for one compiled call, however many partitions there are.

A call that takes arrays is compiled for their number. So it takes addresses instead, and makes arrays of
them for as long as it runs; who calls it holds the tables meanwhile.
"""

from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.horizons import HORIZONS
from model_core.signals.neighbour_groups import GROUP, Tables

GROUPS, N_GROUPS, START, LEVEL, LOW_BITS, POPULARITY, N_ROWS, APPLIED, RATES, TIMES = range(10)
WIDTH = 10

njit = numba.njit(cache=True, nogil=True)
carray: Any = numba.carray  # type: ignore[attr-defined]


class Parts(NamedTuple):
    """Tables of P partitions: their addresses and sizes, (P, WIDTH) int64, and the tables themselves.

    The addresses are good for as long as `held` is, and another array when there are others.

    changes : how often each table had been written when this was read; one that is being written counts once
        more when that is done
    """

    where: NDArray[np.int64]
    held: tuple[Tables, ...]
    changes: tuple[int, ...] = ()


class PartsReader:
    """Finds the tables of partitions; those that have not been replaced are not looked at again."""

    def __init__(self) -> None:
        self._parts = Parts(np.zeros((0, WIDTH), np.int64), ())

    def read(self, covisits: Sequence[CoVisitation]) -> Parts:
        """Return the tables as they are now; any thread may call it."""
        before, changes = self._parts, tuple(part.changes for part in covisits)
        tables = tuple(part.tables for part in covisits)
        if len(tables) == len(before.held) and all(map(is_, tables, before.held)):
            return Parts(before.where, before.held, changes)
        known = dict(zip(map(id, before.held), before.where, strict=True))
        rows = [known[id(one)] if id(one) in known else _addresses(one) for one in tables]
        found = self._parts = Parts(np.array(rows, np.int64).reshape(len(rows), WIDTH), tables, changes)
        return found


class Seen:
    """Tells whether tables have been written since they were looked at last. One thread at a time."""

    def __init__(self) -> None:
        self._last: Parts | None = None

    def again(self, parts: Parts) -> bool:
        """Look at tables: True if nothing in them has changed since."""
        last, self._last = self._last, parts
        return last is not None and last.where is parts.where and last.changes == parts.changes


def _addresses(tables: Tables) -> NDArray[np.int64]:
    row = np.zeros(WIDTH, np.int64)
    row[GROUPS], row[N_GROUPS] = tables.groups.ctypes.data, len(tables.groups)
    row[START], row[LEVEL] = tables.start.ctypes.data, tables.level.ctypes.data
    row[LOW_BITS], row[POPULARITY] = tables.low_bits.ctypes.data, tables.popularity.ctypes.data
    row[N_ROWS] = len(tables.start)
    row[APPLIED], row[RATES], row[TIMES] = (
        tables.applied.ctypes.data, tables.rates.ctypes.data, tables.times.ctypes.data,
    )  # fmt: skip
    return row


@intrinsic
def _address(typing_context: Any, address: Any) -> Any:
    """Take an integer for an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Number of the lowest bit that is set, of a word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


_pointer: Any = _address  # as compiled code calls them, without the context
trailing_zeros: Any = _trailing_zeros


@njit
def arrays_of(where):  # type: ignore[no-untyped-def]
    """Groups, start, level and low_bits of the partition that a row of `Parts.where` names."""
    groups = carray(_pointer(where[GROUPS]), (where[N_GROUPS], 2, GROUP), np.int32)
    start = carray(_pointer(where[START]), (where[N_ROWS],), np.int32)
    level = carray(_pointer(where[LEVEL]), (where[N_ROWS],), np.uint8)
    low_bits = carray(_pointer(where[LOW_BITS]), (where[N_ROWS],), np.uint8)
    return groups, start, level, low_bits


@njit
def moments_of(where):  # type: ignore[no-untyped-def]
    """Applied offsets, popularity, rates and times of the partition that a row of `Parts.where` names."""
    rows = where[N_ROWS]
    applied = carray(_pointer(where[APPLIED]), (rows,), np.int64)
    popularity = carray(_pointer(where[POPULARITY]), (rows,), np.int64)
    rates = carray(_pointer(where[RATES]), (rows, HORIZONS), np.float32)
    times = carray(_pointer(where[TIMES]), (rows, 2), np.int64)
    return applied, popularity, rates, times


@njit
def stamps_of(where, begin, end, stamps):  # type: ignore[no-untyped-def]
    """Tell items of rows [begin, end) apart from what they were: into `stamps`, (n,) int64.

    Each partition's applied offset counts, and its popularity: taking something out of an item takes that
    down, and not always the offset up.
    """
    stamps[:] = 0
    for part in range(len(where)):
        applied, popularity, _, _ = moments_of(where[part])
        for i in range(min(end, len(applied)) - begin):
            stamps[i] += applied[begin + i] - (popularity[begin + i] << 32)
