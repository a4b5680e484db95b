"""REINFORCE with top-K off-policy correction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from online_learning.rl.learner import ActorCritic, advantages
from online_learning.rl.networks import LATER, Batch, LearnerConfig
from online_learning.rl.plackett_luce import log_probabilities
from online_learning.rl.steps import Steps, discounted


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforceConfig(LearnerConfig):
    """Attributes of its own.

    Attributes
    ----------
    largest_weight : to which the ratio of the learned to the logging policy is cut
    top_k : whether to correct for a slate of K; without, every item is learned as if it stood alone
    entropy : weight of the bonus for being undecided
    """

    passes: int = 4
    largest_weight: float = 10.0
    top_k: bool = True
    entropy: float = 0.003

    def __post_init__(self) -> None:
        super(ReinforceConfig, self).__post_init__()
        if not self.largest_weight > 0:
            raise ValueError(f"largest_weight must be above 0, got {self.largest_weight}")
        if not self.entropy >= 0:
            raise ValueError(f"entropy must be at least 0, got {self.entropy}")


class Reinforce(ActorCritic):
    """Raises the log-probability of a shown item by what came of it, less what was to be expected.

    The gradient of an item is weighted by the ratio of the learned to the logging policy at its position,
    cut at `largest_weight`, and by lambda_K = K (1 - pi)^(K - 1), which is near K for an item that would
    hardly be in the slate and near 0 for one that surely is (Chen et al., "Top-K off-policy correction for
    a REINFORCE recommender system", WSDM 2019, equations 3, 6 and 7). The correction is of first order: the
    ratio is of the slate itself, not of what led there.
    """

    name = "reinforce"

    def __init__(self, dim: int, config: ReinforceConfig | None = None) -> None:
        self.settings = config or ReinforceConfig()
        super().__init__(dim, self.settings)

    def learn(self, steps: Steps) -> dict[str, float]:
        """See `Learner.learn`."""
        self._begin(steps)
        totals = steps.totals
        later = discounted(totals, steps.following, self.settings.discount) - totals
        values = self._values(steps)
        better = advantages(steps, values, later - values[:, LATER])
        return self._improve(steps, better, later, entropy=self.settings.entropy)

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        scores = self.actor(batch.features).squeeze(-1)
        given_before, first = log_probabilities(scores, batch)
        with torch.no_grad():
            ratio = (given_before - batch.propensities.clamp(min=1e-6).log()).exp()
            weight = ratio.clamp(max=self.settings.largest_weight)
            if self.settings.top_k:
                k = batch.shown.sum(dim=1, keepdim=True).float()
                weight = weight * k * (1.0 - first.exp()).clamp(min=0.0) ** (k - 1.0).clamp(min=0.0)
            weight = weight * batch.columns["better"] * batch.shown
        n = batch.shown.sum().clamp(min=1)
        return -(weight * given_before).sum() / n, entropy_of(scores, batch)


def entropy_of(scores: Tensor, batch: Batch) -> Tensor:
    """Return the mean entropy, in nats, of what is drawn first from the candidates that are known."""
    log = torch.log_softmax(scores.masked_fill(~batch.valid, -1e9), dim=1)
    entropy: Tensor = -(log.exp() * log).sum(dim=1).mean()
    return entropy
