"""Is a budget spent evenly over its day, and how much beyond? A day's traffic, in simulated time.

Two workers have half of the partitions each. What they count, how they tell each other of it, and which items
sit out a request is the product's own (`Budgets`, `Spending`); slates are drawn by fixed utilities and Gumbel
noise among the items that take part. People come as a sine over the day, ten times as many for an hour in the
morning. Some click, five minutes later on average. Workers pace and tell each other every 2.5 s, which is
later than they do by default. Without pacing an item takes part until its budget is spent.

    python -m tests.benchmarks.budget_pacing
    python -m tests.benchmarks.budget_pacing --spent-by click
    python -m tests.benchmarks.budget_pacing --no-pacing
"""

import heapq
from datetime import UTC
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from online_learning.pacing.pacer import Pacer
from streams.state.budgets import Budgets
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex, key_of
from streams.state.item_rows import encode_item_state
from streams.state.spending import Spending
from tests.benchmarks.inputs import faults_told

DAY_MS, MIDNIGHT_MS = 86_400_000, 1_764_547_200_000
PARTITIONS, WORKERS, SLATE = 8, 2, 3
TICK_MS = 2_500
SIZES, EACH, FREE = (20, 100, 500, 2_500), 4, 12
RUSH = 9 / 24, 10 / 24, 10.0  # from, to, times as many
CLICKS, DELAY_MS = 0.2, 300_000.0


class Worker:
    """A worker's items and budgets, and the partitions that it owns."""

    def __init__(self, number: int, items: dict[str, int | None], *, spent_by: str, seed: int) -> None:
        index = ItemIndex()
        catalogue = Catalogue(index)
        self.budgets = Budgets(
            catalogue, index, attribute="daily_budget", price_attribute=None, spent_by=spent_by,
            code=1 if spent_by else -1, zone=UTC, partitions=PARTITIONS, seed=seed,
        )  # fmt: skip
        for name, size in items.items():
            value = encode_item_state(
                content_id=name, title=name, text=None, image=None, audio=None, triples=[],
                attributes={} if size is None else {"daily_budget": [str(size)]}, available=True,
                published_ms=None, expires_ms=None, partition=0, offset=0,
            )  # fmt: skip
            self.budgets.changed(catalogue.apply([SimpleNamespace(key=name.encode(), value=value)]))
        self.names = np.array(index.ids)
        self.owned = range(number, PARTITIONS, WORKERS)

    def tell(self, others: list["Worker"]) -> None:
        """Give the rows of what was counted to the other workers."""
        for partition in self.owned:
            for key, value in self.budgets.parts[partition].take().rows:
                for other in others:
                    other.budgets.on_row(partition, key, value)


