"""A release that cannot be served is refused; a fault that may pass is no verdict on it."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError
from fsspec.implementations.local import LocalFileSystem

from model_core.release.folder import EASE, MANIFEST, RANKER, sign_manifest
from model_core.signals.ease import Ease
from streams.items.table import AnyScorer, load_scorer
from tests.streams.releases.life import Life, serves, until, value


@pytest.mark.parametrize("error", [MemoryError(), OSError("no file is left"), RuntimeError("std::bad_alloc")])
async def test_what_may_be_over_by_the_next_try_is_no_verdict_on_a_release(
    error: Exception, make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    errors = iter([error])

    def once_short(*given: Any) -> AnyScorer:
        for one in errors:
            raise one
        return load_scorer(*given)

    monkeypatch.setattr("streams.releases.candidate.load_scorer", once_short)
    async with life.worker() as worker:
        life.say("promote", first)
        await serves(worker, first)
        assert [change.change for change in life.changes()] == ["promote", "delay"]
        assert (life.changes()[-1].reason, value(worker, "releases_delayed_total")) == (
            str(error) or repr(error),
            1,
        )
        assert value(worker, "releases_refused_total") == 0


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no graph": ({"files": {RANKER: b"no graph"}}, "must be an ONNX graph that can be loaded"),
    "other actions": ({"actions": {"purchase": 1.0}}, "actions must have one of the release's"),
    "another text encoder": (
        {"text_encoder": {"name": "minilm", "fingerprint": "abc"}}, "must be that of the items"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *REFUSALS,
        "missing",
        "tampered",
        "changed while it is read",
        "newer schema",
        "pairing",
        "depth",
        "sizes",
        "EASE",
    ],
)
async def test_what_cannot_be_served_is_refused_and_what_serves_goes_on(
    name: str,
    make_life: Callable[..., Life],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    life = make_life()
    first = life.put()
    made, reason = REFUSALS.get(name, ({}, ""))
    if name in ("pairing", "depth"):
        signals = json.loads((life.tiny / MANIFEST).read_text())["signals"]
        changed = {"window": 3} if name == "pairing" else {"depth": 5000}
        made = {"signals": signals | changed}
        reason = "must pair events as" if name == "pairing" else "history_limit must be at least"
    elif name == "sizes":
        dims = json.loads((life.tiny / MANIFEST).read_text())["dims"]
        made, reason = (
            {"dims": dims | {"text_dim": dims["text_dim"] + 1}},
            "must take items of vocabulary.json",
        )
    elif name == "EASE":
        ease = Ease.load(life.tiny / EASE)
        replace(ease, items=ease.items + np.int32(ease.n_items)).save(tmp_path / EASE)
        made, reason = {"files": {EASE: (tmp_path / EASE).read_bytes()}}, "EASE weights on its own"
    bad = life.put(**made)
    if name == "missing":
        shutil.rmtree(life.store / bad)
        reason = "does not hold it"
    elif name == "tampered":
        (life.store / bad / RANKER).write_bytes(b"something else")
        reason = "must have SHA-256"
    elif name == "changed while it is read":
        reads_once(monkeypatch, lambda: (life.store / bad / RANKER).write_bytes(b"something else"))
        reason = "is not what it says"
    elif name == "newer schema":
        manifest = json.loads((life.store / bad / MANIFEST).read_text())
        sign_manifest(life.store / bad, manifest | {"schema": 99})
        reason = "release schema must be"
    async with life.worker(first) as worker:
        follower = worker.parts.follower
        assert follower is not None
        with caplog.at_level(logging.ERROR, "streams.releases.follower"):
            life.say("promote", bad)
            await until(worker, lambda: bad in follower.refused)
        assert reason in follower.refused[bad]
        assert f"release {bad} is refused, {first} serves on" in caplog.text
        assert value(worker, "releases_refused_total") == 1
        await until(worker, lambda: life.changes()[-1].change == "refuse")
        assert (life.changes()[-1].version, reason in life.changes()[-1].reason) == (bad, True)
        assert (await life.slate(worker)).model_version == first
        assert len(list(worker.parts.lanes)) == 1
        second = life.put()
        life.say("promote", second)
        await serves(worker, second)
        assert [change.change for change in life.changes()].count("refuse") == 1


def reads_once(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any]) -> None:
    """Let something happen to a store when its first file has been read."""
    get, calls = LocalFileSystem.get_file, iter([then])

    def get_file(self: Any, *places: Any, **how: Any) -> None:
        get(self, *places, **how)
        for happens in calls:
            happens()

    monkeypatch.setattr(LocalFileSystem, "get_file", get_file)


async def test_a_store_that_is_away_is_asked_again_and_nothing_is_refused(
    make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    async with life.worker() as worker:
        away = life.store.rename(life.store.with_name("away"))
        life.say("promote", first)
        await until(worker, lambda: value(worker, "releases_delayed_total") >= 2)
        away.rename(life.store)
        await serves(worker, first)
        assert [change.change for change in life.changes()] == ["promote", "delay"]  # said once
        assert f"release store {life.store} is not there" in life.changes()[-1].reason


async def test_a_broker_that_is_away_is_asked_again_and_nothing_is_refused(
    make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    async with life.worker() as worker:
        await worker.assign([0])
        reads = iter([KafkaConnectionError("the broker is away")])
        read = life.memory.log.read

        def once_away(topic: str, partition: int, **how: Any) -> Any:
            for error in reads:
                raise error
            return read(topic, partition, **how)

        monkeypatch.setattr(life.memory.log, "read", once_away)
        life.say("promote", first)
        await serves(worker, first)
        assert list(reads) == []
        assert [change.change for change in life.changes()] == ["promote"]


async def test_a_release_that_is_promoted_again_is_tried_again(make_life: Callable[..., Life]) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    whole = (life.store / second / RANKER).read_bytes()
    (life.store / second / RANKER).write_bytes(b"damaged")
    async with life.worker(first) as worker:
        follower = worker.parts.follower
        assert follower is not None
        life.say("promote", second)
        await until(worker, lambda: second in follower.refused)
        (life.store / second / RANKER).write_bytes(whole)
        life.say("promote", second)
        await serves(worker, second)
        assert follower.refused == {}
