import numpy as np
import pytest

from streams.attack.fakes import Known
from tests.benchmarks import quality_generated
from tests.benchmarks.poison import PENALTY
from tests.benchmarks.quality_generated import described, generated, learned, weighed_ease

N_USERS, N_ITEMS = 120, 150


@pytest.fixture(name="log")
def honest_log() -> np.ndarray:
    """Users of two tastes."""
    rng = np.random.default_rng(0)
    odds = np.linspace(0.5, 0.02, N_ITEMS) * np.where(np.arange(N_ITEMS) % 2, 1.6, 0.2)
    return rng.random((N_USERS, N_ITEMS)) < np.where(np.arange(N_USERS)[:, None] % 2, odds, odds[::-1])


def test_what_is_learned_of_generated_fakes_tells_those_of_other_targets(
    log: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_generated, "KINDS", ("random",))
    pasts = [np.flatnonzero(row)[-5:] for row in log]
    known = Known(log.sum(0), [frozenset()] * N_ITEMS, pasts)
    made = [row for _, row in generated(log, known, np.random.default_rng(0))]
    ((rows, fake), *_) = [row for _, row in generated(log, known, np.random.default_rng(1))]
    logit = learned(made)(rows)
    assert np.mean(logit[fake][:, None] > logit[~fake]) > 0.9


def test_a_user_who_counts_for_nothing_is_as_good_as_absent(log: np.ndarray) -> None:
    shares = np.ones(N_USERS, np.float32)
    shares[::3] = 0.0
    np.testing.assert_allclose(
        weighed_ease(log, shares), weighed_ease(log[shares > 0], shares[shares > 0]), atol=1e-6
    )
    assert np.abs(weighed_ease(log, shares) - weighed_ease(log, np.ones_like(shares))).max() > 1 / PENALTY


def test_users_are_described_by_numbers_also_where_they_like_one_item_or_none(log: np.ndarray) -> None:
    log[0], log[1] = False, np.arange(N_ITEMS) == 3
    assert np.isfinite(described(log)).all()
