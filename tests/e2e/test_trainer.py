"""The trainer on a real broker: what it lets serve, what it does not, and what a kill takes from it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from model_core.release.folder import RANKER, read_release
from model_core.release.signature import check_signature, read_public_keys
from model_core.training.recipe import Recipe, write_recipe
from streams.broker.embedded import EmbeddedBroker
from streams.cli import app
from streams.clock import SYSTEM_CLOCK
from streams.errors import SlatestreamError
from streams.events import Feedback, SlateItem
from streams.kafka.log import KafkaLog
from streams.learning.learned import read_learned
from streams.releases.actions import trial_of
from streams.releases.changes import fold_changes, publish_change, read_changes
from streams.releases.store import ReleaseStore, StoreUnreachable
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.trainer.drift_follower import DriftFollower
from streams.trainer.leader_election import COUNTED, Seat
from streams.trainer.loop import Loop, Step
from streams.trainer.metrics import Told
from streams.trainer.plan import VERDICT, Verdict, read_plan, write
from streams.trainer.training_run import work
from streams.worker.process import DIE_WITH_PARENT, environment, same_topics
from tests.conftest import settings_maker, with_topics
from tests.e2e.client import Client, film, wait_until
from tests.model_core.release.test_signature import pair
from tests.model_core.tiny import CONFIG, WEIGHTS, dataset
from tests.once import once_a_run
from tests.streams.releases.made import forgetful, no_large_files, pushing, slow, train_tiny, variant

DEADLINE_S = 120.0
SLATES = 12
"""That other releases made, and of which feedback tells."""
GATES = ("files", "held out", "calibration", "coverage", "popularity", "exposure", "latency", "size")


def run(*arguments: object) -> str:
    """What a command prints, or the message that it would end with."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if isinstance(done.exception, SlatestreamError):
        return str(done.exception)
    assert done.exit_code in (0, 1), done.output
    return done.stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once_a_run(tmp_path_factory, "tiny-release", train_tiny)


@pytest.fixture(scope="module")
def site(
    broker: EmbeddedBroker, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Path, str]]:
    """Topics with clicks of two kinds of users, and a release of a store that serves: settings, store, it."""
    there = tmp_path_factory.mktemp("trainer")
    store, recipe = there / "store", there / "recipe.toml"
    write_recipe(recipe, Recipe(model=CONFIG).changed(train={"epochs": 2}))
    # The tests ask for a better release by what it is, and not by how sure a few users make of it.
    given = {
        "release_store": str(store), "actions": WEIGHTS, "text_encoder": "none", "trainer_margin": 1.0,
        "trainer_recipe": str(recipe), "history_limit": 1024, "trainer_nice": 0,
        "session_timeout_ms": 6_000,
    }  # fmt: skip
    with (
        with_topics(settings_maker(broker)(**given)) as settings,
        pytest.MonkeyPatch.context() as patch,
        Client(settings) as client,
    ):
        for name, value in variables(settings, store).items():
            patch.setenv(name, value)
        data = dataset(60, 1800)
        client.content(*(film(item.item_id, item.title, **item.attributes) for item in data.items))
        events = data.interactions
        for user, item, rating, at in zip(
            events.user_ids, events.item_ids, events.ratings, events.timestamps_ms, strict=True
        ):
            client.click(str(user), str(item), "like" if rating >= 3 else "view", timestamp_ms=int(at))
        for n in range(SLATES):
            user, at = str(events.user_ids[-1 - n]), int(events.timestamps_ms[-1 - n])
            slate = [SlateItem(f"i{n}", 0, 0.5, 0.5), SlateItem(f"i{n + 1}", 1, 0.4, 0.5)]
            told = Feedback(
                f"r{n}", user, slate, [2.0, 0.0], [["like"], []], "thompson", 0, "estimated", "0" * 12, b"",
                0, at, at + 1,
            )  # fmt: skip
            client.send("feedback", user, told)
        client.flush()
        live = json.loads(run("release", "put", variant(base, there / "live"), "--json"))["version"]
        asyncio.run(publish_change(settings, "promote", live, by="ann"))
        yield settings, store, live


@pytest.fixture
def of_site(
    site: tuple[Settings, Path, str], _plain_environment: None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, Path, str]:
    """The site, with its settings in the environment for commands and what they start."""
    settings, store, _ = site
    for name, value in variables(settings, store).items():
        monkeypatch.setenv(name, value)
    return site


def variables(settings: Settings, store: Path) -> dict[str, str]:
    """The environment of a command on the site's topics."""
    names = (
        "release_store",
        "actions",
        "text_encoder",
        "trainer_margin",
        "trainer_recipe",
        "history_limit",
        "trainer_nice",
        "session_timeout_ms",
    )
    given = same_topics(settings, **{name: getattr(settings, name) for name in names})
    return environment(given) | {"XDG_CACHE_HOME": str(store.with_name("cache"))}


