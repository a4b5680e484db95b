"""When a consumer fetches, and how long its fetches stay open."""

import asyncio
from types import SimpleNamespace

from streams.kafka.column_fetch import fetch_in_turn, wait_longer


def test_a_fetch_stays_open_longer_only_where_it_asks_for_every_partition():
    fetching = SimpleNamespace(_records={}, _fetch_max_wait_ms=50)
    fetching._get_actions_per_node = lambda assignment: (assignment, fetching._fetch_max_wait_ms)
    wait_longer(SimpleNamespace(_fetcher=fetching), 200)
    assert fetching._get_actions_per_node("all") == ("all", 200)
    fetching._records["of a partition"] = "not taken yet"
    assert fetching._get_actions_per_node("all") == ("all", 50)
    fetching._records.clear()
    assert fetching._get_actions_per_node("all") == ("all", 200)


async def test_a_fetch_waits_for_its_turn_and_one_that_is_given_up_before_has_brought_nothing():
    fetched, turn = [], asyncio.Event()

    async def fetch(assignment, node_id, request):
        fetched.append((node_id, request))
        return True

    fetching = SimpleNamespace(_proc_fetch_request=fetch)
    fetch_in_turn(SimpleNamespace(_fetcher=fetching), lambda broker: turn.wait())
    given_up = asyncio.ensure_future(fetching._proc_fetch_request("all", 1, "request"))
    waiting = asyncio.ensure_future(fetching._proc_fetch_request("all", 2, "request"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await given_up is False
    assert fetched == []
    turn.set()
    assert await waiting is True
    assert fetched == [(2, "request")]
