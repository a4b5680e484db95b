"""SARSA of slates: values under the policy that chose."""

import numpy as np
from torch import Tensor

from online_learning.rl.networks import LATER, NOW, Batch, LearnerConfig
from online_learning.rl.steps import Steps
from online_learning.rl.value_learner import ValueLearner


class Sarsa(ValueLearner):
    """Values under the slate that did come next (Rummery & Niranjan 1994).

    On its own slates it improves as its policy does. From a log it values the logging policy, and the policy
    that it serves is one step better than that one: the most that a log supports without any maximum.
    """

    name = "sarsa"

    def __init__(self, dim: int, config: LearnerConfig | None = None) -> None:
        super().__init__(dim, config or LearnerConfig())

    def learn(self, steps: Steps) -> dict[str, float]:
        """See `Learner.learn`."""
        self._begin(steps)
        self._refresh()
        losses = [self._fit(steps, rows) for rows in self._batches(len(steps))]
        return {"loss": float(np.mean(losses))}

    def _worth(self, batch: Batch) -> Tensor:
        values = self.target(batch.features)
        shown = batch.of_shown(values[..., NOW] + values[..., LATER])
        worth: Tensor = (shown * batch.shown).sum(dim=1)
        return worth
