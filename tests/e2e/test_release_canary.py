"""A canary on a real broker: a bad one is rolled back, a better one promoted, by whichever worker lives."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.events import Recommendation, Request
from streams.experiments.shares import in_share
from streams.releases.actions import trial_of
from streams.releases.changes import ReleaseChange, publish_change, read_changes
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.conftest import settings_maker, with_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST
from tests.e2e.test_release_life import damaged, run
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

USERS = [f"u{n}" for n in range(90)]
WINDOW_MS = 300


@pytest.fixture
def site(broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Topics of one partition, and the settings of commands and workers in the environment."""
    given = {
        "release_store": str(tmp_path / "store"), "canary_least_slates": 100, "canary_share": 0.5,
        "attribution_window_ms": WINDOW_MS, "policy": "greedy",
    }  # fmt: skip
    with with_topics(settings_maker(broker)(partitions=1, **given)) as settings:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for name, value in environment(same_topics(settings, **given)).items():
            monkeypatch.setenv(name, value)
        yield settings


def test_a_broken_and_a_worse_canary_are_rolled_back_and_a_better_one_is_promoted_by_who_lives(
    site: Settings, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
    folders = variant(base, tmp_path / "first"), variant(base, tmp_path / "second", gain=1.2)
    with ExitStack() as stack:
        client = stack.enter_context(Client(site))
        client.content(*(film(f"i{n}", f"Film {n}") for n in range(20)))
        first, second = (run("put", str(folder)).split()[0] for folder in folders)
        assert "no release serves" in run("canary", second)
        run("promote", first)
        values = same_topics(site, **FAST | {"session_timeout_ms": 6_000})
        workers = [
            stack.enter_context(WorkerProcess(values, log=tmp_path / f"worker-{n}.log")) for n in range(2)
        ]
        for worker in workers:
            worker.wait_ready()

        broken = damaged(folders[0], tmp_path / "store", tmp_path)
        begin_unchecked(site, broken, first)
        wait_until(lambda: changes(site)[-1].change == "rollback", "the broken one is rolled back")
        assert "refused by" in changes(site)[-1].reason
        assert {one.model_version for one in ask(client)} == {first}

        assert f"{second} is to serve 50 % of the users" in run("canary", second, "--reason", "try it")
        begun(client, second)
        until_decided(client, site, {first: 9, second: 1})
        last = changes(site)[-1]
        assert (last.change, last.version, last.replaces) == ("rollback", first, first)
        assert "surely less" in last.reason

        assert f"{first} serves all users already" in run("canary", first)
        run("canary", second[:6])
        begun(client, second)
        show(client, {first: 1, second: 9})
        (deciding,) = [one for one in workers if owns_all(one)]
        deciding.kill()
        until_decided(client, site, {first: 1, second: 9})
        last = changes(site)[-1]
        assert (last.change, last.version, last.replaces) == ("promote", second, first)
        assert last.gates[-1].figures["low"] > 0
        wait_until(lambda: {one.model_version for one in ask(client)} == {second}, "it serves all users")
        made = {one.model_version for one in client.recommendations()}
        assert made == {first, second}  # and the broken one nobody


def owns_all(worker: WorkerProcess) -> bool:
    found = worker.metrics()
    return found is not None and found.total("assigned_partitions") == 1


def changes(settings: Settings) -> list[ReleaseChange]:
    return asyncio.run(read_changes(settings))


def begin_unchecked(settings: Settings, version: str, live: str) -> None:
    """Write the record that the command would not write."""
    asyncio.run(
        publish_change(settings, "canary", version, by="eve", replaces=live, trial=trial_of(settings))
    )


def ask(client: Client) -> list[Recommendation]:
    """Ask for every user; return the slates once all are there."""
    now_ms = int(1000 * time.time())
    asked = {f"{now_ms}-{user}": user for user in USERS}
    for request_id, user in asked.items():
        client.send("requests", user, Request(request_id, user, now_ms, k=3))
    client.flush()

    def answered() -> list[Recommendation]:
        found = [one for one in client.recommendations() if one.request_id in asked]
        return found if len(found) == len(asked) else []

    return wait_until(answered, "all are answered")


def begun(client: Client, version: str) -> None:
    """Wait until a canary serves its share, and nobody else."""
    inside = {user for user, there in zip(USERS, in_share(USERS, version, 0.5), strict=True) if there}

    def so() -> bool:
        return {one.user_id for one in ask(client) if one.model_version == version} == inside

    wait_until(so, "the canary serves its share")


def show(client: Client, of_ten: dict[str, int]) -> None:
    """Ask for every user, and let of ten slates so many be liked, by release; then they close."""
    for one in ask(client):
        if crc32(one.request_id.encode()) % 10 < of_ten[one.model_version]:
            item = one.slate[0].item_id
            client.click(
                one.user_id, item, "like", request_id=one.request_id, timestamp_ms=one.timestamp_ms + 1
            )
    client.flush()
    time.sleep(WINDOW_MS / 1000)  # of event time, which is that of the clock
    client.click("somebody", "i0", "view", timestamp_ms=int(1000 * time.time()) + 1)
    client.flush()


def until_decided(client: Client, settings: Settings, of_ten: dict[str, int]) -> None:
    """Go on until it is decided what becomes of the canary."""

    def decided() -> bool:
        show(client, of_ten)
        return changes(settings)[-1].change != "canary"

    wait_until(decided, "the canary is decided on")
