"""Base of DQN and SARSA: an item's value within a slate, fitted to rewards and to the next slate's value."""

from abc import abstractmethod
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from online_learning.rl.learner import Learner
from online_learning.rl.networks import LATER, NOW, Batch, LearnerConfig, to_batch
from online_learning.rl.steps import Steps


class ValueLearner(Learner):
    """Values of slates that are sums over their items, so that the best slate is the K best items.

    Q(s, slate) = sum of q(s, item), in the manner of value decomposition (Sunehag et al.,
    "Value-decomposition networks", AAMAS 2018; SlateQ, Ie et al., IJCAI 2019, weights by a choice model
    instead). NOW of an item is fitted to its own reward, the sum of LATER over the slate to the discounted
    value of the next slate.
    """

    temperature = 0.1  # scores are clicks here, and items differ by tenths of them

    def __init__(self, dim: int, config: LearnerConfig) -> None:
        super().__init__(dim, config, outputs=2)
        self.target = deepcopy(self.actor)

    def _refresh(self) -> None:
        self.target.load_state_dict(self.actor.state_dict())

    def _fit(self, steps: Steps, rows: NDArray[np.int64]) -> float:
        """Take one gradient step on some of the slates; return its loss."""
        batch = to_batch(steps, rows, self.device)
        goes_on = steps.following[rows] >= 0
        onward = to_batch(steps, np.where(goes_on, steps.following[rows], 0), self.device)
        with torch.no_grad():
            worth = self._worth(onward) * torch.from_numpy(goes_on).to(self.device)
        values = self.actor(batch.features)
        now, later = (batch.of_shown(values[..., part]) for part in (NOW, LATER))
        errors = (now - batch.rewards).square() * batch.shown
        future = (later * batch.shown).sum(dim=1) - self.config.discount * worth
        loss = errors.sum() / batch.shown.sum().clamp(min=1) + future.square().mean()
        self._descend(loss)
        return float(loss.item())

    @abstractmethod
    def _worth(self, batch: Batch) -> Tensor:
        """Return (b,), what the target network says the next slates are worth."""
