import numpy as np

from streams.bench.wide import wide_clicks
from streams.events import decode_click


def users(n: int) -> list[str]:
    return [user for chunk in wide_clicks(n) for user, _ in chunk]


def test_every_value_is_a_click_of_its_key():
    rows = [row for chunk in wide_clicks(120_000) for row in chunk]
    assert len(rows) == 120_000
    for n in (0, 1, 49_999, 50_000, 119_999):
        key, value = rows[n]
        click = decode_click(value)
        assert (click.user_id, click.action, click.event_id) == (key, "click", f"e{n:010d}")
        assert click.position == n % 10
        assert click.request_id == f"s{n // 5}"


def test_the_same_seed_gives_the_same_clicks():
    assert next(wide_clicks(1000, seed=4)) == next(wide_clicks(1000, seed=4))
    assert next(wide_clicks(1000, seed=4)) != next(wide_clicks(1000, seed=5))


def test_no_user_dominates_and_the_skew_is_a_cube():
    _, counts = np.unique(users(200_000), return_counts=True)
    assert len(counts) > 60_000
    assert 0.015 < counts.max() / 200_000 < 0.03  # P(x^3 < 1e-5) = 0.0215


def test_the_last_chunk_is_as_long_as_what_is_left():
    assert [len(chunk) for chunk in wide_clicks(50_001)] == [50_000, 1]
