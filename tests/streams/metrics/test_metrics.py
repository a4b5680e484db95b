import logging
import math

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from streams.metrics import Metrics
from streams.metrics.tables import EVENTS, STAGES
from streams.worker.log_metrics import LogCounter


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[f"slatestream_{name}", tuple(sorted(labels.items()))]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(process=False)


def test_events_add_up_per_topic_and_outcome(metrics):
    metrics.count_events("clicks", "accepted", 40)
    metrics.count_events("clicks", "accepted", 2)
    metrics.count_events("clicks", "duplicate", 3)
    assert value(metrics, "events_total", topic="clicks", outcome="accepted") == 42
    assert value(metrics, "events_total", topic="clicks", outcome="duplicate") == 3
    assert value(metrics, "events_total", topic="content", outcome="accepted") == 0


def test_an_unknown_outcome_is_refused_with_the_list(metrics):
    with pytest.raises(ValueError, match=r"outcome must be one of accepted, .*, got 'fine'"):
        metrics.count_events("clicks", "fine")
    with pytest.raises(ValueError, match="outcome must be one of published, got 'accepted'"):
        metrics.count_events("feedback", "accepted")


def test_a_prefixed_topic_is_refused(metrics):
    with pytest.raises(ValueError, match=r"topic must be one of clicks, .*, got 'demo-clicks'"):
        metrics.count_events("demo-clicks", "accepted")
    with pytest.raises(ValueError, match="got 'demo-clicks'"):
        metrics.set_lag("demo-clicks", 0, records=3, seconds=1.0)


def test_a_dead_letter_is_also_an_event(metrics):
    metrics.count_dead_letters("requests", "invalid", 2)
    assert value(metrics, "dead_letters_total", topic="requests", reason="invalid") == 2
    assert value(metrics, "events_total", topic="requests", outcome="dead_letter") == 2


def test_a_reason_from_outside_makes_no_series_of_its_own(metrics):
    metrics.count_dead_letters("clicks", "Expected `str`, got `int` - at `$.user_id`")
    metrics.count_slates("my-policy", "it rained")
    metrics.count_rewards("who knows")
    assert b"Expected" not in metrics.render()[0]
    assert value(metrics, "dead_letters_total", topic="clicks", reason="other") == 1
    assert value(metrics, "slates_total", policy="other", fallback="other") == 1
    assert value(metrics, "rewards_total", outcome="other") == 1


def test_a_stage_is_counted_in_the_bucket_of_its_duration(metrics):
    metrics.observe_stages("score", [0.0002, 0.003, 7.0])
    assert value(metrics, "stage_seconds_count", stage="score") == 3
    assert value(metrics, "stage_seconds_sum", stage="score") == pytest.approx(7.0032)
    assert value(metrics, "stage_seconds_bucket", stage="score", le="0.00025") == 1
    assert value(metrics, "stage_seconds_bucket", stage="score", le="0.005") == 2
    assert value(metrics, "stage_seconds_bucket", stage="score", le="1.0") == 2
    assert value(metrics, "stage_seconds_bucket", stage="score", le="+Inf") == 3


def test_passes_that_are_counted_together_count_as_each_alone_would(metrics):
    bounds = [0.0, 0.0005, 0.00050001, 0.001, 0.02, 1.0, 3.0, 60.0]
    metrics.observe_stages("wait", (seconds for seconds in bounds))
    metrics.observe_stages("wait", [])
    alone = Histogram("alone", "-", registry=CollectorRegistry(), buckets=STAGES["wait"])
    for seconds in bounds:
        alone.observe(seconds)
    (expected,) = alone.collect()
    for sample in expected.samples:
        if not sample.name.endswith("_created"):
            name = sample.name.replace("alone", "stage_seconds")
            assert value(metrics, name, stage="wait", **sample.labels) == pytest.approx(sample.value)


def test_every_stage_has_buckets_of_its_own_under_one_name(metrics):
    body = metrics.render()[0].decode()
    assert body.count("# TYPE slatestream_stage_seconds histogram") == 1
    for stage, bounds in STAGES.items():
        assert body.count(f'slatestream_stage_seconds_bucket{{le="{bounds[-1]}",stage="{stage}"}}') == 1
        assert body.count(f'_bucket{{le="+Inf",stage="{stage}"}}') == 1


def test_a_stage_that_raises_is_timed_too(metrics):
    with pytest.raises(RuntimeError, match="broken"), metrics.time_stage("fold"):
        raise RuntimeError("broken")
    assert value(metrics, "stage_seconds_count", stage="fold") == 1


def test_an_unknown_stage_is_refused(metrics):
    with pytest.raises(ValueError, match="stage must be one of decode, .*, got 'think'"):
        metrics.observe_stage("think", 1.0)


