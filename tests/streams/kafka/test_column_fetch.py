"""How long a consumer's fetches stay open."""

from types import SimpleNamespace

from streams.kafka.column_fetch import wait_longer


def test_a_fetch_stays_open_longer_only_where_it_asks_for_every_partition():
    fetching = SimpleNamespace(_records={}, _fetch_max_wait_ms=50)
    fetching._get_actions_per_node = lambda assignment: (assignment, fetching._fetch_max_wait_ms)
    wait_longer(SimpleNamespace(_fetcher=fetching), 200)
    assert fetching._get_actions_per_node("all") == ("all", 200)
    fetching._records["of a partition"] = "not taken yet"
    assert fetching._get_actions_per_node("all") == ("all", 50)
    fetching._records.clear()
    assert fetching._get_actions_per_node("all") == ("all", 200)
