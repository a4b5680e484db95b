import pytest

from streams.bench.folding import Mark, folding_of


def test_rates_count_from_the_first_mark():
    marks = [Mark(100, 10.0, 5.0), Mark(500, 12.0, 5.5), Mark(600, 13.0, 5.6), Mark(1_100, 14.0, 6.0)]
    folding = folding_of(marks)
    assert folding.events == 1_000
    assert folding.per_second == 250.0
    assert folding.second_half == 500.0, "from the first look past the half"
    assert folding.cpu_us == pytest.approx(1_000.0)


def test_what_was_done_between_two_looks_has_one_rate():
    folding = folding_of([Mark(0, 1.0, 0.0), Mark(100, 2.0, 0.5)])
    assert folding.per_second == folding.second_half == 100.0
