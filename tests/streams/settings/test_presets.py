"""Settings to begin with: each serves, says what it is, and is refused by another name."""

import json
import re
import tomllib

import pytest
from typer.testing import CliRunner

from model_core.release.baseline import BaselineScorer
from streams.cli import app
from streams.errors import ConfigurationError
from streams.settings import load_settings
from streams.settings.presets import presets, read_preset
from streams.testing.clock import HandClock
from streams.testing.events import MemoryEvents
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker

NAMES = ["advertising", "learning", "music", "shop", "social", "travel", "video"]


def test_there_is_a_preset_for_each_kind_of_business():
    assert sorted(presets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_a_preset_is_explained_above_it(name):
    lines = read_preset(name).splitlines()
    settings = [n for n, line in enumerate(lines) if re.match(r"[a-z_]+ = ", line)]
    explained = [n for n in settings if lines[n - 1].startswith("# ") or n - 1 in settings]
    assert len(settings) == len(tomllib.loads(read_preset(name))) >= 6
    assert explained == settings


@pytest.mark.parametrize("name", NAMES)
async def test_a_worker_serves_with_a_preset(name):
    settings = load_settings(presets()[name], text_encoder="none", partitions=2)
    clock = HandClock()
    log = MemoryLog.of(settings, clock)
    events = MemoryEvents(settings, log, clock)
    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        for n in range(40):
            events.content(f"i{n}", attributes={settings.group_relation or "kind": [f"g{n % 8}"]})
        for n, action in enumerate(settings.actions):
            events.click("u", f"i{n}", action)
            events.click("v", f"i{n + 1}", action)
        request = events.request("u", k=40)
        await worker.deliver()
        (slate,) = [one for one in events.recommendations() if one.request_id == request]

        # What counts as seen is not served again, and everything else may be.
        seen = set(settings.seen_actions or settings.actions)
        served = {item.item_id for item in slate.slate}
        hidden = {f"i{n}" for n, action in enumerate(settings.actions) if action in seen}
        assert served
        assert not served & hidden
        if settings.group_relation is None:
            assert served == {f"i{n}" for n in range(40)} - hidden
        assert events.dead_letters() == []


async def test_with_the_preset_for_learning_a_lesson_waits_for_those_before_it():
    settings = load_settings(presets()["learning"], text_encoder="none", partitions=1)
    clock = HandClock()
    log = MemoryLog.of(settings, clock)
    events = MemoryEvents(settings, log, clock)

    async def served():
        request = events.request("u")
        await worker.deliver()
        (slate,) = [one for one in events.recommendations() if one.request_id == request]
        return {item.item_id for item in slate.slate}

    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        events.content("basics")
        events.content("statistics", attributes={"requires": ["basics"]})
        events.click("u", "basics", "start")
        assert await served() == {"basics"}
        events.click("u", "basics", "complete")
        assert await served() == {"statistics"}


async def test_with_the_preset_for_advertising_a_budget_of_clicks_is_kept_to():
    settings = load_settings(presets()["advertising"], text_encoder="none", partitions=1)
    clock = HandClock(1_764_547_200_000 + 86_400_000 - 60_000)  # a minute before midnight
    log = MemoryLog.of(settings, clock)
    events = MemoryEvents(settings, log, clock)

    async def served():
        request = events.request("u")
        await worker.life.pace()
        await worker.deliver()
        (slate,) = [one for one in events.recommendations() if one.request_id == request]
        return {item.item_id for item in slate.slate}

    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        events.content("ad", attributes={"daily_budget": ["2"]})
        events.content("house ad")
        await worker.deliver()
        assert await served() == {"ad", "house ad"}
        events.click("u", "ad", "impression")
        for _ in range(2):
            events.click("v", "ad", "click")
        await worker.deliver()
        assert await served() == {"house ad"}


def test_init_writes_a_preset_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "--preset", "music"])
    assert done.exit_code == 0
    assert "slatestream worker --config slatestream.toml" in done.output
    assert (tmp_path / "slatestream.toml").read_text() == read_preset("music")

    told = CliRunner().invoke(app, ["init", "--preset", "video", "--out", "v.toml", "--json"])
    assert json.loads(told.output) == {"preset": "video", "settings": "v.toml"}
    again = CliRunner().invoke(app, ["init", "--preset", "shop"])
    assert isinstance(again.exception, ConfigurationError)
    assert "slatestream.toml is there already" in str(again.exception)
    assert (tmp_path / "slatestream.toml").read_text() == read_preset("music")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "bakery"], "--preset must be one of advertising, learning, music, .*, got 'bakery'"),
        (["--preset", "shop", "events.jsonl"], "--preset is of no topic or file, got 'events.jsonl'"),
        ([], "name a topic or a file"),
        (["--preset", "shop", "--out", "missing/x.toml"], "cannot be written: No such file"),
    ],
)
def test_init_says_what_is_wrong_with_what_is_asked(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", *words])
    assert re.search(message, str(done.exception))
    assert not list(tmp_path.iterdir())


async def test_with_the_preset_for_social_slates_often_have_what_two_friends_like():
    settings = load_settings(presets()["social"], text_encoder="none", partitions=2)
    clock = HandClock()
    log = MemoryLog.of(settings, clock)
    events = MemoryEvents(settings, log, clock)
    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        for n in range(300):
            events.content(f"i{n}", attributes={"author": [f"a{n}"]})
        events.user("u", friends=["v", "w"])
        for friend in ("v", "w"):
            events.click(friend, "i150", "like")
        await worker.deliver()
        await worker.flush()
        for _ in range(20):
            events.request("u", k=5)
        await worker.deliver()
        reasons = {item.item_id: item.reasons for one in events.recommendations() for item in one.slate}
        served = [item.item_id for one in events.recommendations() for item in one.slate]
        assert len(served) == 100
        assert served.count("i150") >= 6  # by chance it would be there once in sixty slates
        assert [name for name, why in reasons.items() if "liked by 2 of your friends" in why] == ["i150"]
