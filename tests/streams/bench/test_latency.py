import pytest

from streams.bench.latency import Latencies, due, find_limit


def test_requests_are_due_at_a_constant_rate():
    assert [due(n, 50.0) for n in range(4)] == pytest.approx([0.0, 0.02, 0.04, 0.06])


def test_percentiles_are_those_of_what_was_added_to_three_digits():
    latencies = Latencies()
    for ms in range(1, 1001):
        latencies.add(ms / 1000)
    found = latencies.summary()
    assert found["p50_ms"] == pytest.approx(500, rel=2e-3)
    assert found["p99_ms"] == pytest.approx(990, rel=2e-3)
    assert found["p99_9_ms"] == pytest.approx(999, rel=2e-3)
    assert found["max_ms"] == pytest.approx(1000, rel=2e-3)
    assert latencies.count == 1000


def test_a_histogram_survives_being_written_as_text():
    latencies = Latencies()
    for ms in (1.5, 20, 300):
        latencies.add(ms / 1000)
    again = Latencies(latencies.encoded())
    assert again.count == 3
    assert again.summary() == latencies.summary()


def test_a_latency_out_of_range_counts_as_the_edge():
    latencies = Latencies()
    latencies.add(-1.0)
    latencies.add(10_000.0)
    assert latencies.count == 2
    assert latencies.at(100.0) == pytest.approx(600_000, rel=2e-3)


def test_no_latency_has_no_percentile():
    assert Latencies().summary() == dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms"), 0.0)


@pytest.mark.parametrize("limit", [3.0, 49.0, 50.0, 130.0, 777.0])
def test_a_limit_is_found_between_two_rates_close_together(limit: float):
    tried: list[float] = []

    def keeps(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = find_limit(keeps, start=50.0, steps=4, highest=6_400.0)
    assert found.kept is not None
    assert found.broken is not None
    assert found.kept <= limit < found.broken
    assert found.broken / found.kept < 1.05
    assert len(tried) == len(set(tried)), "no rate is measured twice"


def test_a_promise_that_is_always_kept_ends_at_the_highest_rate():
    found = find_limit(lambda rate: True, start=50.0, steps=4, highest=400.0)
    assert (found.kept, found.broken) == (400.0, None)


def test_a_promise_that_is_never_kept_has_no_limit():
    found = find_limit(lambda rate: False, start=50.0, steps=4, highest=400.0)
    assert found.kept is None
    assert found.broken is not None
    assert 1.0 <= found.broken < 2.0
