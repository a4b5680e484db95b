"""Base of learners: a network for candidates, an optimiser, and the policy that they make."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from online_learning.policies.rl_policy import RlPolicy
from online_learning.rl.networks import LATER, NOW, Batch, LearnerConfig, Network, to_batch
from online_learning.rl.plackett_luce import log_probabilities
from online_learning.rl.steps import Steps


class Learner(ABC):
    """Learns from slates, and scores candidates.

    Parameters
    ----------
    dim : number of features F
    config : of this learner

    Attributes
    ----------
    actor : the network whose summed outputs are a candidate's score
    temperature : at which its own policy is meant to explore, in units of scores
    """

    name: ClassVar[str]
    temperature: ClassVar[float] = 1.0

    def __init__(self, dim: int, config: LearnerConfig, *, outputs: int) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.config = config
        self.device = config.torch_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            networks = self._networks(dim, outputs)
        self.actor = networks["actor"]
        self._modules = networks
        self._rng = np.random.default_rng(config.seed)
        parameters = [parameter for network in networks.values() for parameter in network.parameters()]
        self._parameters = parameters
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
        self._begun = False

    @abstractmethod
    def learn(self, steps: Steps) -> dict[str, float]:
        """Learn from some slates; return what it came to, by name: losses, entropies and the like."""

    def policy(self, *, temperature: float = 1.0) -> RlPolicy:
        """Return what has been learned so far, as a policy that no longer changes."""
        return RlPolicy(self.actor.scorer(), temperature=temperature)

    def propensities(self, steps: Steps, *, temperature: float) -> NDArray[np.float64]:
        """Return how probable each position of logged slates is under `policy`, given those before.

        (N, K) float64; an estimate where `steps` has only what was shown (see `log_probabilities`).
        """
        batch = to_batch(steps, np.arange(len(steps)), self.device)
        with torch.no_grad():
            scores = self.actor(batch.features).sum(dim=-1) / temperature
            given_before, _ = log_probabilities(scores, batch)
        return np.where(steps.shown, given_before.exp().cpu().numpy().astype(np.float64), 0.0)

    def _networks(self, dim: int, outputs: int) -> dict[str, Network]:
        return {"actor": Network(dim, self.config.hidden, outputs=outputs).to(self.device)}

    def _begin(self, steps: Steps) -> None:
        """Take the scale of features from the first slates there are, once."""
        dim = len(self.actor.mean)
        if steps.features.shape[2] != dim:
            raise ValueError(f"steps must have the learner's {dim} features, got {steps.features.shape[2]}")
        if not self._begun:
            for network in self._modules.values():
                network.normalise(steps.features[steps.valid])
            self._begun = True

    def _batches(self, n: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each gradient step, every row once a pass."""
        for _ in range(self.config.passes):
            order = self._rng.permutation(n)
            for first in range(0, n, self.config.batch_size):
                yield order[first : first + self.config.batch_size]

    def _descend(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.largest_gradient)
        self._optimiser.step()


class ActorCritic(Learner):
    """A learner of preferences, whose critic says what a state is worth."""

    def __init__(self, dim: int, config: LearnerConfig) -> None:
        super().__init__(dim, config, outputs=1)
        self.critic = self._modules["critic"]

    def _networks(self, dim: int, outputs: int) -> dict[str, Network]:
        critic = Network(dim, self.config.hidden, outputs=2).to(self.device)
        return super()._networks(dim, outputs) | {"critic": critic}

    @abstractmethod
    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of the actor and its entropy; `batch` has the column `better`, (b, K)."""

    def _improve(
        self, steps: Steps, better: NDArray[np.float64], later: NDArray[np.float64], *, entropy: float
    ) -> dict[str, float]:
        """Descend on actor and critic; return their mean losses.

        Parameters
        ----------
        better : (N, K) float64, of `advantages`
        later : (N,) float64, what the critic is to expect after each slate
        entropy : weight of the bonus for being undecided
        """
        losses = []
        for rows in self._batches(len(steps)):
            batch = to_batch(steps, rows, self.device, better=better, now=steps.totals, later=later)
            of_actor, undecided = self._actor_loss(batch)
            of_critic = critic_loss(self.critic(batch.state()), batch.columns["now"], batch.columns["later"])
            self._descend(of_actor - entropy * undecided + of_critic)
            losses.append((of_actor.item(), of_critic.item(), undecided.item()))
        return dict(zip(("actor", "critic", "entropy"), np.mean(losses, axis=0).tolist(), strict=True))

    def _values(self, steps: Steps) -> NDArray[np.float64]:
        """Return (N, 2) float64, what the critic expects of each slate: NOW and LATER."""
        batch = to_batch(steps, np.arange(len(steps)), self.device)
        with torch.no_grad():
            return np.asarray(self.critic(batch.state()).cpu().numpy(), np.float64)


def advantages(
    steps: Steps, values: NDArray[np.float64], surprise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N, K) float64: how much better than expected each shown item did, with deviation 1.

    An item is credited with its own reward and with all that came after the slate; rewards of other items
    of the slate are none of its doing.

    Parameters
    ----------
    values : (N, 2) float64, expected NOW and LATER
    surprise : (N,) float64, reward after the slate less what was expected
    """
    shown = steps.shown
    usual = values[:, NOW] / np.maximum(shown.sum(axis=1), 1)
    better = np.where(shown, steps.rewards - usual[:, None] + surprise[:, None], 0.0)
    deviation = better[shown].std() if shown.any() else 0.0
    return np.asarray(better / max(float(deviation), 1e-6))


def critic_loss(values: Tensor, now: Tensor, later: Tensor) -> Tensor:
    """Return the squared error of (b, 2) values."""
    loss: Tensor = (values[:, NOW] - now).square().mean() + (values[:, LATER] - later).square().mean()
    return loss
