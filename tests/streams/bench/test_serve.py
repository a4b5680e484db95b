from dataclasses import replace

import pytest

from streams.bench.loaded import Load, Measured, Over, line
from streams.bench.options import numbers, settings_given, whole_numbers
from streams.bench.ready import Start, summary
from streams.bench.serve import curves_of, limit_line, stage_table, ways
from streams.bench.stages import Stage
from streams.bench.work import Outcome
from streams.errors import ConfigurationError


def measured(p99: float = 20.0, *, unanswered: int = 0, refused: int = 0, items: int = 1700) -> Measured:
    outcome = Outcome(100, 100 - unanswered, unanswered, refused, 0, 2.0, 1.0)
    latency = {"p50_ms": 5.0, "p95_ms": 10.0, "p99_ms": p99, "p99_9_ms": 30.0, "max_ms": 40.0}
    stages = [Stage("policy", 9, 4.0, 8.0, 0.5), Stage("request_to_publish", 9, 8.0, 9.0, None)]
    return Measured(Load(Over.KAFKA, items, 50.0, 0.0), outcome, None, latency, stages, None, 9.0)


def test_a_limit_is_kept_only_when_everybody_was_answered():
    assert measured(20.0).keeps(25.0)
    assert not measured(26.0).keeps(25.0)
    assert not measured(20.0, unanswered=1).keeps(25.0)
    assert not measured(20.0, refused=1).keeps(25.0)


def test_a_line_says_what_was_lost():
    assert line(measured(unanswered=3)) == (
        "1,700 items, 50 requests/s over kafka: p50 5.0, p99 20.0, p99.9 30.0 ms, 3 unanswered"
    )


def test_the_stage_table_has_a_row_a_load_and_shares_of_a_request():
    fewer = replace(measured(), stages=measured().stages[1:])
    columns, rows = stage_table([measured(), fewer])
    assert columns == ["load", "policy", "request_to_publish"]
    load = "1,700 items, 50 requests/s over kafka"
    assert rows == [[load, "4.0 (50%)", "8.0"], [load, "-", "8.0"]]


def test_curves_go_over_the_size_of_the_catalogue():
    curves = curves_of([measured(20.0), measured(40.0, items=20_000)])
    assert curves == {"kafka, 50/s": [(1700, 20.0), (20_000, 40.0)]}


@pytest.mark.parametrize(
    ("kept", "broken", "text"),
    [
        (None, 50.0, "p99 is above 25 ms at every rate that was tried"),
        (400.0, None, "p99 stays within 25 ms at 400 requests/s"),
        (400.0, 433.0, "p99 stays within 25 ms at 400 requests/s, no longer at 433"),
    ],
)
def test_the_limit_is_said_in_words(kept: float | None, broken: float | None, text: str):
    found = {"items": 20_000, "clicks": 0.0, "over": "kafka", "kept": kept, "broken": broken}
    assert limit_line(found, 25.0).endswith(f": {text}")


def test_lists_are_read():
    assert numbers("50, 150,300") == [50.0, 150.0, 300.0]
    assert whole_numbers("1700") == [1700]
    assert ways("http,kafka") == [Over.HTTP, Over.KAFKA]


@pytest.mark.parametrize("text", ["", "50,x", "-1"])
def test_a_list_that_is_none_is_refused(text: str):
    with pytest.raises(ConfigurationError, match=f"comma-separated, got '{text}'"):
        numbers(text)


def test_an_unknown_way_is_refused():
    with pytest.raises(ConfigurationError, match="--over must be among kafka, http, got 'grpc'"):
        ways("grpc")


def test_settings_are_given_by_name():
    assert settings_given(["policy=greedy", "k_default=20"]) == {"policy": "greedy", "k_default": "20"}
    for wrong in ("policy", "no_such=1"):
        with pytest.raises(
            ConfigurationError, match=f"name=value with a name of the settings, got '{wrong}'"
        ):
            settings_given([wrong])


def test_a_kind_of_start_is_summed_up_by_its_median():
    starts = [Start("a", seconds, 2.0 * seconds, 100.0, 90.0 + seconds) for seconds in (3.0, 1.0, 2.0)]
    assert summary([*starts, Start("b", 9.0, 8.0, 1.0, 2.0)]) == [
        {"what": "a", "starts": 3, "ready_s": 2.0, "cpu_s": 4.0, "ready_mib": 100.0, "idle_mib": 92.0},
        {"what": "b", "starts": 1, "ready_s": 9.0, "cpu_s": 8.0, "ready_mib": 1.0, "idle_mib": 2.0},
    ]
