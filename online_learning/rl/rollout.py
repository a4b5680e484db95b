"""Plays a policy in the simulator: what it earns, and the slates to learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.policy import Policy
from online_learning.rl.steps import Steps
from online_learning.simulator.simulator import Simulator
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, Slates


@dataclass(frozen=True, slots=True)
class Played:
    """Steps of n users until all had finished.

    Attributes
    ----------
    clicks, slates, regret : (n,) float64, sums over a user's slates; regret is in expected clicks, against
        the best slate of the moment
    bots : (n,) bool
    """

    clicks: NDArray[np.float64]
    slates: NDArray[np.float64]
    regret: NDArray[np.float64]
    bots: NDArray[np.bool_]

    @property
    def reward(self) -> float:
        """Clicks of a user over all sessions, on average; bots do not count."""
        return float(self.clicks[~self.bots].mean())

    def figures(self) -> dict[str, float]:
        """Return reward and its standard error, slates a user, and regret a slate; without bots."""
        people = ~self.bots
        clicks, slates = self.clicks[people], self.slates[people]
        return {
            "reward": self.reward,
            "error": float(clicks.std() / np.sqrt(len(clicks))),
            "slates": float(slates.mean()),
            "regret": float(self.regret[people].sum() / slates.sum()),
        }


def play(
    simulator: Simulator,
    policy: Policy,
    *,
    rng: np.random.Generator,
    statistics: Statistics | None = None,
    keep: bool = True,
) -> tuple[Played, Steps | None]:
    """Let a policy choose every slate of a simulator's users, and return what came of it.

    Parameters
    ----------
    rng : of the policy's seeds
    statistics : what a policy that learns from them learns, after every slate; the recommender knows how
        positions are looked at, and says so in the weights of impressions
    keep : whether to return the slates
    """
    n, k = len(simulator.users), simulator.config.slate
    clicks, slates, regret = np.zeros(n), np.zeros(n), np.zeros(n)
    kept: list[tuple[NDArray[np.int64], Steps]] = []
    while len(here := simulator.here):
        candidates = simulator.candidates
        seeds = rng.integers(0, 2**63, len(here)).astype(np.uint64)
        chosen = policy.select(candidates, k=np.full(len(here), k), seeds=seeds)
        outcome = simulator.step(chosen.index)
        clicked = outcome.reaction.clicks
        clicks[here] += clicked.sum(axis=1)
        slates[here] += 1
        regret[here] += outcome.best - outcome.expected
        if statistics is not None:
            _tell(statistics, simulator, candidates, chosen.index, clicked)
            policy.update(statistics)
        if keep:
            kept.append((here, _steps(candidates, chosen, clicked)))
    return Played(clicks, slates, regret, simulator.users.bots), _joined(kept, n) if keep else None


def _tell(
    statistics: Statistics,
    simulator: Simulator,
    candidates: Candidates,
    index: NDArray[np.int64],
    clicked: NDArray[np.bool_],
) -> None:
    row, position = np.nonzero(index >= 0)
    column, hit = index[row, position], clicked[row, position]
    shown = candidates.features[row, column]
    items = None if candidates.arms is None else candidates.arms[row, column]
    looked = simulator.users.examination(index.shape[1])[position]
    statistics.add_impressions(shown, arms=items, weights=looked)
    statistics.add_rewards(shown[hit], np.ones(hit.sum()), arms=None if items is None else items[hit])


def _steps(candidates: Candidates, chosen: Slates, clicked: NDArray[np.bool_]) -> Steps:
    return Steps(
        candidates.features, candidates.valid, chosen.index, clicked.astype(np.float32), chosen.propensities,
        np.full(len(clicked), -1), complete=True,
    )  # fmt: skip


def _joined(kept: list[tuple[NDArray[np.int64], Steps]], n: int) -> Steps:
    """One lot of slates; a user's next is looked up from the end."""
    names = ("features", "valid", "index", "rewards", "propensities")
    columns = {name: np.concatenate([getattr(part, name) for _, part in kept]) for name in names}
    following = np.full(len(columns["index"]), -1)
    latest, end = np.full(n, -1), len(following)
    for here, _ in reversed(kept):
        rows = np.arange(end - len(here), end)
        following[rows] = latest[here]
        latest[here] = rows
        end -= len(here)
    return Steps(**columns, following=following, complete=True)
