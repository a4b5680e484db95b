"""What is compared with the peers is counted rightly; the peers themselves run only when asked for."""

import os
from collections import Counter

import pytest

from streams.bench.folding import Mark
from streams.bench.wide import wide_clicks
from streams.broker.embedded import EmbeddedBroker
from streams.settings import load_settings
from streams.worker.process import process_cpu_seconds
from tests.benchmarks.peers.engines import ENGINES
from tests.benchmarks.peers.run import Result, main, median, result_of
from tests.benchmarks.peers.topic import Span, await_outputs, fill, make_topic, outputs_of, read_span


def test_a_right_job_writes_once_for_every_ten_events_of_a_user():
    assert outputs_of(Counter(a=9, b=10, c=39)) == 4


def test_seconds_are_those_between_two_outputs():
    span = Span([1_000, 1_500, 3_000])
    assert span.seconds() == 2.0
    assert span.seconds(1) == 1.5


def test_a_worker_is_charged_for_its_start_as_a_peer_is():
    marks = [Mark(0, 10.0, 2.0), Mark(1_000, 12.0, 3.0)]
    result = result_of("slatestream", "X", 1_000, marks, began=2.0)
    assert result.per_second == 500.0
    assert result.from_start == 100.0
    assert result.cpu_us == pytest.approx(3_000.0)


def test_the_run_in_the_middle_is_shown():
    results = [Result("x", "X", 1, rate, 0.0, 0.0) for rate in (5.0, 1.0, 3.0)]
    assert median(results).per_second == 3.0


def test_an_unknown_peer_is_refused():
    with pytest.raises(Exception, match="--peers must be among .*, got 'spark'"):
        main(peers="flink,spark")


def test_slow_peers_get_fewer_events():
    assert {name: engine.events_share for name, engine in ENGINES.items()} == {
        "kafka-streams": 1.0,
        "flink": 1.0,
        "quix": 0.2,
        "faust": 0.03,
    }


def test_processor_time_grows_with_work():
    before = process_cpu_seconds(os.getpid())
    while process_cpu_seconds(os.getpid()) < before + 0.05:
        sum(range(10_000))


def test_the_topic_holds_the_clicks_and_knows_what_a_right_job_makes_of_them(broker: EmbeddedBroker):
    servers = broker.bootstrap_servers
    settings = load_settings(bootstrap_servers=servers)
    make_topic(servers, "peers-test", **{"message.timestamp.type": "LogAppendTime"})
    wide = fill(settings, "peers-test", 60_000)
    users = [user for chunk in wide_clicks(60_000) for user, _ in chunk]
    assert wide.outputs == sum(n // 10 for n in Counter(users).values()) > 0
    assert wide.outputs_of_half == sum(n // 10 for n in Counter(users[:30_000]).values()) > 0
    await_outputs(servers, "peers-test", 60_000, check=lambda: None, timeout_s=120.0)
    span = read_span(servers, "peers-test")
    assert len(span.written_ms) == 60_000
    assert span.seconds() > 0


def test_waiting_for_outputs_ends_with_who_writes_them(broker: EmbeddedBroker):
    make_topic(broker.bootstrap_servers, "peers-ended")

    def check() -> None:
        raise RuntimeError("it ended")

    with pytest.raises(RuntimeError, match="it ended"):
        await_outputs(broker.bootstrap_servers, "peers-ended", 1, check=check, timeout_s=120.0)
