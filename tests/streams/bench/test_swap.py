"""What swaps cost is told by rounds, which a busy machine does not disturb alike."""

import pytest

from streams.bench.swap import Phase, to_none


def test_a_round_is_compared_with_the_same_round_without_swaps() -> None:
    none = Phase("none", p99_by_round_ms=[10.0, 200.0, 20.0])
    swapped = Phase("swapped", p99_by_round_ms=[11.0, 180.0, 22.0])

    assert to_none(swapped, none) == pytest.approx([1.1, 0.9, 1.1])
