"""Eligible items of each request of a batch: the shared bitmap, less and limited by rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from streams.events import Request
from streams.serving.eligibility import Eligibility
from streams.state.item_columns import grown
from streams.state.item_index import ItemIndex
from streams.state.people import People
from streams.state.prerequisites import Prerequisites

Rows = NDArray[np.int32]

_NONE = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Eligible items of B requests, over N rows.

    Attributes
    ----------
    eligible : (N,) bool, what anybody may be given
    denied : of each request eligible rows that it may not be given, whether seen or not
    unseen : the same, with what its user has seen
    limited : for each request the only rows that it may be given, ascending; None = no such limit
    fallbacks : for each request why its slate is not as it should be, None if it is
    """

    eligible: NDArray[np.bool_]
    denied: SparseRows
    unseen: SparseRows
    limited: Sequence[Rows | None]
    fallbacks: Sequence[str | None]

    def permits(self, request: int, rows: NDArray[Any], *, seen: bool) -> NDArray[np.bool_]:
        """Tell which of some rows a request may be given; with `seen`, also such as its user has seen."""
        inside = (rows >= 0) & (rows < len(self.eligible))
        permitted = inside & self.eligible[np.where(inside, rows, 0)]
        permitted &= ~is_among(rows, (self.denied if seen else self.unseen).of_request(request))
        limit = self.limited[request]
        return permitted if limit is None else permitted & is_among(rows, limit)

    def limits(self) -> tuple[SparseRows, NDArray[np.bool_]]:
        """Return the rows that requests are limited to, and which requests are: (B,) bool."""
        mask = np.array([limit is not None for limit in self.limited], np.bool_)
        if not mask.any():
            return SparseRows.none(len(mask)), mask
        return SparseRows.of([_NONE if limit is None else limit for limit in self.limited]), mask


@dataclass(frozen=True, slots=True)
class Wanted:
    """Inputs of `AllowedRows` for a batch of requests, gathered in the event loop.

    filters : for each request, for each of its filters, lists of rows of which one must have an item
    opened : for each request the rows that require others and whose requirements its user has met; None
        where no item requires any
    """

    requests: Sequence[Request]
    people: People
    bits: NDArray[np.bool_]
    on_time: Sequence[bool]
    filters: Sequence[Sequence[Sequence[Rows]]]
    opened: Sequence[Rows] | None = None


class AllowedRows:
    """Works out `Allowed` in the inference thread."""

    def __init__(self, eligibility: Eligibility, index: ItemIndex, prerequisites: Prerequisites) -> None:
        self._eligibility = eligibility
        self._index = index
        self._prerequisites = prerequisites

    def of(
        self, wanted: Wanted, n: int, *, fallback: str | None, held: Sequence[Rows] | None = None
    ) -> Allowed:
        """Return what each request may be given of the first n rows.

        Parameters
        ----------
        fallback : of slates with nothing else wrong
        held : for each request the rows that sit it out, so that their budgets last
        """
        eligible, late = self._eligible(wanted, n)
        eligible, locked = self._unlocked(wanted, eligible)
        gone = [
            [late[b], locked[b], wanted.people.stated[b].blocked, self._excluded(request)]
            for b, request in enumerate(wanted.requests)
        ]
        for lists, rows in zip(gone, held or (), strict=held is not None):
            lists.append(rows)
        denied = _eligible_rows(eligible, gone)
        unseen = _eligible_rows(eligible, [[rows] for rows in wanted.people.seen], denied)
        limited = [
            self._limit(request, filters, eligible)
            for request, filters in zip(wanted.requests, wanted.filters, strict=True)
        ]
        all_seen = self._all_seen(int(np.count_nonzero(eligible)), denied, unseen, limited)
        if all_seen.any():
            again = [[_NONE if b else rows] for rows, b in zip(wanted.people.seen, all_seen, strict=True)]
            unseen = _eligible_rows(eligible, again, denied)
        fallbacks = ["all_seen" if b else fallback for b in all_seen.tolist()]
        return Allowed(eligible, denied, unseen, limited, fallbacks)

    def _all_seen(
        self, n_eligible: int, denied: SparseRows, unseen: SparseRows, limited: Sequence[Rows | None]
    ) -> NDArray[np.bool_]:
        """Tell of which requests all that they may be given has been seen by their user: (B,) bool."""
        if len(unseen.rows) < n_eligible and all(limit is None for limit in limited):
            return np.zeros(len(limited), np.bool_)
        before, after = n_eligible - np.diff(denied.bounds), n_eligible - np.diff(unseen.bounds)
        for b, limit in enumerate(limited):
            if limit is not None:
                before[b] = len(limit) - is_among(limit, denied.of_request(b)).sum()
                after[b] = len(limit) - is_among(limit, unseen.of_request(b)).sum()
        found: NDArray[np.bool_] = (before > 0) & (after == 0)
        return found

    def _excluded(self, request: Request) -> Rows:
        return self._index.known_rows(request.exclude) if request.exclude else _NONE

    def _eligible(self, wanted: Wanted, n: int) -> tuple[NDArray[np.bool_], list[Rows]]:
        """Items eligible for any request at its time, and those of them that each request excludes."""
        bits = wanted.bits[:n] if len(wanted.bits) >= n else grown(wanted.bits, n)
        none: list[Rows] = [_NONE] * len(wanted.requests)
        if all(wanted.on_time):
            return bits, none
        own = [
            bits if on_time else self._eligibility.at(request.timestamp_ms, n)
            for request, on_time in zip(wanted.requests, wanted.on_time, strict=True)
        ]
        shared = np.logical_or.reduce(own)
        return shared, [np.flatnonzero(shared & ~mine).astype(np.int32) for mine in own]

    def _unlocked(self, wanted: Wanted, eligible: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[Rows]]:
        """Leave out the items whose requirements no user of the batch has met.

        Returns the others, and of them those that the user of each request has not unlocked.
        """
        gated = None if wanted.opened is None else self._prerequisites.gated(len(eligible))
        if wanted.opened is None or gated is None:
            return eligible, [_NONE] * len(wanted.requests)
        anybody = np.unique(np.concatenate(wanted.opened))
        anybody = anybody[anybody < len(eligible)]
        anybody = anybody[eligible[anybody]]
        unlocked = eligible & ~gated
        unlocked[anybody] = True
        return unlocked, [anybody[~is_among(anybody, mine) & gated[anybody]] for mine in wanted.opened]

    def _limit(
        self, request: Request, filters: Sequence[Sequence[Rows]], eligible: NDArray[np.bool_]
    ) -> Rows | None:
        """Return the eligible rows that candidates and filters leave, ascending; None without any."""
        lists: list[Sequence[Rows]] = list(filters)
        if request.candidates is not None:
            lists.append([self._index.known_rows(request.candidates)])
        if not lists:
            return None
        lists.sort(key=lambda rows: sum(map(len, rows)))
        limit = _eligible_of(eligible, lists[0])
        for rows in lists[1:]:
            limit = limit[is_among(limit, _sorted(rows))]
        return limit


