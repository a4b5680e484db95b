import numpy as np
import pytest
import torch

from online_learning.policies.softmax import conditional_propensities
from online_learning.rl.networks import to_batch
from online_learning.rl.plackett_luce import log_probabilities
from online_learning.rl.steps import Steps
from tests.online_learning.rl_worlds import as_logged

CPU = torch.device("cpu")


def slates(scores: np.ndarray, logging: np.ndarray, n: int, k: int) -> Steps:
    """n slates of k drawn by the Plackett-Luce model of `logging` logits; features are the scores."""
    rng = np.random.default_rng(0)
    keys = logging + rng.gumbel(size=(n, len(scores)))
    index = np.argsort(-keys, axis=1)[:, :k]
    propensities = conditional_propensities(np.tile(logging, (n, 1)), index)
    features = np.tile(scores.astype(np.float32)[:, None], (n, 1, 1))
    return Steps(
        features, np.ones((n, len(scores)), bool), index, np.zeros((n, k), np.float32), propensities,
        np.full(n, -1), complete=True,
    )  # fmt: skip


def log_probabilities_of(steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    batch = to_batch(steps, np.arange(len(steps)), CPU)
    given_before, first = log_probabilities(batch.features[..., 0], batch)
    return given_before.exp().numpy(), first.exp().numpy()


def test_with_all_candidates_they_are_those_of_the_policy_that_serves():
    scores = np.array([0.3, -1.0, 2.0, 0.5, 0.0])
    steps = slates(scores, np.zeros(5), 50, 3)
    wanted = conditional_propensities(np.tile(scores, (50, 1)), steps.index)
    given_before, first = log_probabilities_of(steps)
    assert given_before == pytest.approx(wanted, abs=1e-4)
    assert first[:, 0] == pytest.approx(wanted[:, 0], abs=1e-4)


def test_from_what_was_shown_the_sum_over_all_candidates_is_estimated_without_bias():
    scores = np.array([0.3, -1.0, 2.0, 0.5, 0.0, 1.0, 0.2, -0.4])
    steps = slates(scores, 0.5 * scores, 40_000, 3)
    _, first = log_probabilities_of(as_logged(steps))
    shown = np.exp(np.take_along_axis(steps.features[..., 0], steps.index, axis=1))
    total = shown[:, 0] / first[:, 0]
    assert total.mean() == pytest.approx(np.exp(scores).sum(), rel=0.01)


def test_of_a_log_without_chance_only_the_slate_is_compared():
    steps = as_logged(slates(np.array([0.0, 1.0, 2.0]), np.array([50.0, 20.0, -10.0]), 4, 2))
    given_before, _ = log_probabilities_of(steps)
    pair = np.exp([0.0, 1.0])
    assert given_before[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert pair[0] / pair.sum() - 1e-6 <= given_before[0, 0] < 0.5


def test_gradients_are_finite_where_a_slate_ends_early_and_a_score_is_extreme():
    steps = slates(np.array([300.0, 0.0, -300.0, 1.0]), np.zeros(4), 20, 4)
    steps.index[:, 3] = -1
    for part in (steps, as_logged(steps)):
        batch = to_batch(part, np.arange(20), CPU)
        scores = batch.features[..., 0].clone().requires_grad_()
        given_before, first = log_probabilities(scores, batch)
        (given_before + first).sum().backward()
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()
