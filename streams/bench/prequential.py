"""`slatestream bench prequential`: recommend, see what the user liked, learn; event by event.

A model is trained on the first 20 % of the interactions, which are then replayed. Of the rest, in time
order, each like (a rating of 4 or 5) is preceded by a request for ten items, which scores a hit if the
liked item is among them; then the event is published. Lower ratings are published as "view": they take
their item out of the user's slates and are no positives.

Requests are pipelined. A user has one event in flight at a time, and event n starts only when all events
up to n - depth are through: so a slate may miss at most the latest depth - 1 events, of other users.

With `--retrain` the stream rests a few times while a release is trained on all that came before, and goes on
once the worker serves it; `slatestream trainer` does the same beside a stream.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from model_core.data.datasets import Dataset, Interactions, load_recbole
from model_core.signals.horizons import HALF_LIVES_MS
from streams.bench.references import (
    CoVisits,
    Decayed,
    Ease,
    LastLikes,
    Popularity,
    RecentCoVisits,
    Reference,
    prequential_hits,
)
from streams.bench.report import write_report
from streams.client import SlateClient
from streams.demo.arms import quantiles_ms
from streams.demo.dataset import fetch
from streams.demo.publish import click_rows, content_rows, user_rows
from streams.demo.taste import LIKED
from streams.errors import SlatestreamError
from streams.events import Click, Request
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.releases.options import check_release
from streams.session.catching_up import caught_up
from streams.session.changing_over import change_over, promote
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit, keep_checking, race
from streams.session.training import train, train_beside
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics

PUBLISHED = {"popularity": 0.099, "co-visitation": 0.173, "EASE": 0.181}
FIFTHS = 5
WINDOWS = (50, 100, 200, 500, 1_000)
BY = "bench prequential"
ANSWERED_S = 600.0
PATIENT = {"read_your_writes_ms": 60_000}
"""A slow machine changes how long answers take, and nothing of what they hold: so a late one is not lost, and
each request waits for its user's clicks."""

Pause = Callable[[], Awaitable[None]]


def prequential_command(
    data: Annotated[Path | None, typer.Option(help="Folder in RecBole's format instead of ML-100K.")] = None,
    until: Annotated[float, typer.Option(min=0.05, max=0.95, help="Warm-up share, in time order.")] = 0.2,
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="Items a slate.")] = 10,
    depth: Annotated[int, typer.Option(min=1, help="Events in flight; 1 keeps the exact order.")] = 256,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events; all without.")] = None,
    retrain: Annotated[
        int, typer.Option(min=0, help="Further trainings, evenly spread, each on all that came before it.")
    ] = 0,
    release: Annotated[Path | None, typer.Option(help="Release folder instead of training one.")] = None,
    model: Annotated[bool, typer.Option(help="--no-model serves without any release.")] = True,
    policy: Annotated[str, typer.Option(help="The worker's policy.")] = "greedy",
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for prequential.json and logs.")] = Path("build/bench"),
) -> None:
    """Measure hit@k through the real topics, event by event, beside classical recommenders.

    slatestream bench prequential

    slatestream bench prequential --retrain 3
    """
    check_release(release)
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with clean_exit(console), cluster(say, "prequential") as settings:
        folder = fetch(data, say=say)
        dataset = load_recbole(folder)
        if model and release is None:
            say(f"Training on the first {until:.0%} of the interactions ...")
            release = train(folder, out / "prequential-release", until=until, seed=seed)
        log = out / "prequential-worker.log"
        log.unlink(missing_ok=True)
        store = out / "prequential-store"
        shutil.rmtree(store, ignore_errors=True)
        if release is not None:
            asyncio.run(promote(settings, store, release, by=BY))
        values = same_topics(settings, policy=policy, release_store=str(store.absolute()), **PATIENT)
        with WorkerProcess(values, log=log) as worker:
            worker.wait_ready()
            trainings = Trainings(settings, worker, folder, store, seed=seed, say=say)
            shares = np.linspace(until, 1.0, retrain + 2)[1:-1].tolist()
            pauses = {int(share * len(dataset.interactions)): trainings.of(share) for share in shares}
            run = asyncio.run(
                _run(
                    settings, dataset, worker, until=until, k=k, depth=depth, limit=limit, pauses=pauses,
                    say=say,
                )
            )  # fmt: skip
        say(f"Comparing with references on the same {len(run.hits):,} likes ...")
        summary = figures(run, dataset, until=until, k=k, limit=limit)
        summary |= {"depth": depth, "policy": policy, "seed": seed, "until": until, "k": k}
        summary |= {"retrained": trainings.made}
        _print(summary, say)
        write_report(out / "prequential.json", summary, say)