def _sorted(lists: Iterable[Rows]) -> Rows:
    """Distinct rows of some lists, ascending; one list alone is a posting and so already."""
    lists = list(lists)
    return lists[0] if len(lists) == 1 else np.unique(np.concatenate([_NONE, *lists]))


def _eligible_of(eligible: NDArray[np.bool_], lists: Iterable[Rows]) -> Rows:
    """Distinct rows of some lists that are eligible, ascending."""
    return _eligible_rows(eligible, [list(lists)]).rows


def _eligible_rows(
    eligible: NDArray[np.bool_], lists: Sequence[Sequence[Rows]], more: SparseRows | None = None
) -> SparseRows:
    """Rows of each request's lists that are eligible, and those of `more`."""
    more = SparseRows.none(len(lists)) if more is None else more
    some = [rows for of_request in lists for rows in of_request if len(rows)]
    if not some:
        return more
    sizes = (sum(map(len, of_request)) for of_request in lists)
    bounds = np.array([0, *accumulate(sizes)], np.int64)
    rows = np.concatenate(some, dtype=np.int32)
    return SparseRows(*_select(eligible, bounds, rows, more.bounds, more.rows))


@numba.njit(cache=True, nogil=True)
def _select(eligible, bounds, rows, more_bounds, more_rows):  # type: ignore[no-untyped-def]
    """Sort and sift what `_eligible_rows` has put together; what is in both lists is kept once."""
    found = np.empty(len(rows) + len(more_rows), np.int32)
    found_bounds = np.zeros(len(bounds), np.int64)
    n = 0
    for b in range(len(bounds) - 1):
        begin = n
        for k in range(bounds[b], bounds[b + 1]):
            if 0 <= rows[k] < len(eligible) and eligible[rows[k]]:
                found[n] = rows[k]
                n += 1
        for k in range(more_bounds[b], more_bounds[b + 1]):
            found[n] = more_rows[k]
            n += 1
        found[begin:n].sort()
        end, n = n, begin
        for k in range(begin, end):
            if k == begin or found[k] != found[k - 1]:
                found[n] = found[k]
                n += 1
        found_bounds[b + 1] = n
    return found_bounds, found[:n]


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    _eligible_rows(np.ones(1, np.bool_), [[np.zeros(1, np.int32)]])


def is_among(rows: NDArray[Any], ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows are in a list that ascends: (n,) bool."""
    if not len(ascending):
        return np.zeros(len(rows), np.bool_)
    at = np.searchsorted(ascending, rows)
    found: NDArray[np.bool_] = ascending[np.minimum(at, len(ascending) - 1)] == rows
    return found
