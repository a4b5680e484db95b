"""Which items each request of a batch may be given: the bitmap of the moment, less and limited by rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import SparseRows
from streams.events import Request
from streams.serving.eligibility import Eligibility
from streams.state.item_columns import grown
from streams.state.item_index import ItemIndex
from streams.state.people import People

Rows = NDArray[np.int32]

_NONE = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What B requests may be given, over N rows.

    Attributes
    ----------
    eligible : (N,) bool, what anybody may be given
    denied : for each request eligible rows that it may not be given, whether seen or not: ascending
    unseen : the same, with what its user has seen
    limited : for each request the only rows that it may be given, ascending; None = no such limit
    fallbacks : for each request why its slate is not as it should be, None if it is
    """

    eligible: NDArray[np.bool_]
    denied: Sequence[Rows]
    unseen: Sequence[Rows]
    limited: Sequence[Rows | None]
    fallbacks: Sequence[str | None]

    def permits(self, request: int, rows: NDArray[Any], *, seen: bool) -> NDArray[np.bool_]:
        """Tell which of some rows a request may be given; with `seen`, also such as its user has seen."""
        inside = (rows >= 0) & (rows < len(self.eligible))
        permitted = inside & self.eligible[np.where(inside, rows, 0)]
        permitted &= ~is_among(rows, (self.denied if seen else self.unseen)[request])
        limit = self.limited[request]
        return permitted if limit is None else permitted & is_among(rows, limit)

    def limits(self) -> tuple[SparseRows, NDArray[np.bool_]]:
        """Return the rows that requests are limited to, and which requests are: (B,) bool."""
        mask = np.array([limit is not None for limit in self.limited], np.bool_)
        return SparseRows.of([_NONE if limit is None else limit for limit in self.limited]), mask


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a batch says of items, gathered in the event loop.

    filters : for each request, for each of its filters, lists of rows of which one must have an item
    """

    requests: Sequence[Request]
    people: People
    bits: NDArray[np.bool_]
    on_time: Sequence[bool]
    filters: Sequence[Sequence[Sequence[Rows]]]


class AllowedRows:
    """Works out `Allowed` in the inference thread."""

    def __init__(self, eligibility: Eligibility, index: ItemIndex) -> None:
        self._eligibility = eligibility
        self._index = index

    def of(self, wanted: Wanted, n: int, *, fallback: str | None) -> Allowed:
        """Return what each request may be given of the first n rows.

        Parameters
        ----------
        fallback : of slates with nothing else wrong
        """
        eligible, late = self._eligible(wanted, n)
        n_eligible = int(np.count_nonzero(eligible))
        denied, unseen, limited = [], [], []
        fallbacks: list[str | None] = []
        for b, request in enumerate(wanted.requests):
            gone = [late[b], wanted.people.stated[b].blocked]
            if request.exclude:
                gone.append(self._index.known_rows(request.exclude))
            no = _eligible_of(eligible, gone)
            limit = self._limit(request, wanted.filters[b], eligible)
            seen = _eligible_of(eligible, [no, wanted.people.seen[b]])
            before, after = (
                (n_eligible - len(no), n_eligible - len(seen))
                if limit is None
                else (len(limit) - is_among(limit, no).sum(), len(limit) - is_among(limit, seen).sum())
            )
            all_seen = before > 0 and after == 0
            denied.append(no)
            unseen.append(no if all_seen else seen)
            limited.append(limit)
            fallbacks.append("all_seen" if all_seen else fallback)
        return Allowed(eligible, denied, unseen, limited, fallbacks)

    def _eligible(self, wanted: Wanted, n: int) -> tuple[NDArray[np.bool_], list[Rows]]:
        """What any request may be given at its own time, and which of that each one may not."""
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
    rows = np.concatenate([_NONE, *lists])
    if not len(rows):
        return rows
    rows = rows[(rows >= 0) & (rows < len(eligible))]
    return np.unique(rows[eligible[rows]])


def is_among(rows: NDArray[Any], ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows are in a list that ascends: (n,) bool."""
    if not len(ascending):
        return np.zeros(len(rows), np.bool_)
    at = np.searchsorted(ascending, rows)
    found: NDArray[np.bool_] = ascending[np.minimum(at, len(ascending) - 1)] == rows
    return found
