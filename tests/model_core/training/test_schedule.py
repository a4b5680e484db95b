import pytest

from model_core.training.schedule import WARM_UP, pace


def test_steps_grow_through_the_warm_up_and_then_shrink_to_nothing() -> None:
    paces = [pace(at / 200) for at in range(201)]
    top = round(200 * WARM_UP)
    assert paces[: top + 1] == sorted(paces[: top + 1])
    assert paces[top:] == sorted(paces[top:], reverse=True)
    assert 0 < paces[0] < 0.05
    assert paces[top] == 1.0
    assert pace(WARM_UP + (1 - WARM_UP) / 2) == pytest.approx(0.5)
    assert paces[-1] == pytest.approx(0.0, abs=1e-12)
