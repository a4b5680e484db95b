"""A learner by its name."""

from typing import Any

from online_learning.rl.dqn import Dqn, DqnConfig
from online_learning.rl.learner import Learner
from online_learning.rl.networks import LearnerConfig
from online_learning.rl.ppo import Ppo, PpoConfig
from online_learning.rl.reinforce import Reinforce, ReinforceConfig
from online_learning.rl.sarsa import Sarsa

LEARNERS = ("reinforce", "ppo", "dqn", "sarsa")


def create_learner(name: str, dim: int, **options: Any) -> Learner:
    """Return a new learner, one of `LEARNERS`; options are those of its config."""
    match name:
        case "reinforce":
            return Reinforce(dim, ReinforceConfig(**options))
        case "ppo":
            return Ppo(dim, PpoConfig(**options))
        case "dqn":
            return Dqn(dim, DqnConfig(**options))
        case "sarsa":
            return Sarsa(dim, LearnerConfig(**options))
    raise ValueError(f"algorithm must be one of {', '.join(LEARNERS)}, got {name!r}")