def test_the_lag_of_a_lost_partition_disappears(metrics):
    metrics.set_lag("clicks", 3, records=17, seconds=2.5)
    assert value(metrics, "lag_records", topic="clicks", partition="3") == 17
    assert value(metrics, "lag_seconds", topic="clicks", partition="3") == 2.5
    metrics.drop_lag("clicks", 3)
    metrics.drop_lag("clicks", 3)
    assert not any(name.startswith("slatestream_lag_") for name, _ in samples(metrics))


def test_only_the_release_in_use_is_shown(metrics):
    metrics.set_release("v1", "CPUExecutionProvider")
    metrics.set_release("v2", "CUDAExecutionProvider")
    shown = [labels for name, labels in samples(metrics) if name == "slatestream_release_info"]
    assert shown == [(("provider", "CUDAExecutionProvider"), ("version", "v2"))]


def test_the_age_of_a_release_is_known_only_when_there_is_one(metrics):
    metrics.set_release("none", "CPUExecutionProvider")
    assert not any(name == "slatestream_release_timestamp_seconds" for name, _ in samples(metrics))
    metrics.set_release("v2", "CPUExecutionProvider", written_s=1.7e9)
    assert value(metrics, "release_timestamp_seconds", version="v2") == 1.7e9


def test_click_through_is_counted_by_policy_and_by_position(metrics):
    some, many = [0.1, 0.2, 0.3], [0.5] * 30
    metrics.count_closed(
        [("greedy", [1.0, 1.0, 1.0], some, [1]), ("thompson", [0.5, 0.004], some[:2], [0, 1])]
    )
    metrics.count_closed([("greedy", [1.0] * 30, many, [0, 25, 29]), ("my-policy", [0.1], [0.1], [])])
    metrics.count_closed([])
    assert value(metrics, "impressions_total", policy="greedy") == 33
    assert value(metrics, "responses_total", policy="greedy") == 4
    assert value(metrics, "responses_total", policy="thompson") == 2
    assert value(metrics, "impressions_total", policy="other") == 1
    assert value(metrics, "rare_impressions_total", policy="thompson") == 1
    assert value(metrics, "position_impressions_total", position="1") == 3
    assert value(metrics, "position_responses_total", position="1") == 2
    assert value(metrics, "position_impressions_total", position="19") == 11
    assert value(metrics, "position_responses_total", position="19") == 2


def test_what_scores_foretell_is_counted_by_their_band_beside_what_came(metrics):
    nothing = math.nan
    metrics.count_closed([("greedy", [1.0] * 5, [0.0, 0.25, 0.3, 7.0, nothing], [1, 2, 3])])
    assert value(metrics, "predicted_responses_total") == pytest.approx(0.55)
    assert value(metrics, "score_impressions_total", band="0.001") == 1
    assert value(metrics, "score_impressions_total", band="0.3") == 2
    assert value(metrics, "score_responses_total", band="0.3") == 2
    counted = [
        n for (name, _), n in samples(metrics).items() if name == "slatestream_score_impressions_total"
    ]
    assert sum(counted) == 3  # a count of popularity is no probability


def test_http_is_counted_by_route_and_status(metrics):
    metrics.count_http("recommendations", 503, 0.002)
    metrics.count_http("wp-login.php", 404, 0.001)
    assert value(metrics, "http_requests_total", route="recommendations", status="503") == 1
    assert value(metrics, "http_requests_total", route="recommendations", status="200") == 0
    assert value(metrics, "http_requests_total", route="other", status="404") == 1
    assert value(metrics, "http_request_seconds_count", route="recommendations") == 1


def test_messages_are_counted_by_the_package_that_logs_them(metrics):
    counter = LogCounter(metrics)
    logger = logging.Logger("aiokafka.producer.sender")
    logger.addHandler(counter)
    logger.warning("retrying")
    logger.error("giving up")
    logger.info("connected")
    assert value(metrics, "log_messages_total", source="aiokafka", level="warning") == 1
    assert value(metrics, "log_messages_total", source="aiokafka", level="error") == 1
    assert value(metrics, "log_messages_total", source="other", level="warning") == 0


def test_nothing_says_when_it_was_created():
    assert b"_created" not in Metrics().render()[0]


def test_a_gauge_can_be_read_at_scrape_time(metrics):
    waiting = [1, 2, 3]
    metrics.watch(metrics.waiting_requests, lambda: len(waiting))
    waiting.pop()
    assert value(metrics, "waiting_requests") == 2


def test_every_series_of_events_exists_before_the_first_event(metrics):
    shown = [labels for name, labels in samples(metrics) if name == "slatestream_events_total"]
    assert len(shown) == sum(map(len, EVENTS.values()))


def test_two_metrics_in_one_process_do_not_share_numbers(metrics):
    other = Metrics(process=False)
    metrics.count_rewards("by_request", 5)
    assert value(other, "rewards_total", outcome="by_request") == 0


def test_the_process_is_measured_in_base_units():
    body, content_type = Metrics().render()
    assert b"process_resident_memory_bytes" in body
    assert content_type.startswith("text/plain")
