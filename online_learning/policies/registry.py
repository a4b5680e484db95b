"""A policy by its name, and the statistics it learns from: the one list of all policies."""

from dataclasses import dataclass, replace
from typing import Any

from online_learning.policies.arm_ucb import DisjointUcbPolicy, HybridUcbPolicy
from online_learning.policies.baselines import PopularityPolicy, RandomPolicy
from online_learning.policies.disjoint_thompson import DisjointThompsonPolicy
from online_learning.policies.diverse_softmax import DiverseSoftmaxPolicy
from online_learning.policies.epsilon_greedy import EpsilonGreedyPolicy
from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.linear_thompson import LinearThompsonPolicy
from online_learning.policies.linear_ucb import LinearUcbPolicy
from online_learning.policies.logistic_thompson import LogisticThompsonPolicy
from online_learning.policies.options import names_of, part_of
from online_learning.policies.policy import Policy, RegisteredPolicy
from online_learning.policies.policy_release import ReleasedPolicy
from online_learning.policies.softmax import SoftmaxPolicy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.relative import RelativeStatistics
from online_learning.statistics.sums import Statistics

REGISTRY: dict[str, type[RegisteredPolicy]] = {
    policy.name: policy
    for policy in (
        SoftmaxPolicy,
        DiverseSoftmaxPolicy,
        LinearThompsonPolicy,
        DisjointThompsonPolicy,
        LogisticThompsonPolicy,
        LinearUcbPolicy,
        DisjointUcbPolicy,
        HybridUcbPolicy,
        EpsilonGreedyPolicy,
        GreedyPolicy,
        RandomPolicy,
        PopularityPolicy,
        ReleasedPolicy,
    )
}

POLICIES = tuple(name for name, policy in REGISTRY.items() if policy is not ReleasedPolicy)
"""Those that are made from a prior alone."""


def find(name: str) -> type[RegisteredPolicy]:
    """Return the class of a policy; raise ValueError, with the names there are, for another name."""
    if name not in REGISTRY:
        raise ValueError(f"policy must be one of {', '.join(REGISTRY)}, got {name!r}")
    return REGISTRY[name]


@dataclass(frozen=True, slots=True)
class Learning:
    """Makes and reads the statistics that a policy learns from.

    Statistics of one kind, half-life or release say nothing to a policy of another; their feature spaces
    have different names, so they never meet.

    Attributes
    ----------
    statistics : the class of the statistics
    prior : as given, with the statistics' feature space in place of the features'
    half_life_ms : of an observation's weight; None forgets nothing
    """

    statistics: type[Statistics]
    prior: LinearPrior
    half_life_ms: int | None = None

    @classmethod
    def of(cls, policy: str, prior: LinearPrior, *, half_life_ms: int | None = None) -> "Learning":
        """Return what the policy of this name learns from; linear statistics where it learns nothing.

        They are of relative corrections where the prior is relative. So it is for a name that the registry
        does not have, such as a policy made of others.
        """
        known = REGISTRY.get(policy)
        statistics = (known.learns_from if known else None) or LinearStatistics
        if statistics is LinearStatistics and prior.relative:
            statistics = RelativeStatistics
        space = prior.feature_space
        if statistics is not LinearStatistics:
            space += f"/{statistics.kind}"
        if half_life_ms is not None:
            space += f"/half-life {half_life_ms}"
        return cls(statistics, replace(prior, feature_space=space), half_life_ms)

    @property
    def kind(self) -> str:
        """See `Statistics.kind`."""
        return self.statistics.kind

    @property
    def feature_space(self) -> str:
        """The name that these statistics carry."""
        return self.prior.feature_space

    def empty(self) -> Statistics:
        """Return statistics of nothing."""
        return self.statistics.blank(self.prior, half_life_ms=self.half_life_ms)

    def read(self, data: bytes) -> Statistics:
        """Return what `Statistics.to_bytes` wrote; raise ValueError on anything else."""
        return self.statistics.read_for(data, self.prior, half_life_ms=self.half_life_ms)


def create_policy(
    name: str, prior: LinearPrior, *, half_life_ms: int | None = None, **options: Any
) -> Policy:
    """Return a new policy called `name`.

    It learns from the statistics of `Learning.of` the same name, prior and half-life.

    Parameters
    ----------
    options : of this policy or of others, whose are left out, so that one set of settings makes any policy

    Raises
    ------
    ValueError
        No policy has this name or this option, or a value breaks its rule.
    """
    policy = find(name)
    known = dict.fromkeys(option for one in REGISTRY.values() for option in names_of(one.Options))
    if unknown := options.keys() - known.keys():
        raise ValueError(f"options must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    prior = Learning.of(name, prior, half_life_ms=half_life_ms).prior
    return policy.make(prior, **part_of(policy.Options, options))
