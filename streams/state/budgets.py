"""Items with a budget for a day: what each has spent, and which requests each sits out so that it lasts."""

import math
from collections.abc import Iterable
from datetime import tzinfo
from typing import Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from online_learning.pacing.pacer import Pacer
from online_learning.sampling import mix
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.spending import Day, Spending

Rows = NDArray[np.int32]
State = Literal["open", "paced", "spent", "bad"]
"""open: in every request; paced: in some; spent: in none; bad: in none, for its budget is no number."""

# Of a request's coins, so that they are not those of the policy: what it draws must not depend on them.
COINS = 0x6275646765742121
DAY_MS = 86_400_000.0
MOST_UNITS = 2.0**53
"""Counts that a budget pays for at most: nobody counts further, and rates stay numbers."""

_NONE = np.zeros(0, np.int32)


class Paced(NamedTuple):
    """Items that are not in every request: rows, (m,) int32, keys, (m,) uint64, and rates, (m,) float64."""

    rows: Rows
    keys: NDArray[np.uint64]
    rates: NDArray[np.float64]


class Totals(NamedTuple):
    """How budgets stand.

    items : those with one, by state
    spent, overspent : shares of all budgets of today together
    elapsed : share of the day that is over
    """

    items: dict[State, int]
    spent: float
    overspent: float
    elapsed: float


