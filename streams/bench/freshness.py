"""`slatestream bench freshness`: how soon what is published shows in slates.

A new item is published to `content` and asked for until a slate has it; then a user clicks one item of a
slate and asks again, until the slate is without it; then the item is deleted and asked for until no slate
has it any more. Everything goes through the topics, text through the real encoder. The clock starts when
the record is handed to the producer and stops when the first right slate is read: at least one whole
request is in every figure.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from streams.bench.report import write_report
from streams.client import SlateClient
from streams.errors import SlatestreamError
from streams.events import Click, Content, Recommendation, Request, encode
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics

DEADLINE_S = 30.0
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Romance", "Western")
MEASURED = {
    "new_item": "a new item is in a slate",
    "click": "a click has changed the slate",
    "deletion": "a deleted item is in no slate",
}


def freshness_command(
    items: Annotated[int, typer.Option(min=10, help="Items known before.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Items published, clicked and deleted.")] = 50,
    out: Annotated[Path, typer.Option(help="Folder for freshness.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how soon new items, clicks and deletions show in slates.

    slatestream bench freshness
    """
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with clean_exit(console), cluster(say, "freshness", partitions=4) as settings:
        log = out / "freshness-worker.log"
        log.unlink(missing_ok=True)
        with WorkerProcess(same_topics(settings, policy="greedy"), log=log) as worker:
            worker.wait_ready()
            taken = asyncio.run(_measure(settings, items, rounds, say))
        figures = {name: _summary(values) for name, values in taken.items()}
        for name, text in MEASURED.items():
            row = figures[name]
            say(f"{text}: p50 {row['p50']:.0f} ms, p95 {row['p95']:.0f} ms, longest {row['max']:.0f} ms")
        say(f"machine: {machine()}")
        write_report(out / "freshness.json", {"items": items, "rounds": rounds, **figures}, say)


def _summary(seconds: list[float]) -> dict[str, float]:
    ms = np.array(seconds) * 1000
    return {"p50": float(np.median(ms)), "p95": float(np.quantile(ms, 0.95)), "max": float(ms.max())}


def _film(number: int) -> tuple[str, bytes | None]:
    genre = GENRES[number % len(GENRES)]
    name = f"f{number}"
    return name, encode(Content(name, f"{genre} story number {number}", attributes={"genre": [genre]}))


async def _measure(
    settings: Settings, items: int, rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in MEASURED}
    count = itertools.count()
    publisher = Publisher(settings)
    await publisher.start()
    try:
        async with SlateClient(settings) as client:

            async def ask(user: str, only: str | None = None) -> Recommendation:
                request = Request(f"q{next(count)}", user, _now_ms(), candidates=[only] if only else None)
                return (await client.ask(request)).recommendation

            async def until(
                right: Callable[[Recommendation], bool], user: str, only: str | None = None
            ) -> None:
                deadline = time.monotonic() + DEADLINE_S
                while not right(await ask(user, only=only)):
                    if time.monotonic() > deadline:
                        raise SlatestreamError(f"no right slate within {DEADLINE_S:.0f} s")

            say(f"Publishing {items} items; their texts are encoded ...")
            known: Iterator[tuple[str, bytes | None]] = map(_film, range(items))
            await publish_rows(settings, publisher, "content", known)
            for number in range(0, items, max(1, items // 20)):
                await until(_has(f"f{number}"), "nobody", only=f"f{number}")
            say(f"{rounds} rounds of a new item, a click and a deletion ...")
            for number in range(items, items + rounds):
                name, value = _film(number)
                began = time.perf_counter()
                await publish_rows(settings, publisher, "content", iter([(name, value)]))
                await until(_has(name), "nobody", only=name)
                taken["new_item"].append(time.perf_counter() - began)

                user = f"u{number}"
                shown = (await ask(user)).slate[0].item_id
                began = time.perf_counter()
                await client.click(Click(f"e{number}", user, shown, "click", _now_ms()))
                await until(lambda slate, shown=shown: not _has(shown)(slate), user)  # type: ignore[misc]
                taken["click"].append(time.perf_counter() - began)

                began = time.perf_counter()
                await publish_rows(settings, publisher, "content", iter([(name, None)]))
                await until(lambda slate, name=name: not _has(name)(slate), user, only=name)  # type: ignore[misc]
                taken["deletion"].append(time.perf_counter() - began)
    finally:
        await publisher.stop()
    return taken


def _has(item_id: str) -> Callable[[Recommendation], bool]:
    return lambda slate: any(item.item_id == item_id for item in slate.slate)


def _now_ms() -> int:
    return int(time.time() * 1000)
