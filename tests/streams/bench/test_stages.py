import pytest

from streams.bench.stages import loop_lag_ms, quantile, stages_between
from streams.metrics import Metrics
from streams.worker.process import MetricsReading

INF = float("inf")


def reading(metrics: Metrics) -> MetricsReading:
    return MetricsReading(metrics.render()[0].decode())


def test_stages_are_those_between_two_readings():
    metrics = Metrics(process=False)
    metrics.observe_stages("policy", [9.0] * 50)
    metrics.observe_stage("learn", 9.0)
    before = reading(metrics)
    metrics.observe_stages("policy", [0.010, 0.020])
    metrics.observe_stages("request_to_publish", [0.060] * 4)
    found = {stage.name: stage for stage in stages_between(before, reading(metrics))}
    assert set(found) == {"policy", "request_to_publish"}
    assert found["policy"].passes == 2
    assert found["policy"].mean_ms == pytest.approx(15.0)
    assert found["policy"].share == pytest.approx(0.25)
    assert 10.0 < found["policy"].p99_ms <= 25.0, "within the bucket that holds it"
    assert found["request_to_publish"].share is None


def test_a_worker_that_does_not_measure_its_loop_has_no_lag():
    metrics = Metrics(process=False)
    metrics.observe_stage("score", 1.0)
    assert loop_lag_ms(MetricsReading(""), MetricsReading("# nothing\n")) is None


def test_the_loop_lag_is_read_from_its_histogram():
    def text(counts: tuple[int, int, int]) -> MetricsReading:
        rows = zip(("0.001", "0.01", "+Inf"), counts, strict=True)
        return MetricsReading(
            "# TYPE slatestream_loop_lag_seconds histogram\n"
            + "".join(f'slatestream_loop_lag_seconds_bucket{{le="{le}"}} {n}\n' for le, n in rows)
        )

    before, after = text((100, 100, 100)), text((1_099, 1_100, 1_100))
    assert loop_lag_ms(before, after, 0.5) == pytest.approx(0.5, rel=0.01)
    assert loop_lag_ms(before, after, 0.9995) == pytest.approx(5.5, rel=0.01)


@pytest.mark.parametrize(("q", "value"), [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)])
def test_a_quantile_lies_on_the_line_within_its_bucket(q: float, value: float):
    assert quantile([(1.0, 50.0), (2.0, 100.0), (INF, 100.0)], q) == pytest.approx(value)


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert quantile([(1.0, 10.0), (INF, 20.0)], 0.99) == 1.0
    assert quantile([], 0.5) == 0.0
    assert quantile([(1.0, 0.0), (INF, 0.0)], 0.5) == 0.0
