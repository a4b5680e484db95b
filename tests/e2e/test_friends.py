"""Friends on a real broker: their likes reach a user wherever they are, whoever dies in between."""

import pytest

from streams.events import Recommendation, UserUpdate
from streams.kafka.partitioner import partition_of
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_recovery import owned, verified

SETTINGS = {"friends_boost": 1.0, "friends_at_least": 4, "policy": "greedy", "session_timeout_ms": 6_000}
REASON = "liked by 4 of your friends"


def because(slate: Recommendation) -> set[str]:
    """Items that are there because four friends like them."""
    return {item.item_id for item in slate.slate if REASON in item.reasons}


@pytest.mark.timeout(600)
def test_likes_of_friends_on_other_workers_are_served_before_and_after_one_is_killed(
    client: Client, start_worker: StartWorker
) -> None:
    partitions = client.settings.partitions
    friends = [
        next(name for n in range(99) if partition_of(name := f"friend{n}", partitions) == place)
        for place in range(partitions)
    ]
    workers = [start_worker(**SETTINGS) for _ in range(2)]
    wait_until(lambda: [owned(one) for one in workers] == [2, 2], "each worker owns a half")
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(6)))
    client.send("users", "asks", UserUpdate("asks", friends=[*friends, "nobody", "asks"]))
    for friend in friends:
        client.click(friend, "i3", "like")
    client.flush()
    wait_until(lambda: because(client.ask("asks", k=6)) == {"i3"}, "all four friends are known")
    assert client.ask("asks", k=6).slate[0].item_id == "i3"

    for friend in friends:
        client.click(friend, "i5", "like")
    client.flush()
    workers[1].kill()
    wait_until(lambda: owned(workers[0]) == partitions, "the other worker owns everything")
    wait_until(lambda: because(client.ask("asks", k=6)) == {"i3", "i5"}, "the likes are read again")
    assert {"users", "items"} <= verified(client, "--url", workers[0].url, **SETTINGS)

    third = start_worker(**SETTINGS)
    wait_until(lambda: [owned(workers[0]), owned(third)] == [2, 2], "a half is given back")
    wait_until(lambda: because(client.ask("asks", k=6)) == {"i3", "i5"}, "it is known to whoever comes")
    client.send("users", friends[0], None)
    client.flush()
    wait_until(lambda: because(client.ask("asks", k=6)) == set(), "one of the four is forgotten")
