"""A policy by its name."""

from online_learning.baselines import PopularityPolicy, RandomPolicy
from online_learning.epsilon_greedy import EpsilonGreedyPolicy
from online_learning.greedy import GreedyPolicy
from online_learning.linear_thompson import LinearThompsonPolicy
from online_learning.linear_ucb import LinearUcbPolicy
from online_learning.policy import Policy
from online_learning.posterior import LinearPrior
from online_learning.softmax import SoftmaxPolicy

POLICIES = ("softmax", "thompson", "linucb", "epsilon-greedy", "greedy", "random", "popularity")


def create_policy(
    name: str,
    prior: LinearPrior,
    *,
    temperature: float = 0.1,
    exploration: float = 0.3,
    epsilon: float = 0.1,
    propensity_samples: int = 256,
) -> Policy:
    """Return a new policy called `name`, one of `POLICIES`; settings of the others are ignored."""
    match name:
        case "softmax":
            return SoftmaxPolicy(prior, temperature=temperature)
        case "thompson":
            return LinearThompsonPolicy(prior, exploration=exploration, samples=propensity_samples)
        case "linucb":
            return LinearUcbPolicy(prior, exploration=exploration)
        case "epsilon-greedy":
            return EpsilonGreedyPolicy(prior, epsilon=epsilon)
        case "greedy":
            return GreedyPolicy(prior)
        case "random":
            return RandomPolicy()
        case "popularity":
            return PopularityPolicy()
    raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {name!r}")
