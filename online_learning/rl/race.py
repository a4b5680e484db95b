"""Learners and bandits side by side: each learns from the same simulated users and is measured on others."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.baselines import PopularityPolicy
from online_learning.policies.policy import Policy
from online_learning.policies.registry import Learning, create_policy
from online_learning.rl.learners import LEARNERS, create_learner
from online_learning.rl.rollout import Played, play
from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.simulator import FEATURES, Simulator
from online_learning.simulator.taste import Tastes
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates, Slates

DIM = len(FEATURES)
OPTIMUM = "myopic optimum"
SHARPER = 0.1
"""Temperature at which a learner is measured, in parts of that at which it explored."""


class MyopicOptimum(PopularityPolicy):
    """Knows the truth, and shows the slate that has most expected clicks of its own."""

    name = OPTIMUM

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`; of the simulator's own candidates only."""
        appeal = self._simulator.users.appeal(self._simulator.here, self._simulator.items)
        return super().select(replace(candidates, scores=appeal.astype(np.float32)), k=k, seeds=seeds)


@dataclass(frozen=True, slots=True)
class Raced:
    """Result of one policy.

    Attributes
    ----------
    curve : mean reward of a user, by round, while it was learning and exploring
    policy : as it ended
    """

    curve: list[float]
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The users that all learn from: `rounds` lots of `users`, who depend on `seed` alone."""

    tastes: Tastes
    config: SimulatorConfig
    seed: int
    users: int
    rounds: int

    def learn(
        self,
        name: str,
        *,
        exploration: float = 0.1,
        device: str = "auto",
        report: Callable[[float], None] = lambda done: None,
    ) -> Raced:
        """Let a learner, one of `LEARNERS`, or a policy of `POLICIES` learn.

        A policy that learns from statistics begins with no idea of the weights, learns after every slate, and
        ends as the greedy one: like the learners, it is then measured by what it has learned.

        Parameters
        ----------
        exploration : of a bandit
        report : called with the share that is done
        """
        if name in LEARNERS:
            return self._learner(name, device, report)
        return self._bandit(name, exploration, report)

    def measure(self, policy: Policy, n: int) -> Played:
        """Return what a policy earns from n users that nobody has learned from."""
        return play(self._simulator(0, n), policy, rng=self._luck(0), keep=False)[0]

    def optimum(self, n: int) -> Played:
        """Return the same of the myopic optimum."""
        simulator = self._simulator(0, n)
        return play(simulator, MyopicOptimum(simulator), rng=self._luck(0), keep=False)[0]

    def _learner(self, name: str, device: str, report: Callable[[float], None]) -> Raced:
        learner = create_learner(name, DIM, seed=self.seed, device=device)
        curve = []
        for number in range(1, self.rounds + 1):
            policy = learner.policy(temperature=learner.temperature)
            played, steps = play(self._simulator(number, self.users), policy, rng=self._luck(number))
            assert steps is not None
            learner.learn(steps)
            curve.append(played.reward)
            report(number / self.rounds)
        return Raced(curve, learner.policy(temperature=SHARPER * learner.temperature))

    def _bandit(self, name: str, exploration: float, report: Callable[[float], None]) -> Raced:
        prior = LinearPrior(np.zeros(DIM), precision=1.0)
        # Of a policy that estimates its propensities one sample will do: nobody reads them here.
        policy = create_policy(name, prior, exploration=exploration, propensity_samples=1)
        learning = Learning.of(name, prior)
        statistics = learning.empty()
        curve = []
        for number in range(1, self.rounds + 1):
            simulator = self._simulator(number, self.users)
            played, _ = play(simulator, policy, rng=self._luck(number), statistics=statistics, keep=False)
            curve.append(played.reward)
            report(number / self.rounds)
        if learning.kind == "linear" and policy.version:
            policy = create_policy("greedy", prior)
            policy.update(statistics)
        return Raced(curve, policy)

    def _simulator(self, number: int, n: int) -> Simulator:
        return Simulator(self.tastes, self.config, n=n, rng=np.random.default_rng([self.seed, number]))

    def _luck(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, 1])
