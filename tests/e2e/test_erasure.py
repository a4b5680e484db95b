"""An erasure on the real broker, beside a running worker: nothing of the user is left in what users share."""

import time
from typing import Any

import msgspec

from streams.events import Recommendation
from streams.state import rows as changelog
from streams.state.policy_row import STATISTICS_PREFIX, decode_policy_row
from streams.state.rows import COVISIT_PREFIX, CoVisits
from streams.worker.process import WorkerProcess
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_recovery import verified

WINDOW_MS = 300
SETTINGS: dict[str, Any] = {
    "policy": "thompson",
    "attribution_window_ms": WINDOW_MS,
    "allowed_lateness_ms": 0,
    "erase_share_hours": 1e-6,
}


def newest(client: Client, name: str) -> dict[tuple[int, bytes], bytes]:
    """By partition and key, what a compacted topic holds in the end."""
    held = {(record.partition, record.key): record.value for record in client.records(name)}
    return {key: value for key, value in held.items() if value is not None}


def shared(client: Client) -> tuple[int, int, int]:
    """Likes and counted pairs of all items, and the impressions that policies have learned of."""
    likes = pairs = impressions = 0
    for (_, key), value in newest(client, "policy-state").items():
        if key.startswith(COVISIT_PREFIX):
            row = changelog.decode(CoVisits, "policy-state", key, value)
            likes, pairs = likes + row.popularity, pairs + len(row.counts) // 4
        elif key.startswith(STATISTICS_PREFIX):
            for space in decode_policy_row(value).spaces:
                impressions += msgspec.msgpack.decode(space.statistics)["impressions"]
    return likes, pairs, impressions


def full(slate: Recommendation) -> Recommendation | None:
    """The slate, once it has four items."""
    return slate if len(slate.slate) == 4 else None


def waiting(worker: WorkerProcess) -> tuple[float, float]:
    """Users who were erased, and those of them whose share is not out of everything."""
    reading = worker.metrics()
    assert reading is not None
    return reading.total("state_rows", kind="erasures"), reading.total("erasures_waiting")


def test_nothing_of_a_user_is_left_in_what_users_share_and_verify_says_so(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(**SETTINGS)
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(8)))
    slate = wait_until(lambda: full(client.ask("gone", k=4)), "items are known")
    for item in slate.slate[:3]:
        client.click("gone", item.item_id, "like")
    client.click("stays", "i1", "like")
    client.flush()

    def is_fed_back() -> bool:
        client.click("gone", "i1", "view", timestamp_ms=int(time.time() * 1000))
        client.flush()
        return any(feedback.request_id == slate.request_id for feedback in client.feedback())

    wait_until(is_fed_back, "the slate has closed for good")
    wait_until(lambda: shared(client)[0] == 4, "all is durable")
    assert shared(client)[1:] != (0, 0)
    client.send("users", "gone", None)
    client.flush()
    wait_until(lambda: waiting(worker) == (1, 0), "the share is out")
    assert worker.stop() == 0
    wait_until(lambda: shared(client) == (1, 0, 0), "what is durable has nothing of the user")
    for name in ("user-state", "policy-state"):
        assert not [one for one in newest(client, name).items() if b"gone" in one[0][1] + one[1]]
    assert {"users", "items", "policy"} <= verified(client, "--stored", **SETTINGS)
    again = start_worker(**SETTINGS)
    assert {"users", "items", "policy"} <= verified(client, "--url", again.url, **SETTINGS)
