"""Small worlds for tests of the simulator and of reinforcement learning."""

import numpy as np

from online_learning.rl.steps import Steps
from online_learning.simulator.taste import Tastes


def small_tastes(seed: int = 0, n_users: int = 30, n_items: int = 60, n_groups: int = 5) -> Tastes:
    """Fitted on ratings of a world in which every user likes some groups and not others."""
    rng = np.random.default_rng(seed)
    groups = np.zeros((n_items, n_groups), np.bool_)
    groups[np.arange(n_items), np.arange(n_items) % n_groups] = True
    likes = rng.normal(size=(n_users, n_groups))
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.7)
    ratings = np.clip(3.5 + likes[users, items % n_groups] + 0.3 * rng.normal(size=len(users)), 1, 5)
    return Tastes.fit(users, items, ratings, groups, rng=rng, rank=6)


def bandit_steps(seed: int, n: int = 400, k: int = 2, c: int = 6) -> Steps:
    """Single slates drawn uniformly, in which feature 1 is the probability of a reward."""
    rng = np.random.default_rng(seed)
    features = np.stack([np.ones((n, c)), rng.random((n, c)), rng.normal(size=(n, c))], axis=2)
    index = np.argsort(rng.random((n, c)), axis=1)[:, :k]
    chance = np.take_along_axis(features[..., 1], index, axis=1)
    return Steps(
        features.astype(np.float32), np.ones((n, c), np.bool_), index,
        (rng.random((n, k)) < chance).astype(np.float32),
        np.tile(1.0 / (c - np.arange(k)), (n, 1)).astype(np.float32), np.full(n, -1), complete=True,
    )  # fmt: skip


def as_logged(steps: Steps) -> Steps:
    """The same slates as a log has them: only what was shown."""
    shown = np.take_along_axis(steps.features, steps.index[..., None], axis=1)
    index = np.tile(np.arange(steps.index.shape[1]), (len(steps), 1))
    return Steps(
        shown, np.ones(index.shape, np.bool_), index, steps.rewards, steps.propensities, steps.following,
        complete=False,
    )  # fmt: skip
