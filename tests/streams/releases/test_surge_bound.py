"""How much of a surge counts is said by the release that serves, wherever items are listed."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from model_core.release.folder import MANIFEST
from model_core.signals.horizons import DAY_MS
from streams.serving.lists import Wanted
from streams.testing.worker import MemoryWorker
from tests.streams.releases.life import Life, serves


async def test_lists_and_cheap_slates_count_a_surge_as_the_release_that_serves_does(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(partitions=2, when_overloaded="fallback")
    signals: dict[str, Any] = json.loads((life.tiny / MANIFEST).read_text())["signals"]
    bounded, unbounded = (life.put(signals=signals | {"surge_bound": bound}) for bound in (2.0, 0.0))
    now_ms = life.memory.clock.now_ms
    for n in range(30):  # i0 has been liked for a month, i1 by two users of then and sixty of today
        life.memory.events.click(f"a{n}", "i0", "like", timestamp_ms=now_ms - (30 - n) * DAY_MS)
    for n in range(62):
        ago_ms = 40 * DAY_MS if n < 2 else 1_000 * n
        life.memory.events.click(f"b{n}", "i1", "like", timestamp_ms=now_ms - ago_ms)

    async with life.worker(bounded) as worker:
        assert await first_two(life, worker) == ["i0", "i1"]
        life.say("promote", unbounded)
        await serves(worker, unbounded)
        assert await first_two(life, worker) == ["i1", "i0"]


async def first_two(life: Life, worker: MemoryWorker) -> list[str]:
    """What is listed as popular, which cheap slates must agree with."""
    life.memory.clock.move(60_000)  # rankings are made anew
    listed = await worker.parts.lists.of("popular", Wanted(2, {}, ()))
    server, (shard, *_) = worker.parts.server, worker.parts.partitions.live()
    server.refresh_popular()
    rows, counts = server._popular._list
    assert (np.diff(counts) <= 0).all()
    assert [worker.parts.shared.index.ids[row] for row in rows[:2].tolist()] == [
        one.item_id for one in listed.items
    ]
    assert shard is not None
    return [one.item_id for one in listed.items]
