"""`slatestream bench takeover`: how long users wait while workers die, come back, stop and start."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streams.bench.options import Set, kinds_among, settings_given
from streams.bench.report import print_table, speaker, write_report
from streams.bench.restore import await_committed
from streams.bench.steps import Steps
from streams.bench.world import catalogue_rows, history_rows, publish_all, random_release
from streams.client import SlateClient
from streams.errors import SlatestreamError
from streams.events import Click, Request
from streams.kafka.partitioner import partition_of
from streams.releases.options import check_release
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics

EVERY_S = 0.05
BEFORE_S, AFTER_S = 3.0, 3.0
GIVE_UP_S = 60.0
ITEMS = 1_700
CLICKS = 40_000  # of all users together; of many users one each
EXPECTED_S = 45.0
KINDS = {
    "standby": "kill -9 of a worker, others go on",
    "again": "kill -9 of the only worker, started again at once",
    "named": "the same, with an instance_id",
    "rolling": "workers stopped and started one by one",
}


@dataclass(slots=True)
class Waits:
    """Requests by partition: when each was asked and answered, in seconds of `time.monotonic`."""

    answered: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    unanswered: int = 0

    def first_slate(self, since: float) -> float:
        """Seconds from a moment until each partition had answered somebody who asked after it."""
        firsts = [min(end for asked, end in one if asked >= since) for one in self.answered.values()]
        return max(firsts) - since

    def longest(self) -> float:
        """The longest wait of a request: as long as its partition was served by nobody, or longer."""
        return max(end - asked for one in self.answered.values() for asked, end in one)


@dataclass(frozen=True, slots=True)
class Takeover:
    """Seconds to first slates of all partitions, None where no worker was killed; and the longest wait."""

    what: str
    workers: int
    first_slate_s: float | None
    longest_wait_s: float
    requests: int
    unanswered: int


def takeover_command(
    kinds: Annotated[str, typer.Option(help=f"Among {', '.join(KINDS)}; comma-separated.")] = ",".join(KINDS),
    workers: Annotated[int, typer.Option(min=2, help="Workers, where there are several.")] = 2,
    times: Annotated[int, typer.Option(min=1, help="Measurements of each kind.")] = 1,
    users: Annotated[int, typer.Option(min=1, help="Users with state.")] = 2_000,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the topics.")] = 8,
    release: Annotated[
        Path | None,
        typer.Option(help="Release of the workers; unset, one of random weights is made."),
    ] = None,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for takeover.json and the workers' logs.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how long nobody answers after a kill -9, and in a rolling restart.

    A user of each partition asks 20 times a second and clicks in between, over the topics. Shown are the
    seconds from the kill until users of all partitions who asked after it have slates, and the longest that
    any request waited, which is as long as its partition was unserved.

    slatestream bench takeover
    """
    check_release(release)
    console = Console()
    say = speaker(console)
    given = settings_given(set_ or [])
    wanted = kinds_among(KINDS, kinds)
    with clean_exit(console):
        given["release"] = str(release or random_release(out / "random-release"))
        steps = Steps([EXPECTED_S] * (times * len(wanted)), say)
        found: list[Takeover] = []
        for kind in [kind for kind in wanted for _ in range(times)]:
            steps.begin(KINDS[kind])
            with cluster(lambda _: None, "takeover", partitions=partitions) as settings:
                publish_all(settings, "item-state", catalogue_rows(ITEMS, settings.partitions))
                each = max(1, CLICKS // users)
                clicks = publish_all(settings, "clicks", history_rows(users, ITEMS, each=each))
                with crew(settings, given, out, workers, kind) as made:
                    await_committed(settings, clicks)
                    found.append(asyncio.run(_measure(settings, made, kind)))
    columns = ("what", "workers", "first slates s", "longest wait s", "requests", "unanswered")
    print_table(console, "Takeover", columns, [list(asdict(one).values()) for one in found])
    say(f"machine: {machine()}")
    write_report(out / "takeover.json", {"settings": given, "takeovers": [asdict(one) for one in found]}, say)


@contextmanager
def crew(
    settings: Settings, given: dict[str, Any], out: Path, workers: int, kind: str
) -> Iterator[list[WorkerProcess]]:
    """Start as many workers as a kind of takeover has; they are ready."""
    alone = kind in ("again", "named")
    made = []
    for number in range(1 if alone else workers):
        log = out / f"takeover-worker-{number}.log"
        log.unlink(missing_ok=True)
        named = {"instance_id": f"worker-{number}"} if kind == "named" else {}
        made.append(WorkerProcess(same_topics(settings, **given, **named), log=log))
    try:
        for worker in made:
            worker.start()
        for worker in made:
            worker.wait_ready()
        yield made
    finally:
        for worker in made:
            worker.stop()


async def _measure(settings: Settings, workers: list[WorkerProcess], kind: str) -> Takeover:
    n, waits, enough = settings.partitions, Waits(), asyncio.Event()
    users: dict[int, str] = {}
    for number in itertools.count():
        users.setdefault(partition_of(f"u{number}", n), f"u{number}")
        if len(users) == n:
            break
    async with SlateClient(settings) as client:
        warm = asyncio.gather(*(_ask(client, f"warm-{user}", user) for user in users.values()))
        await warm
        asking = [asyncio.create_task(_ask_on(client, p, user, waits, enough)) for p, user in users.items()]
        victim = max(workers, key=_owned)  # with fewer partitions than workers, some own none
        await asyncio.sleep(BEFORE_S)
        began = time.monotonic()
        await (_roll(workers) if kind == "rolling" else _kill(victim, again=kind != "standby"))
        since = time.monotonic() if kind == "rolling" else began
        await _until(lambda: all(_answered_since(waits, p, since) for p in users), asking)
        await asyncio.sleep(AFTER_S)
        enough.set()
        await asyncio.gather(*asking)
    first = None if kind == "rolling" else waits.first_slate(began)
    asked = sum(map(len, waits.answered.values())) + waits.unanswered
    return Takeover(KINDS[kind], len(workers), first, waits.longest(), asked, waits.unanswered)


def _answered_since(waits: Waits, partition: int, since: float) -> bool:
    return any(asked >= since for asked, _ in waits.answered.get(partition, [])[-100:])


async def _until(holds: Callable[[], bool], asking: list["asyncio.Task[None]"]) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not holds():
        for task in asking:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            raise SlatestreamError(f"users of some partition have no slate after {GIVE_UP_S:.0f} s")
        await asyncio.sleep(EVERY_S)


async def _ask(client: SlateClient, name: str, user: str) -> None:
    await client.ask(Request(name, user, int(1000 * time.time())), timeout_s=GIVE_UP_S)


async def _ask_on(
    client: SlateClient, partition: int, user: str, waits: Waits, enough: asyncio.Event
) -> None:
    """Ask at a constant rate, whether the one before is answered or not; click now and then."""
    answered = waits.answered.setdefault(partition, [])
    asking: list[Awaitable[None]] = []

    async def one(number: int) -> None:
        asked = time.monotonic()
        try:
            await _ask(client, f"{user}-{number}", user)
            answered.append((asked, time.monotonic()))
        except TimeoutError:
            waits.unanswered += 1

    for number in itertools.count():
        if enough.is_set():
            break
        asking.append(asyncio.create_task(one(number)))
        if number % 5 == 0:
            click = Click(f"{user}-{number}", user, f"i{number % ITEMS}", "click", int(1000 * time.time()))
            asking.append(asyncio.create_task(_clicked(client, click)))
        await asyncio.sleep(EVERY_S)
    await asyncio.gather(*asking)


async def _clicked(client: SlateClient, click: Click) -> None:
    await client.click(click)


async def _kill(victim: WorkerProcess, *, again: bool) -> None:
    victim.kill()
    if again:
        victim.start()


def _owned(worker: WorkerProcess) -> float:
    reading = worker.metrics()
    return 0.0 if reading is None else reading.total("assigned_partitions")


async def _roll(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        await asyncio.to_thread(worker.stop)
        worker.start()
        await asyncio.to_thread(worker.wait_ready)