class Trainings:
    """Trains releases as the stream goes on, and lets the worker change over to each.

    Parameters
    ----------
    data : folder of the dataset, in RecBole's format
    store : folder of releases that the worker follows

    Attributes
    ----------
    made : how many there have been
    """

    def __init__(
        self, settings: Settings, worker: WorkerProcess, data: Path, store: Path, *, seed: int, say: Any
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._data = data
        self._store = store
        self._seed = seed
        self._say = say
        self.made = 0

    def of(self, share: float) -> Pause:
        """Return what trains on this share of the interactions and changes over."""

        async def pause() -> None:
            self._say(f"Training on the first {share:.0%} of the interactions ...")
            out = self._store.with_name(f"prequential-release-{share:.2f}")
            made = await train_beside(self._data, out, until=share, seed=self._seed)
            if not await change_over(self._settings, self._worker, self._store, made, by=BY, say=self._say):
                raise SlatestreamError(f"the worker does not serve {made}; its log says why")
            self.made += 1

        return pause


@dataclass(slots=True)
class Run:
    """Result of a prequential run: one entry a like, by its place among the likes.

    hits : dict of int to bool; a lost answer is a miss
    listed : the items of each slate
    """

    hits: dict[int, bool] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    listed: dict[int, list[str]] = field(default_factory=dict)
    lost: int = 0
    fallbacks: int = 0
    seconds: float = 0.0
    model_version: str = "-"
    dead_letters: dict[str, int] = field(default_factory=dict)


async def _run(
    settings: Settings,
    dataset: Dataset,
    worker: WorkerProcess,
    *,
    until: float,
    k: int,
    depth: int,
    limit: int | None,
    pauses: Mapping[int, Pause],
    say: Any,
) -> Run:
    warm_up = int(until * len(dataset.interactions))
    publisher = Publisher(settings)
    await publisher.start()
    try:
        await publish_rows(settings, publisher, "content", content_rows(dataset))
        await publish_rows(settings, publisher, "users", user_rows(dataset))
        await publish_rows(settings, publisher, "clicks", click_rows(dataset.interactions[:warm_up]))
    finally:
        await publisher.stop()
    n_items = len(dataset.items)
    wanted = {"content": n_items, "item-state": n_items, "users": len(dataset.users), "clicks": warm_up}
    await caught_up(worker, wanted, say)
    end = len(dataset.interactions) if limit is None else warm_up + limit
    events = dataset.interactions[warm_up:end]
    say(f"Warm: {warm_up:,} events. Now {len(events):,} events, {depth} in flight ...")
    async with SlateClient(settings) as client:
        replay = Replay(
            client, events, k=k, depth=depth, pauses={at - warm_up: pause for at, pause in pauses.items()}
        )
        began = time.perf_counter()
        await race(replay.run(), keep_checking(worker.check), _tell(replay, len(events), say))
        replay.result.seconds = time.perf_counter() - began
        replay.result.dead_letters = client.dead_letters
    return replay.result


class Replay:
    """Replays events in time order: each like after a request, `depth` events in flight.

    Parameters
    ----------
    pauses : what is done before an event, by its place; nothing is in flight then
    """

    def __init__(
        self,
        client: SlateClient,
        events: Interactions,
        *,
        k: int,
        depth: int,
        pauses: Mapping[int, Pause] | None = None,
    ) -> None:
        self._client = client
        self._events = events
        self._k = k
        self._depth = depth
        self._pauses = pauses or {}
        self._latest: dict[str, asyncio.Task[None]] = {}
        self.done = 0
        self.result = Run()

    async def run(self) -> None:
        """Replay everything."""
        events, pending = self._events, asyncio.Queue[asyncio.Task[None]]()
        like = 0
        for n in range(len(events)):
            if n in self._pauses:
                while not pending.empty():
                    await pending.get_nowait()
                await self._pauses[n]()
            if pending.qsize() >= self._depth:
                await pending.get_nowait()
            user_id = str(events.user_ids[n])
            liked = bool(events.ratings[n] >= LIKED)
            task = asyncio.create_task(self._event(n, like if liked else None, self._latest.get(user_id)))
            self._latest[user_id] = task
            pending.put_nowait(task)
            like += liked
        while not pending.empty():
            await pending.get_nowait()

    async def _event(self, n: int, like: int | None, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        user_id, item_id = str(self._events.user_ids[n]), str(self._events.item_ids[n])
        now_ms = int(self._events.timestamps_ms[n])
        request_id = None
        if like is not None:
            request_id = f"like-{like}"
            await self._ask(Request(request_id, user_id, now_ms, k=self._k), item_id, like)
        await self._client.click(
            Click(
                event_id=f"event-{n}",
                user_id=user_id,
                item_id=item_id,
                action="view" if like is None else "like",
                timestamp_ms=now_ms,
                request_id=request_id,
            )
        )
        self.done += 1

    async def _ask(self, request: Request, item_id: str, like: int) -> None:
        result = self.result
        try:
            answer = await self._client.ask(request, timeout_s=ANSWERED_S)
        except TimeoutError:
            result.lost += 1
            result.hits[like] = False
            return
        slate = answer.recommendation.slate
        result.hits[like] = any(item.item_id == item_id for item in slate)
        result.listed[like] = [item.item_id for item in slate]
        result.latencies_s.append(answer.latency_s)
        result.fallbacks += answer.recommendation.fallback is not None
        result.model_version = answer.recommendation.model_version


async def _tell(replay: Replay, total: int, say: Any) -> None:
    while True:
        await asyncio.sleep(10.0)
        hits = list(replay.result.hits.values())
        rate = float(np.mean(hits)) if hits else 0.0
        say(f"  {replay.done:,} of {total:,} events, hit rate so far {rate:.4f}")


def figures(run: Run, dataset: Dataset, *, until: float, k: int, limit: int | None) -> dict[str, Any]:
    """Return the figures of a run, and those of the references on the same likes."""
    hits = np.array([run.hits[like] for like in range(len(run.hits))], np.bool_)
    return {
        "likes": len(hits),
        "hit": {"slatestream": float(hits.mean()), **_references(dataset, until=until, k=k, limit=limit)},
        "hit_by_fifth": [float(part.mean()) for part in np.array_split(hits, FIFTHS)],
        "new": _new_share(run, dataset, until=until),
        "seconds": run.seconds,
        "latency": quantiles_ms(run.latencies_s),
        "lost": run.lost,
        "fallbacks": run.fallbacks,
        "dead_letters": run.dead_letters,
        "model_version": run.model_version,
    }


def _new_share(run: Run, dataset: Dataset, *, until: float) -> dict[str, float]:
    """Share of items that nobody had met at the end of the warm-up: of those wanted, and of those listed."""
    events = dataset.interactions
    warm_up = int(until * len(events))
    known = set(events.item_ids[:warm_up].tolist())
    later = events[warm_up:]
    wanted = later.item_ids[later.ratings >= LIKED][: len(run.hits)].tolist()
    listed = [item for slate in run.listed.values() for item in slate]
    return {
        name: float(np.mean([item not in known for item in items])) if items else 0.0
        for name, items in (("wanted", wanted), ("listed", listed))
    }


def _references(dataset: Dataset, *, until: float, k: int, limit: int | None) -> dict[str, float]:
    events = dataset.interactions
    warm_up = int(until * len(events))
    chosen = slice(None if limit is None else warm_up + limit)
    user_ids, users = np.unique(events.user_ids, return_inverse=True)
    item_ids, items = np.unique(events.item_ids, return_inverse=True)
    n_users, n_items = len(user_ids), len(item_ids)
    positive: NDArray[np.bool_] = events.ratings >= LIKED

    def hit(reference: Reference, chosen: slice, begin: int) -> float:
        hits = prequential_hits(
            reference, users[chosen], items[chosen], positive[chosen], warm_up=begin, n_users=n_users,
            n_items=n_items, k=k, times_ms=events.timestamps_ms[chosen],
        )  # fmt: skip
        return float(hits.mean())

    def best(make: Callable[[int, int], Reference], values: Sequence[int]) -> Reference:
        """Choose a parameter on the second half of the warm-up."""
        known = slice(warm_up)
        return make(n_items, max(values, key=lambda value: hit(make(n_items, value), known, warm_up // 2)))

    references: tuple[Reference, ...] = (
        Popularity(n_items),
        best(LastLikes, WINDOWS),
        best(Decayed, HALF_LIVES_MS),
        CoVisits(n_items),
        best(RecentCoVisits, WINDOWS),
        Ease(n_users, n_items),
    )
    return {reference.name: hit(reference, chosen, warm_up) for reference in references}


def _print(figures: dict[str, Any], say: Any) -> None:
    say(
        f"hit@{figures['k']} over {figures['likes']:,} likes, {figures['depth']} events in flight, served by "
        f"{figures['model_version']} and policy {figures['policy']}:"
    )
    for name, value in figures["hit"].items():
        known = f"   (ML-100K, 20 % warm-up, top ten: {PUBLISHED[name]:.3f})" if name in PUBLISHED else ""
        say(f"  {name:<14} {value:.4f}{known}")
    say(f"  trainings on the way: {figures['retrained']}")
    say("  by fifth of the stream: " + "  ".join(f"{value:.4f}" for value in figures["hit_by_fifth"]))
    say(
        "  new items: {wanted:.1%} of what is wanted, {listed:.1%} of what is listed".format(**figures["new"])
    )
    latency = figures["latency"]
    say(
        f"  {figures['seconds']:.0f} s, request to slate p50 {latency['p50_ms']:.1f} ms, "
        f"p99 {latency['p99_ms']:.1f} ms; lost {figures['lost']}, fallbacks {figures['fallbacks']}, "
        f"dead letters {sum(figures['dead_letters'].values())}"
    )
    say(f"  machine: {machine()}")
