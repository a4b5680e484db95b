import numpy as np

from model_core.training.calibration import platt


def sample(slope: float, n_users: int = 200, n: int = 60, seed: int = 0):  # type: ignore[no-untyped-def]
    """Scores whose level differs by user for no reason, and labels by what differs within each."""
    rng = np.random.default_rng(seed)
    inside = rng.normal(size=(n_users, n))
    level = rng.normal(scale=2.0, size=(n_users, 1))
    labels = rng.random((n_users, n)) < 1 / (1 + np.exp(-(slope * inside - 2.0)))
    users = np.broadcast_to(np.arange(n_users)[:, None], labels.shape)
    return (inside + level).ravel(), labels.ravel(), users.ravel()


def test_the_slope_is_that_within_users_and_the_mean_is_that_of_all() -> None:
    scores, labels, users = sample(slope=1.5)
    slope, intercept = platt(scores, labels, users)
    assert abs(slope - 1.5) < 0.1
    assert abs((1 / (1 + np.exp(-(slope * scores + intercept)))).mean() - labels.mean()) < 1e-3


def test_an_order_is_never_turned_around() -> None:
    scores, labels, users = sample(slope=-1.0)
    assert platt(scores, labels, users)[0] > 0


def test_too_few_labels_change_nothing() -> None:
    scores, labels, users = sample(slope=1.0)
    assert platt(scores, np.zeros_like(labels), users) == (1.0, 0.0)
    assert platt(scores[:0], labels[:0], users[:0]) == (1.0, 0.0)


def test_separable_labels_have_a_finite_answer() -> None:
    scores, _, users = sample(slope=1.0)
    assert np.isfinite(platt(scores, scores > np.median(scores), users)).all()
