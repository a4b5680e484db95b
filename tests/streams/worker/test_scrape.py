import pytest

from streams.worker.process import MetricsReading
from streams.worker.scrape import Scrape, quantile, seen


def reading(clicks: int, slates: int, fast: int, slow: int) -> MetricsReading:
    stage = 'slatestream_stage_seconds_bucket{stage="request_to_publish",le='
    return MetricsReading(
        f"""# TYPE slatestream_events_total counter
slatestream_events_total{{topic="clicks",outcome="accepted"}} {clicks}
slatestream_slates_total{{policy="thompson",fallback="none"}} {slates}
slatestream_slates_total{{policy="greedy",fallback="none"}} 0
{stage}"0.01"}} {fast}
{stage}"0.1"}} {fast + slow}
{stage}"+Inf"}} {fast + slow}
slatestream_lag_records{{topic="clicks",partition="1"}} 7
slatestream_lag_seconds{{topic="clicks",partition="1"}} 2.5
slatestream_ready 1
slatestream_release_info{{version="abc",provider="CPU"}} 1
slatestream_release_refused_info{{version="def"}} 1
"""
    )


def test_rates_and_latencies_are_those_between_two_looks() -> None:
    ready = {"topics_caught_up": True, "items_encoded": False, "stopping": False, "partitions": 0}
    before = Scrape(10.0, reading(1_000, 10, 1_000, 0), ready)
    worker = seen("http://w", before, Scrape(12.0, reading(1_500, 20, 1_000, 100), ready))
    assert worker.events_per_s["clicks"] == 250.0
    assert worker.slates_per_s == 5.0
    assert worker.latencies_ms["request to slate"] == (pytest.approx(55.0), pytest.approx(99.1))
    assert (worker.lag_records, worker.lag_seconds) == (7, 2.5)
    assert worker.refused == "def"
    assert (worker.release, worker.policies, worker.missing) == ("abc", ["thompson"], ["items_encoded"])


def test_a_worker_that_stops_lacks_nothing_else() -> None:
    stopping = {"topics_caught_up": True, "stopping": True, "partitions": 1, "partitions_restored": 1}
    worker = seen("http://w", None, Scrape(1.0, reading(0, 0, 0, 0), stopping))
    assert worker.missing == ["stopping"]


def test_a_worker_that_does_not_answer_says_why() -> None:
    worker = seen("http://w", None, "Connection refused")
    assert not worker.answers
    assert worker.error == "Connection refused"


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = {1.0: 50.0, 2.0: 100.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == 1.0
    assert quantile(buckets, 0.75) == 1.5
    assert quantile({}, 0.5) == 0.0
