"""How long users stayed away: the same however the clicks are cut into batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.verify.idle_times import Absences


def longest(clicks: list[tuple[int, int]], cuts: list[int]) -> int:
    found = Absences()
    users, times = (np.array(values) for values in zip(*clicks, strict=True))
    for begin, end in zip([0, *cuts], [*cuts, len(clicks)], strict=True):
        found.add(users[begin:end].astype(np.uint64), times[begin:end].astype(np.int64))
    return found.longest_ms


@pytest.mark.parametrize(
    ("clicks", "expected"),
    [
        ([(1, 100)], 0),
        ([(1, 100), (2, 900)], 0),  # who does not come back is not told of here
        ([(1, 100), (1, 130), (1, 190)], 60),
        ([(1, 100), (2, 900), (1, 120)], 800),  # it is the watermark that decides who is idle
        ([(1, 100), (2, 900), (1, 950), (2, 960)], 850),
    ],
)
def test_the_longest_absence_is_by_the_watermark_when_the_user_comes_back(
    clicks: list[tuple[int, int]], expected: int
) -> None:
    for cuts in ([], list(range(1, len(clicks)))):
        assert longest(clicks, cuts) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), min_size=1, max_size=30),
    st.sets(st.integers(0, 30)),
)
def test_it_does_not_depend_on_batches(clicks: list[tuple[int, int]], cuts: set[int]) -> None:
    last: dict[int, int] = {}
    watermark = expected = 0
    for user, time in clicks:
        watermark = max(watermark, time)
        expected = max(expected, watermark - last.get(user, watermark))
        last[user] = time
    assert longest(clicks, sorted(cut for cut in cuts if cut < len(clicks))) == expected