def arrivals(requests: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return when requests come, in ms of the day, ascending."""
    minutes = np.arange(1440) / 1440
    weights = 1 + 0.8 * np.sin(2 * np.pi * (minutes - 0.5))
    weights[(minutes >= RUSH[0]) & (minutes < RUSH[1])] *= RUSH[2]
    minute = rng.choice(1440, size=requests, p=weights / weights.sum())
    return np.sort(60_000 * minute + rng.integers(60_000, size=requests))


def day(requests: int, spent_by: str, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Serve a day; return the budgets, and what was spent of each by the end of each hour: (24, n)."""
    rng = np.random.default_rng(seed)
    items: dict[str, int | None] = {f"ad {size} {n}": size for size in SIZES for n in range(EACH)}
    items |= {f"free {n}": None for n in range(FREE)}
    workers = [Worker(number, items, spent_by=spent_by, seed=seed) for number in range(WORKERS)]
    keys = [key_of(name) for name, size in items.items() if size is not None]
    utilities = rng.normal(0, 0.5, len(items))
    hours, clicks, offsets, ticks = [], [], [0] * PARTITIONS, 0
    for number, at_ms in enumerate(arrivals(requests, rng).tolist()):
        while ticks * TICK_MS <= at_ms:
            now_ms = ticks * TICK_MS
            if now_ms and now_ms % (DAY_MS // 24) == 0:
                hours.append(_spent(workers, keys))
            for one in workers:
                one.tell([other for other in workers if other is not one])
            for one in workers:
                one.budgets.pace(MIDNIGHT_MS + now_ms)
            ticks += 1
        while clicks and clicks[0][0] <= at_ms:
            clicked_ms, partition, item = heapq.heappop(clicks)
            offsets[partition] += 1
            part = workers[partition % WORKERS].budgets.parts[partition]
            _click(part, item, MIDNIGHT_MS + clicked_ms, offsets[partition])
        partition = int(rng.integers(PARTITIONS))
        worker = workers[partition % WORKERS]
        drawn = utilities + rng.gumbel(size=len(items))
        drawn[worker.budgets.held([f"{seed} {number}"])[0]] = -np.inf
        slate = worker.names[np.argsort(-drawn)[:SLATE]].tolist()
        if not spent_by:
            offsets[partition] += 1
            worker.budgets.parts[partition].count_slate(
                slate, time_ms=MIDNIGHT_MS + at_ms, offset=offsets[partition]
            )
        for item in slate:
            if rng.random() < CLICKS:
                heapq.heappush(clicks, (at_ms + int(rng.exponential(DELAY_MS)), partition, item))
    for clicked_ms, partition, item in sorted(clicks):
        if clicked_ms < DAY_MS:
            offsets[partition] += 1
            part = workers[partition % WORKERS].budgets.parts[partition]
            _click(part, item, MIDNIGHT_MS + clicked_ms, offsets[partition])
    hours += [_spent(workers, keys)] * (24 - len(hours))
    return np.array([size for size in items.values() if size is not None]), np.array(hours, np.float64)


def _click(part: Spending, item: str, time_ms: int, offset: int) -> None:
    columns = SimpleNamespace(
        actions=np.array([1]), offsets=np.array([offset]), broker_times=np.array([time_ms]),
        keys=np.array([[0], [key_of(item)]], np.uint64),  # of the user and the item
    )  # fmt: skip
    part.count_clicks(columns, np.zeros(1, np.uint8))  # type: ignore[arg-type]


def _spent(workers: list[Worker], keys: list[int]) -> list[int]:
    """Count what each item has spent, by the owners of the partitions."""
    owned = [worker.budgets.parts[partition].counts for worker in workers for partition in worker.owned]
    return [sum(counts.get(key, 0) for counts in owned) for key in keys]


def _until_spent(self: Pacer, spent: NDArray[np.float64], *, elapsed: float, since: float) -> None:
    self.rates = (spent < self.units).astype(np.float64)


def main(
    requests: Annotated[int, typer.Option(help="Of the day.")] = 40_000,
    spent_by: Annotated[str, typer.Option(help="An action; '' for slates.")] = "",
    seeds: int = 1,
    pacing: Annotated[bool, typer.Option(help="Without it, until the budget is spent.")] = True,
) -> None:
    """Print by size of budget what was spent by the end of each sixth of the day."""
    if not pacing:
        Pacer.pace = _until_spent  # type: ignore[method-assign]
    days = [day(requests, spent_by, seed) for seed in range(seeds)]
    sizes, hours = days[0][0], np.concatenate([hours for _, hours in days], axis=1)
    sizes = np.tile(sizes, seeds)
    shares = hours / sizes
    print(
        f"{requests:,} requests a day, spent by {spent_by or 'slates'}, {seeds} seed(s), shares of the budget"
    )
    print(
        "| budget | first hour | " + " | ".join(f"{n}/6 of the day" for n in range(1, 7)) + " | most beyond |"
    )
    print("|---|" + 8 * "---|")
    for size in SIZES:
        its = shares[:, sizes == size]
        cells = [f"{one.mean():.3f} ({one.min():.3f} to {one.max():.3f})" for one in its[3::4]]
        beyond = int(np.maximum(hours[-1, sizes == size] - size, 0).max())
        print(f"| {size:,} | {its[0].mean():.3f} | " + " | ".join(cells) + f" | {beyond} |")
    print(
        f"all: {hours[-1].sum() / sizes.sum():.4f} spent, "
        f"{np.maximum(hours[-1] - sizes, 0).sum() / sizes.sum():.5f} beyond"
    )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
