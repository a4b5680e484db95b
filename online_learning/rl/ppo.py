"""Proximal policy optimisation: small steps away from the policy that chose."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from online_learning.rl.learner import ActorCritic, advantages
from online_learning.rl.networks import LATER, NOW, Batch, LearnerConfig
from online_learning.rl.plackett_luce import log_probabilities
from online_learning.rl.reinforce import entropy_of
from online_learning.rl.steps import Steps, discounted


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoConfig(LearnerConfig):
    """Attributes of its own.

    Attributes
    ----------
    clip : by how much the ratio of the new to the old probability may leave 1 and still be rewarded
    trace : lambda of generalised advantages, in [0, 1]; 1 trusts returns, 0 the critic
    entropy : weight of the bonus for being undecided
    """

    discount: float = 0.97
    passes: int = 4
    clip: float = 0.2
    trace: float = 0.95
    entropy: float = 0.003

    def __post_init__(self) -> None:
        super(PpoConfig, self).__post_init__()
        for name in ("clip", "trace"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not self.entropy >= 0:
            raise ValueError(f"entropy must be at least 0, got {self.entropy}")


class Ppo(ActorCritic):
    """Actor and critic; the actor's ratio to the propensities is clipped, item by item.

    Schulman et al., "Proximal policy optimization algorithms" (2017), equation 7, with generalised
    advantages (Schulman et al., "High-dimensional continuous control using generalized advantage
    estimation", ICLR 2016). The old policy is the one whose propensities the slates carry: one's own
    of a moment ago, or, from a log, the logging policy, near which the clip then keeps what is learned.
    """

    name = "ppo"

    def __init__(self, dim: int, config: PpoConfig | None = None) -> None:
        self.settings = config or PpoConfig()
        super().__init__(dim, self.settings)

    def learn(self, steps: Steps) -> dict[str, float]:
        """See `Learner.learn`."""
        self._begin(steps)
        discount, totals = self.settings.discount, steps.totals
        values = self._values(steps)
        worth = values.sum(axis=1)
        onward = np.where(steps.following >= 0, worth[steps.following], 0.0)
        errors = totals + discount * onward - worth
        surprise = discounted(errors, steps.following, discount * self.settings.trace)
        surprise -= totals - values[:, NOW]
        better = advantages(steps, values, surprise)
        return self._improve(steps, better, values[:, LATER] + surprise, entropy=self.settings.entropy)

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        scores = self.actor(batch.features).squeeze(-1)
        given_before, _ = log_probabilities(scores, batch)
        ratio = (given_before - batch.propensities.clamp(min=1e-6).log()).clamp(max=20.0).exp()
        near = ratio.clamp(1.0 - self.settings.clip, 1.0 + self.settings.clip)
        better = batch.columns["better"]
        gain = torch.minimum(ratio * better, near * better) * batch.shown
        return -gain.sum() / batch.shown.sum().clamp(min=1), entropy_of(scores, batch)
