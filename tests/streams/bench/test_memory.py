import pytest

from streams.bench.memory import item_rows, slope_per_hour
from streams.state.rows import ItemState, decode


def test_the_slope_is_that_of_the_second_half():
    rising = [(float(t), 100.0 + 2.0 * t) for t in range(10)]
    assert slope_per_hour(rising) == pytest.approx(7_200.0)
    settled = [(float(t), 1_000.0 * t if t < 5 else 5_000.0) for t in range(10)]
    assert slope_per_hour(settled) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("samples", [[], [(0.0, 1.0)]])
def test_too_few_samples_have_no_slope(samples: list[tuple[float, float]]):
    assert slope_per_hour(samples) == 0.0


@pytest.mark.parametrize(("edges", "dim"), [(0, 0), (8, 0), (0, 384)])
def test_items_have_the_edges_and_the_vector_that_are_weighed(edges: int, dim: int):
    rows = list(item_rows(20, "x", 4, edges, dim))
    states = [decode(ItemState, "item-state", key.encode(), value) for key, value in rows]
    assert len({key for key, _ in rows}) == 20
    assert {sum(map(len, state.attributes.values())) for state in states} == {edges}
    assert {len(state.text or b"") for state in states} == {2 * dim}
