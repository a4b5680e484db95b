"""Simulated contextual bandits for `bandit_regret`, and how a learner is measured in them. numpy only.

It is imported by ours and, as a script's neighbour, by the peers under their own Python.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

ROUNDS, BATCH, N_ACTIONS, DIM = 1_000, 20, 10, 5
WORLDS = ("linear", "logistic")
TUNING_SEEDS = range(1_000, 1_020)


class World(NamedTuple):
    """contexts (ROUNDS, 1 + DIM) with a constant first, chances (ROUNDS, N_ACTIONS), luck (ROUNDS,)."""

    contexts: np.ndarray
    chances: np.ndarray
    luck: np.ndarray


def make_world(name: str, seed: int) -> World:
    """Contexts and effects as in obp's synthetic data: normal contexts, a linear score per action."""
    rng = np.random.default_rng(seed)
    contexts = np.concatenate([np.ones((ROUNDS, 1)), rng.normal(size=(ROUNDS, DIM))], axis=1)
    score = contexts @ rng.normal(size=(1 + DIM, N_ACTIONS))
    score = (score - score.mean()) / score.std()
    linear = np.clip(0.3 + 0.12 * score, 0.01, 0.99)
    chances = linear if name == "linear" else 1.0 / (1.0 + np.exp(2.0 - 1.5 * score))
    return World(contexts, chances, rng.random(ROUNDS))


def regret(world: World, learner: Any) -> np.ndarray:
    """Return the expected reward lost to the best actions up to each batch's end: (ROUNDS // BATCH,).

    Parameters
    ----------
    learner : choose(contexts) -> actions; learn(contexts, actions, rewards), batch after batch
    """
    lost = np.zeros(ROUNDS)
    for first in range(0, ROUNDS, BATCH):
        rows = np.arange(first, first + BATCH)
        contexts = world.contexts[rows]
        actions = np.asarray(learner.choose(contexts), np.int64)
        chance = world.chances[rows, actions]
        learner.learn(contexts, actions, (world.luck[rows] < chance).astype(float))
        lost[rows] = world.chances[rows].max(axis=1) - chance
    return lost.cumsum()[BATCH - 1 :: BATCH]


def measure(
    make: Callable[[float, int], Any], settings: Iterable[float], seeds: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, for each world, the setting that was best on the tuning seeds and the regret of all seeds.

    Parameters
    ----------
    make : (setting, seed) to a new learner
    """
    found = {}
    choices = list(settings)
    for name in WORLDS:
        best = choices[0]
        if len(choices) > 1:
            tuning = [make_world(name, seed) for seed in TUNING_SEEDS]
            losses = [
                sum(regret(world, make(choice, seed))[-1] for seed, world in enumerate(tuning))
                for choice in choices
            ]
            best = choices[int(np.argmin(losses))]
        runs = [regret(make_world(name, seed), make(best, seed)) for seed in range(seeds)]
        found[name] = (best, np.array(runs))
    return found