BAD: dict[str, tuple[Callable[[Path, Path], Path], set[str]]] = {
    "poisoned": (pushing, {"held out", "calibration", "coverage", "exposure"}),
    "worse": (forgetful, {"held out", "calibration"}),
    "slower": (slow, {"latency"}),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_release_is_never_promoted(
    kind: str, of_site: tuple[Settings, Path, str], base: Path, tmp_path: Path
) -> None:
    settings, store, _ = of_site
    make, gates = BAD[kind]
    made = make(base, tmp_path / "made")
    strict = settings.model_copy(update={"trainer_margin": 0.1})
    verdict = await came_of(strict, store, tmp_path / "work", made)
    assert verdict.gates[-1].name in gates
    await never_promoted(verdict, made, of_site)


def test_a_broken_release_is_never_promoted_and_the_command_says_so(
    of_site: tuple[Settings, Path, str], base: Path, tmp_path: Path
) -> None:
    made = variant(base, tmp_path / "made", files={RANKER: b"no graph"})
    verdict = of_command(made, tmp_path / "work")
    assert [gate.name for gate in verdict.gates] == ["files"]
    asyncio.run(never_promoted(verdict, made, of_site))


async def never_promoted(verdict: Verdict, made: Path, site: tuple[Settings, Path, str]) -> None:
    """See that a release is refused with its reason, and that what served serves on."""
    settings, store, live = site
    assert not verdict.passed
    changes = await read_changes(settings)
    assert (changes[-1].change, changes[-1].version) == ("reject", read_release(made).version)
    assert (changes[-1].reason, changes[-1].gates) == (verdict.reason, verdict.gates)
    assert fold_changes(changes).served == [live]
    assert [one.version for one in ReleaseStore(str(store)).list()] == [live]


def of_command(made: Path, folder: Path) -> Verdict:
    """What the command says of a release, by a step that is a process."""
    said = json.loads(run("trainer", "--judge", made, "--folder", folder, "--json"))
    assert said.pop("passed") is False
    return msgspec.convert(said, Verdict)


def loop_of(settings: Settings, seat: Seat, store: Path, folder: Path, step: Step) -> Loop:
    """A trainer's loop with the log of the settings' brokers."""
    drift = DriftFollower(
        settings, KafkaLog(settings), changes=partial(read_changes, settings), clock=SYSTEM_CLOCK
    )
    return Loop(
        settings, seat, ReleaseStore(str(store)), folder, drift=drift, step=step, told=Told(), say=print
    )


async def came_of(settings: Settings, store: Path, folder: Path, made: Path | None = None) -> Verdict:
    """What a trainer says of a release, or of what it trains itself, without a process for its step."""

    async def step(folder: Path) -> bool:
        plan = read_plan(folder)
        assert plan is not None
        write(folder / VERDICT, await asyncio.to_thread(work, settings, folder, plan))
        return True

    seat = Seat(settings)
    await seat.start()
    try:
        loop = loop_of(settings, seat, store, folder, step)
        verdict = await loop.once(made)
    finally:
        await seat.stop()
    assert verdict is not None
    return verdict


async def test_one_trainer_leads_and_another_takes_over_where_it_was(
    make_settings: Callable[..., Settings],
) -> None:
    with with_topics(make_settings(partitions=2)) as settings, Client(settings) as client:
        first, second = Seat(settings), Seat(settings)
        for n in range(5):
            client.click(f"u{n}", "i")
        client.flush()
        await first.start()
        await second.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await first.leading.wait()
                assert not second.leading.is_set()
                assert sum(map(sum, (await first.trained()).values())) == 0
                ends = await first.ends()
                assert await first.commit(ends)
                await first.stop()
                await second.leading.wait()
                trained = await second.trained()
                assert trained == {name: ends[name] for name in COUNTED}
                assert sum(trained["clicks"]) == 5
        finally:
            await first.stop()
            await second.stop()


async def test_a_training_that_is_killed_goes_on_and_what_it_makes_serves(
    of_site: tuple[Settings, Path, str], tmp_path: Path
) -> None:
    settings, store, live = of_site
    folder, log = tmp_path / "work", tmp_path / "trainer.log"
    command = [
        *DIE_WITH_PARENT, sys.executable, "-m", "streams.cli", "trainer", "--once", "--folder", str(folder)
    ]  # fmt: skip
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env=dict(os.environ), start_new_session=True
        ) as process,
    ):
        wait_until((folder / "release.checkpoint").exists, "an epoch is over")
        os.killpg(process.pid, signal.SIGKILL)
    begun = read_plan(folder)
    before = len(await read_changes(settings))

    # Who trains in a thread beside its seat is not to be given up while that thread is busy.
    private, public = pair(tmp_path, "trainer")
    with_time = {"session_timeout_ms": 30_000, "trainer_private_key": private}
    verdict = await came_of(settings.model_copy(update=with_time), store, folder)

    assert begun == verdict.plan
    assert tuple(gate.name for gate in verdict.gates) == GATES
    assert verdict.passed, (verdict.reason, log.read_text())
    (last,) = (await read_changes(settings))[before:]
    assert (last.change, last.version, last.replaces) == ("promote", verdict.version, live)
    made = read_release(store / verdict.version)
    check_signature(store / verdict.version, read_public_keys(public))
    assert made.training["parent"] == live
    assert made.training["learned"]["slates"] == SLATES
    assert sum(made.training["learned"]["until"]) == SLATES
    learning = Spaces(settings).learning("", made.feature_dim)
    begun = read_learned(store / made.version, made, learning, learning)
    assert begun is not None
    assert (begun.impressions, begun.rewards) == (2 * SLATES, SLATES)
    assert (store / made.version / "weights.safetensors").is_file()


