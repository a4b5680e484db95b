"""Writes what the workers of this tree write: `python -m tests.versions.write > tests/versions/NAME.jsonl`.

A file stays as it is for good: `test_versions` reads what workers of earlier versions have left behind. Each
line is a record, as topic, partition, offset, time, key and value (base64), or an offset that was committed.
"""

import asyncio
import json
from base64 import b64encode
from typing import Any

from model_core.release.baseline import BaselineScorer
from streams.settings import Settings
from streams.testing.clock import HandClock
from streams.testing.events import MemoryEvents
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker

POLICIES = ("thompson", "thompson-disjoint")
SETTINGS = {"text_encoder": "none", "partitions": 2, "history_limit": 64, "position_bias": "learned"}
HOUR = 3_600_000
ACTIONS = ("view", "click", "like")
USERS = ("ann", "bob", "cleo", "dan", "eve")  # of both partitions
ERASED = "dan"


async def live(settings: Settings, log: MemoryLog, clock: HandClock) -> None:
    """Let a worker fold, serve, be rewarded, be told of users, erase one, and flush; more comes then."""
    events = MemoryEvents(settings, log, clock)
    for n in range(8):
        events.content(f"i{n}", f"Item {n}", attributes={"kind": [f"k{n % 2}"]})
    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        for n in range(60):
            events.click(USERS[n % 5], f"i{n * 3 % 8}", ACTIONS[n % 3])
            if n % 9 == 0:
                events.user(USERS[n % 5], preferences=["k1"], attributes={"age": "30"}, blocked_items=["i7"])
                events.request(USERS[n % 5], k=3)
                await worker.deliver()
                slate = events.recommendations()[-1]
                events.click(slate.user_id, slate.slate[0].item_id, "like")
        events.raw("clicks", "ann", b"no click")
        events.erase(ERASED)
        await worker.deliver()
        clock.move(48 * HOUR)
        for user in USERS:
            events.click(user, "i1", "like")
        await worker.deliver()
        await worker.flush()
        worker.commit()
        for user in USERS:
            events.request(user, k=3)
        await worker.deliver("requests")
        for user in USERS:
            events.click(user, "i2", "view")


def lines(policy: str) -> list[dict[str, Any]]:
    """What there is in the end, under a policy."""
    settings, clock = Settings(policy=policy, **SETTINGS), HandClock()  # type: ignore[arg-type]
    log = MemoryLog.of(settings, clock)
    asyncio.run(live(settings, log, clock))
    found: list[dict[str, Any]] = []
    for topic, partition, offset in log.order:
        record = next(one for one in log.records(topic, partition) if one.offset == offset)
        key, value = (None if one is None else b64encode(one).decode() for one in (record.key, record.value))
        found.append(
            {
                "policy": policy, "topic": topic, "partition": partition, "offset": offset,
                "time_ms": record.timestamp, "key": key, "value": value,
            }
        )  # fmt: skip
    return found + [
        {"policy": policy, "topic": topic, "partition": partition, "committed": offset}
        for (topic, partition), offset in sorted(log.committed.items())
    ]


if __name__ == "__main__":
    for one in POLICIES:
        for line in lines(one):
            print(json.dumps(line, separators=(",", ":")))