class Budgets:
    """Budgets by item, spent by what all partitions count; see `Pacer` for the rates.

    The event loop writes. `held` and `permits` may be called by any thread.

    Parameters
    ----------
    attribute : whose value is an item's budget for a day
    price_attribute : whose value is what one count costs; None = 1
    spent_by, code : the action that spends and its code; "" and -1 for slates
    zone : where days begin at midnight
    seed : of coins

    Attributes
    ----------
    parts : what is counted, by partition; those of owned partitions are their shards' own
    """

    def __init__(
        self,
        catalogue: Catalogue,
        index: ItemIndex,
        *,
        attribute: str,
        price_attribute: str | None,
        spent_by: str,
        code: int,
        zone: tzinfo,
        partitions: int,
        seed: int,
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._attribute, self._price_attribute = attribute, price_attribute
        self._spent_by, self._code, self._zone, self._seed = spent_by, code, zone, seed
        self._slots: dict[int, int] = {}  # by key
        self._known = False
        self.parts = {partition: self.spending(partition) for partition in range(partitions)}
        self._units: dict[int, float] = {}  # by row: counts that a budget pays for; NaN where it is bad
        self._rows = _NONE
        self._keys = np.zeros(0, np.uint64)
        self._spent = np.zeros(0)
        self._pacer = Pacer(np.zeros(0))
        self._paced_ms = 0
        self._today = Day(0, 0, 0)
        self._paced = Paced(_NONE, self._keys, np.zeros(0))

    def spending(self, partition: int) -> Spending:
        """Return a partition's counts before the first."""
        return Spending(
            partition, by=self._spent_by, code=self._code, zone=self._zone, wants=self._wants,
            spends=self._spends,
        )  # fmt: skip

    def _wants(self, key: int) -> bool:
        """Whether an item is counted: those with a budget, and all until these are known."""
        return not self._known or key in self._slots

    def _spends(self, key: int) -> None:
        """Take an item out of the requests to come, at once, if that was the last of its budget."""
        slot = self._slots.get(key)
        if slot is None:
            return
        self._spent[slot] += 1
        if self._spent[slot] >= self._pacer.units[slot] and self._pacer.rates[slot] > 0:
            self._pacer.rates[slot] = 0.0
            self._announce()

    # Items

    def changed(self, rows: Rows) -> None:
        """Look again at items that have changed; a new budget is held back until it is paced."""
        counts = self._catalogue.count_values(rows, self._attribute)
        found = {row: self._read(row) for row in rows[counts > 0].tolist()}
        gone = [row for row in rows[counts == 0].tolist() if row in self._units]
        if any(self._units.get(row) != units for row, units in found.items()) or gone:
            self._units.update(found)
            for row in gone:
                del self._units[row]
            self._arrange()

    def _read(self, row: int) -> float:
        """Return how many counts an item's budget pays for; NaN if that is not said in numbers."""
        budget = _number(self._catalogue.values(row, self._attribute))
        if self._price_attribute is None:
            return min(budget, MOST_UNITS)
        price = _number(self._catalogue.values(row, self._price_attribute))
        return min(budget / price, MOST_UNITS) if price > 0 else math.nan

    def _arrange(self) -> None:
        before, slots = self._pacer, self._slots
        self._rows = np.array(sorted(self._units), np.int32)
        self._keys = self._index.keys[self._rows]
        self._slots = {key: slot for slot, key in enumerate(self._keys.tolist())}
        units = np.array([self._units[row] for row in self._rows.tolist()])
        self._pacer = Pacer(np.nan_to_num(units, nan=0.0))
        self._pacer.taken_from(before, np.array([slots.get(key, -1) for key in self._slots], np.int64))
        self._spent = np.zeros(len(units))
        self._count(self._slots)
        self._announce()

    # Counts

    def place(self, partition: int, spending: Spending) -> None:
        """Let a partition's counts be others: those of a shard that has been restored."""
        self.parts[partition].changed.update(self.parts[partition].counts, spending.counts)
        spending.changed |= self.parts[partition].changed
        self.parts[partition] = spending

    def on_row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take in a row of spending of another worker's partition."""
        if value is not None:
            self.parts[partition].on_row(key, value)

    def _count(self, keys: Iterable[int]) -> None:
        parts = [part.counts for part in self.parts.values() if part.day == self._today.number]
        for key in keys:
            if (slot := self._slots.get(key)) is not None:
                self._spent[slot] = sum(counts.get(key, 0) for counts in parts)

    # Rates

    def pace(self, now_ms: int, *, known: bool = True) -> None:
        """Set the rates by what has been spent. O(items with a budget) in NumPy.

        Parameters
        ----------
        known : whether what others have spent has been read; before, no item with a budget is offered
        """
        self._known = self._known or known
        if now_ms >= self._today.end_ms:
            self._today = Day.at(now_ms, self._zone)
            keys: Iterable[int] = self._slots
            for part in self.parts.values():
                part.begin(now_ms)
        else:
            keys = set().union(*(part.changed for part in self.parts.values()))
        for part in self.parts.values():
            part.changed.clear()
        self._count(keys)
        if self._known and len(self._rows):
            length = self._today.end_ms - self._today.begin_ms
            since = min(max(now_ms - self._paced_ms, 0), length) / length if self._paced_ms else 0.0
            self._pacer.pace(self._spent, elapsed=(now_ms - self._today.begin_ms) / length, since=since)
        self._paced_ms = now_ms
        self._announce()

    def _announce(self) -> None:
        some = np.flatnonzero(self._pacer.rates < 1.0)
        self._paced = Paced(self._rows[some], self._keys[some], self._pacer.rates[some])

    def held(self, request_ids: Iterable[str]) -> list[Rows]:
        """Return for each request the rows of items that sit it out, ascending."""
        rows, keys, rates = self._paced
        return [
            rows[_coins(self._seed_of(name), keys) >= rates] if len(rows) else _NONE for name in request_ids
        ]

    def spent_rows(self) -> Rows:
        """Return the rows of items that sit every request out, ascending."""
        return self._paced.rows[self._paced.rates <= 0]

    def permits(self, rows: NDArray[np.int64], request_id: str) -> NDArray[np.bool_]:
        """Tell which of some rows take part in a request, as far as budgets go: (n,) bool."""
        return ~np.isin(rows, self.held([request_id])[0])

    def rate(self, row: int) -> float:
        """Share of requests in which an item takes part: 1 of one without a budget."""
        at = np.flatnonzero(self._paced.rows == row)
        return float(self._paced.rates[at[0]]) if len(at) else 1.0

    def spent_share(self, row: int) -> float | None:
        """Share of an item's budget that is spent today; None without a budget, NaN of a bad one."""
        units, slot = self._units.get(row), self._slots.get(int(self._index.keys[row]))
        if units is None or slot is None:
            return None
        return float(self._spent[slot]) / units if units else 1.0

    def totals(self, now_ms: int) -> Totals:
        """Return how the budgets stand."""
        units, spent, rates = self._pacer.units, self._spent, self._pacer.rates
        bad = sum(map(math.isnan, self._units.values()))
        over = spent >= units
        total = float(units.sum()) or 1.0
        return Totals(
            {
                "open": int(np.count_nonzero(rates >= 1.0)),
                "paced": int(np.count_nonzero((rates < 1.0) & ~over)),
                "spent": int(np.count_nonzero(over)) - bad,
                "bad": bad,
            },
            spent=float(spent.sum()) / total,
            overspent=float(np.maximum(spent - units, 0.0).sum()) / total,
            elapsed=(now_ms - self._today.begin_ms) / max(self._today.end_ms - self._today.begin_ms, 1),
        )

    def _seed_of(self, request_id: str) -> int:
        return int(xxhash.xxh3_64_intdigest(request_id.encode(), seed=(self._seed ^ COINS) & (1 << 64) - 1))


def _coins(seed: int, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a uniform number in [0, 1) for each item of a request."""
    return (mix(mix(keys) ^ np.uint64(seed)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _number(values: list[str]) -> float:
    """Return the one number, 0 or more, that an attribute's values say; NaN where they do not."""
    try:
        (value,) = map(float, values)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan
