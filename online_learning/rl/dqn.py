"""Q-learning of slates: double DQN over the actions that the data supports."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from online_learning.rl.networks import Batch, LearnerConfig
from online_learning.rl.steps import Steps
from online_learning.rl.value_learner import ValueLearner


@dataclass(frozen=True, slots=True, kw_only=True)
class DqnConfig(LearnerConfig):
    """Attributes of its own.

    Attributes
    ----------
    replay : how many of the latest lots of slates are learned from again
    best_of_shown : where only what was shown is known, the share of the next slate that the maximum is
        over: its best items stand for all of it
    """

    discount: float = 0.97
    replay: int = 8
    best_of_shown: float = 0.5

    def __post_init__(self) -> None:
        super(DqnConfig, self).__post_init__()
        if self.replay < 1:
            raise ValueError(f"replay must be at least 1, got {self.replay}")
        if not 0.0 < self.best_of_shown <= 1.0:
            raise ValueError(f"best_of_shown must be in (0, 1], got {self.best_of_shown}")


class Dqn(ValueLearner):
    """Values under the best next slate: chosen by the network, valued by a copy of a moment ago.

    Double DQN (van Hasselt, Guez & Silver, AAAI 2016) with replay. The maximum is over candidates of the
    next request that could have been shown; from a log over those that were (batch-constrained: Fujimoto,
    Meger & Precup, ICML 2019), so that no value of a thing never tried is ever read. A logged slate of K
    holds only one set of K; the best `best_of_shown` of it, scaled up, stand for the slate to come.
    """

    name = "dqn"

    def __init__(self, dim: int, config: DqnConfig | None = None) -> None:
        self.settings = config or DqnConfig()
        super().__init__(dim, self.settings)
        self._replay: deque[Steps] = deque(maxlen=self.settings.replay)

    def learn(self, steps: Steps) -> dict[str, float]:
        """See `Learner.learn`."""
        self._begin(steps)
        self._replay.append(steps)
        losses = []
        for rows in self._batches(len(steps)):
            lot = self._replay[int(self._rng.integers(len(self._replay)))]
            if lot is not steps:
                rows = self._rng.integers(0, len(lot), len(rows))
            losses.append(self._fit(lot, rows))
        self._refresh()
        return {"loss": float(np.mean(losses))}

    def _worth(self, batch: Batch) -> Tensor:
        lengths = batch.shown.sum(dim=1)
        taken = lengths
        if not batch.complete:
            taken = (lengths * self.settings.best_of_shown).ceil().long()
        order = self.actor(batch.features).sum(dim=-1).masked_fill(~batch.valid, -torch.inf)
        best = order.argsort(dim=1, descending=True)
        values = torch.gather(self.target(batch.features).sum(dim=-1), 1, best)
        counted = torch.arange(values.shape[1], device=values.device) < taken.unsqueeze(1)
        scale = lengths / taken.clamp(min=1)
        worth: Tensor = (values * counted).sum(dim=1) * scale
        return worth
