"""A policy by its name, and the statistics it learns from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from online_learning.policies.arm_ucb import DisjointUcbPolicy, HybridUcbPolicy
from online_learning.policies.baselines import PopularityPolicy, RandomPolicy
from online_learning.policies.disjoint_thompson import DisjointThompsonPolicy
from online_learning.policies.diverse_softmax import DiverseSoftmaxPolicy, SlateRules
from online_learning.policies.epsilon_greedy import EpsilonGreedyPolicy
from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.linear_thompson import LinearThompsonPolicy
from online_learning.policies.linear_ucb import LinearUcbPolicy
from online_learning.policies.logistic_thompson import LogisticThompsonPolicy
from online_learning.policies.policy import Policy
from online_learning.policies.softmax import SoftmaxPolicy
from online_learning.rl.release import read_policy_release
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.logistic import LogisticStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics

POLICIES = (
    "softmax",
    "diverse-softmax",
    "thompson",
    "thompson-disjoint",
    "thompson-logistic",
    "linucb",
    "linucb-disjoint",
    "linucb-hybrid",
    "epsilon-greedy",
    "greedy",
    "random",
    "popularity",
)

RL = "rl"
"""The policy that is read from a release of its own instead of made from a prior."""

Kind = Literal["linear", "arms", "logistic"]

_KINDS: dict[str, Kind] = {
    "thompson-disjoint": "arms",
    "linucb-disjoint": "arms",
    "linucb-hybrid": "arms",
    "thompson-logistic": "logistic",
}


@dataclass(frozen=True, slots=True)
class Learning:
    """What a policy learns from: makes its statistics and reads them.

    Statistics of one kind, half-life or release say nothing to a policy of another; their feature spaces
    have different names, so they never meet.

    Attributes
    ----------
    kind : "linear" (one sum), "arms" (a sum for each item) or "logistic"
    prior : as given, with the statistics' feature space in place of the features'
    half_life_ms : of an observation's weight; None forgets nothing
    """

    kind: Kind
    prior: LinearPrior
    half_life_ms: int | None = None

    @classmethod
    def of(cls, policy: str, prior: LinearPrior, *, half_life_ms: int | None = None) -> "Learning":
        """Return what the policy of this name learns from."""
        kind: Kind = _KINDS.get(policy, "linear")
        space = prior.feature_space
        if kind != "linear":
            space += f"/{kind}"
        if half_life_ms is not None:
            space += f"/half-life {half_life_ms}"
        return cls(kind, replace(prior, feature_space=space), half_life_ms)

    @property
    def feature_space(self) -> str:
        """The name that these statistics carry."""
        return self.prior.feature_space

    def empty(self) -> Statistics:
        """Return statistics of nothing."""
        if self.kind == "logistic":
            return LogisticStatistics(self.prior, half_life_ms=self.half_life_ms)
        kind = ArmStatistics if self.kind == "arms" else LinearStatistics
        return kind(len(self.prior.weights), feature_space=self.feature_space, half_life_ms=self.half_life_ms)

    def read(self, data: bytes) -> Statistics:
        """Return what `Statistics.to_bytes` wrote; raise ValueError on anything else."""
        dim = len(self.prior.weights)
        if self.kind == "logistic":
            return LogisticStatistics.read(data, self.prior, half_life_ms=self.half_life_ms)
        if self.kind == "arms":
            return ArmStatistics.from_bytes(
                data, dim=dim, feature_space=self.feature_space, half_life_ms=self.half_life_ms
            )
        return LinearStatistics.from_bytes(data, dim=dim, feature_space=self.feature_space)


def create_policy(
    name: str,
    prior: LinearPrior,
    *,
    half_life_ms: int | None = None,
    temperature: float = 0.1,
    exploration: float = 0.3,
    epsilon: float = 0.1,
    propensity_samples: int = 256,
    rules: SlateRules | None = None,
    policy_release: Path | None = None,
) -> Policy:
    """Return a new policy called `name`, one of `POLICIES` or `RL`; settings of the others are ignored.

    It learns from the statistics of `Learning.of` the same name, prior and half-life. RL reads the folder
    `policy_release`, which must be of the prior's features.
    """
    if name == RL:
        if policy_release is None:
            raise ValueError("policy_release must be a folder when policy is 'rl', got None")
        # What follows a slash tells sums of statistics apart, not the features that they are of.
        space = prior.feature_space.partition("/")[0]
        return read_policy_release(policy_release, dim=len(prior.weights), feature_space=space).policy()
    if name not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {name!r}")
    prior = Learning.of(name, prior, half_life_ms=half_life_ms).prior
    match name:
        case "softmax":
            return SoftmaxPolicy(prior, temperature=temperature)
        case "diverse-softmax":
            return DiverseSoftmaxPolicy(prior, temperature=temperature, rules=rules)
        case "thompson":
            return LinearThompsonPolicy(prior, exploration=exploration, samples=propensity_samples)
        case "thompson-disjoint":
            return DisjointThompsonPolicy(prior, exploration=exploration, samples=propensity_samples)
        case "thompson-logistic":
            return LogisticThompsonPolicy(prior, exploration=exploration, samples=propensity_samples)
        case "linucb":
            return LinearUcbPolicy(prior, exploration=exploration)
        case "linucb-disjoint":
            return DisjointUcbPolicy(prior, exploration=exploration)
        case "linucb-hybrid":
            return HybridUcbPolicy(prior, exploration=exploration)
        case "epsilon-greedy":
            return EpsilonGreedyPolicy(prior, epsilon=epsilon)
        case "greedy":
            return GreedyPolicy(prior)
        case "random":
            return RandomPolicy()
    return PopularityPolicy()
