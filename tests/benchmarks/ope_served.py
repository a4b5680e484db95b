"""What off-policy evaluation says of policies, beside what the same policies earn when a worker serves them.

A real broker and worker, and an experiment that gives each user one of four policies. Every slate is logged
with its probability under all of them, so the live policy's log alone says what the others would earn; the
users they served tell the truth. Users like one genre of films; nothing is used up by a click. Run from the
repository's root: `python -m tests.benchmarks.ope_served`.
"""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from streams.client import SlateClient
from streams.events import Click, Content, Recommendation, Request, encode
from streams.experiments.definition import Experiment, Variant, encode_experiment
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.ope.command import read_topic
from streams.ope.estimates import LIVE, Sampling, judge, measured, remedy
from streams.ope.log import Columns, SlateLog
from streams.session.catching_up import caught_up
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics
from tests.benchmarks.inputs import faults_told

SERVED = ("epsilon-greedy", "softmax:temperature=0.1", "greedy", "random")
WEIGHTS = (3.0, 1.0, 1.0, 1.0)  # the first is live and its log is evaluated
K, GENRES, FILMS, CONCURRENT = 3, 6, 60, 32
LIKED, OTHER = 0.5, 0.05  # chances of a click, times 1 / (1 + position)
WINDOW_MS, STEP_MS = 60_000, 20


def film(number: int) -> str:
    return f"f{number}"


async def publish_past(settings: Settings, publisher: Publisher, now_ms: int, seed: int) -> int:
    """Publish films and clicks of users of the past, who like one genre each; return how many clicks."""
    rng = np.random.default_rng([seed, 1])
    contents = (
        Content(film(n), f"Film {n}", attributes={"genre": [f"genre {n % GENRES}"]}) for n in range(FILMS)
    )
    await publish_rows(settings, publisher, "content", ((one.item_id, encode(one)) for one in contents))
    clicks = []
    for user in range(300):
        liked = [n for n in range(FILMS) if n % GENRES == user % GENRES]
        for count, n in enumerate(rng.choice(liked, 4, replace=False)):
            name = f"past-{user}"
            click = Click(f"{name}-{count}", name, film(int(n)), "click", now_ms - 600_000 + count)
            clicks.append((name, encode(click)))
    return await publish_rows(settings, publisher, "clicks", iter(clicks))


async def visit(client: SlateClient, user: int, at_ms: int, seed: int) -> None:
    """Show what they like by one click, ask for a slate, and click in it."""
    rng = np.random.default_rng([seed, 2, user])
    name, genre = f"user-{user}", user % GENRES
    first = int(rng.integers(FILMS // GENRES)) * GENRES + genre
    await client.click(Click(f"{name}-first", name, film(first), "click", at_ms))
    answer = await client.ask(Request(f"visit-{user}", name, at_ms + 1, k=K), timeout_s=60.0)
    slate: Recommendation = answer.recommendation
    for position, item in enumerate(slate.slate):
        chance = LIKED if int(item.item_id[1:]) % GENRES == genre else OTHER
        if rng.random() < chance / (1 + position):
            click = Click(
                f"{name}-{position}", name, item.item_id, "click", at_ms + 2, slate.request_id, position
            )
            await client.click(click)


async def run(settings: Settings, worker: WorkerProcess, users: int, seed: int) -> Columns:
    """Let every user come by once and return what `feedback` says."""
    now_ms = int(time.time() * 1000) - users * STEP_MS - 3 * WINDOW_MS
    publisher = Publisher(settings)
    await publisher.start()
    try:
        clicks = await publish_past(settings, publisher, now_ms, seed)
        variants = [
            Variant(f"v{n}", "live" if n == 0 else policy, weight)
            for n, (policy, weight) in enumerate(zip(SERVED, WEIGHTS, strict=True))
        ]
        experiment = Experiment("served", "ab", variants, started_ms=now_ms)
        rows = iter([(experiment.name, encode_experiment(experiment))])
        await publish_rows(settings, publisher, "experiments", rows)
        await caught_up(worker, {"content": FILMS, "clicks": clicks}, print)
        room = asyncio.Semaphore(CONCURRENT)
        async with SlateClient(settings) as client:

            async def one(user: int) -> None:
                async with room:
                    await visit(client, user, now_ms + user * STEP_MS, seed)

            await asyncio.gather(*map(one, range(users)))
            # A later click on every partition closes the slates.
            for n in range(20):
                late = Click(
                    f"late-{n}", f"late-{n}", film(n), "click", now_ms + users * STEP_MS + 2 * WINDOW_MS
                )
                await client.click(late)
    finally:
        await publisher.stop()
    deadline = time.monotonic() + 60.0
    while True:
        log = SlateLog(frozenset(settings.positive_actions))
        await read_topic(settings, log.add)
        if len(log) >= users or time.monotonic() > deadline:
            return log.columns()
        await asyncio.sleep(1.0)


def report(columns: Columns) -> None:
    sampling = Sampling()
    names = [policy.partition(":")[0] for policy in SERVED]
    truth = measured(columns, sampling)
    live = columns.rows(columns.policies == names[0])
    print(f"{len(columns):,} slates of {K}; {len(live):,} of the live policy {SERVED[0]} are evaluated")
    print(f"\n{'policy':>24} {'served':>7} {'earned':>8} {'95 %':>18}   off-policy, from the live log")
    for verdict in judge(live, sampling=sampling):
        if verdict.policy == LIVE:
            continue
        slates, value = truth[names[SERVED.index(verdict.policy)]]
        said = f"refused ({verdict.refused}); {remedy(verdict)}"
        if (one := verdict.estimate) is not None:
            error = np.hypot(one.high - one.low, value.high - value.low) / 3.92
            said = (
                f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}], {verdict.effective_size:,.0f} effective, "
                f"{(one.value - value.value) / error:+.1f} standard errors from what it earned"
            )
        earned = f"{value.value:>8.4f} [{value.low:.4f}, {value.high:.4f}]"
        print(f"{verdict.policy:>24} {slates:>7,} {earned}   {said}")


def main(
    users: Annotated[int, typer.Option(min=100, help="Each comes by once.")] = 6_000,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="Folder of the worker's log.")] = Path("build/bench"),
) -> None:
    """Off-policy estimates beside what the policies earn when they serve, through a real worker."""
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    with cluster(say, "served", partitions=4) as settings:
        overrides = same_topics(
            settings,
            policy=SERVED[0],
            epsilon=0.5,
            candidate_policies=SERVED,
            attribution_window_ms=WINDOW_MS,
            seen_actions=["purchase"],
            text_encoder="none",
        )
        log = out / "ope-served-worker.log"
        log.unlink(missing_ok=True)
        with WorkerProcess(overrides, log=log) as worker:
            worker.wait_ready()
            columns = asyncio.run(run(settings, worker, users, seed))
    print(f"{machine()}; {users:,} users, seed {seed}")
    report(columns)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