async def test_what_was_trained_while_something_else_was_promoted_is_void_and_trained_on_again(
    of_site: tuple[Settings, Path, str], tmp_path: Path
) -> None:
    settings, store, _ = of_site
    live = fold_changes(await read_changes(settings)).served[-1]
    made, other = (
        variant(store / live, tmp_path / name, gain=gain) for name, gain in (("a", 1.01), ("b", 1.02))
    )

    async def step(folder: Path) -> bool:
        plan = read_plan(folder)
        assert plan is not None
        write(folder / VERDICT, Verdict(plan, str(made), read_release(made).version, ()))
        await publish_change(settings, "promote", ReleaseStore(str(store)).put(other).version, by="ann")
        return True

    seat = Seat(settings)
    await seat.start()
    try:
        await seat.leading.wait()
        before = await seat.trained()
        loop = loop_of(settings, seat, store, tmp_path / "work", step)
        assert await loop.once() is not None
        assert await seat.trained() == before
    finally:
        await seat.stop()
    changes = await read_changes(settings)
    assert changes[-1].version == read_release(made).version
    assert fold_changes(changes).served[-1] == read_release(other).version
    await publish_change(settings, "rollback", live, by="ann")


async def test_what_does_not_go_into_a_full_store_is_put_there_later_and_what_serves_serves_on(
    of_site: tuple[Settings, Path, str], tmp_path: Path
) -> None:
    settings, store, _ = of_site
    live = fold_changes(await read_changes(settings)).served[-1]
    made = variant(store / live, tmp_path / "made", gain=1.03)
    version = read_release(made).version
    trained = 0

    async def step(folder: Path) -> bool:
        nonlocal trained
        trained += 1
        plan = read_plan(folder)
        assert plan is not None
        write(folder / VERDICT, Verdict(plan, str(made), version, ()))
        full.enter_context(no_large_files(1_000))
        return True

    seat = Seat(settings)
    await seat.start()
    try:
        loop = loop_of(settings, seat, store, tmp_path / "work", step)
        with ExitStack() as full:
            for _ in range(2):
                with pytest.raises(StoreUnreachable, match="cannot be written .*File too large"):
                    await loop.once()
                changes = await read_changes(settings)
                assert (changes[-1].change, changes[-1].version) == ("delay", version)
                assert "File too large" in changes[-1].reason
                assert fold_changes(changes).served[-1] == live
        assert await loop.once() is not None
    finally:
        await seat.stop()
    changes = await read_changes(settings)
    assert trained == 1
    assert [one.change for one in changes if one.version == version] == ["delay", "promote"]
    assert fold_changes(changes).served[-1] == version
    await publish_change(settings, "rollback", live, by="ann")


async def test_what_passes_the_gates_serves_as_a_canary_first_where_that_is_asked_for(
    of_site: tuple[Settings, Path, str], tmp_path: Path
) -> None:
    settings, store, _ = of_site
    live = fold_changes(await read_changes(settings)).served[-1]
    made = variant(store / live, tmp_path / "made", gain=1.0001)
    with_canary = settings.model_copy(update={"trainer_canary": True, "canary_share": 0.1})
    verdict = await came_of(with_canary, store, tmp_path / "work", made)
    assert verdict.passed, verdict.reason
    changes = await read_changes(settings)
    last = changes[-1]
    assert (last.change, last.version, last.replaces) == ("canary", verdict.version, live)
    assert (last.gates, last.trial) == (verdict.gates, trial_of(with_canary))
    assert fold_changes(changes).served == fold_changes(changes[:-1]).served
    assert read_release(store / verdict.version).version == verdict.version
    await publish_change(settings, "rollback", live, by="ann", decides_ms=last.timestamp_ms)
