import pytest

from streams.api.buckets import Buckets


class Clock:
    s = 100.0

    def __call__(self) -> float:
        return self.s


def test_a_burst_passes_and_then_as_many_as_flow_in() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 3, now=clock)
    assert [buckets.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert buckets.take("b") == 0.0
    clock.s += 0.25
    assert buckets.take("a") == 0.25
    clock.s += 0.25
    assert [buckets.take("a") for _ in range(2)] == [0.0, 0.5]
    clock.s += 1_000
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_memory_is_bounded_and_who_asks_is_not_forgotten() -> None:
    buckets = Buckets(0.001, 2, most=100, now=Clock())
    buckets.take("busy")
    buckets.take("busy")
    for number in range(10_000):
        buckets.take(f"address {number}")
        assert buckets.take("busy") > 0
    assert len(buckets) == 100


def test_a_rate_must_be_a_rate() -> None:
    with pytest.raises(ValueError, match="per_s must be more than 0, got 0"):
        Buckets(0.0, 1)
