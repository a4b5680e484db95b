"""Users who look, click, grow tired of what they see, lose patience and come back: many at a time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.taste import Tastes, click_probability

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reaction:
    """Reactions of b users to a slate each.

    Attributes
    ----------
    clicks : (b, K) bool
    left : (b,) bool, the session is over
    finished : (b,) bool, and it was the user's last
    """

    clicks: NDArray[np.bool_]
    left: NDArray[np.bool_]
    finished: NDArray[np.bool_]


class Users:
    """n users and what they are in the mood for; the truth that a recommender does not see.

    A user clicks an item that they look at with probability
    click_probability(taste) * (1 - satiation * how tired they are of its groups). Looking at a slate adds
    satiation_gain * (chance that the item was looked at) * (share of the group in the item) to a group's
    weariness x, of which 1 - exp(-x) is felt; without that group it fades.

    Parameters
    ----------
    tastes : of everybody there is
    rows : (n,) int64, which of them these users are; one may come more than once
    rng : of everything that happens to them

    Attributes
    ----------
    satiation : (n, G) float64 in [0, 1], how tired of each group
    patience_lost : (n,) int64, slates without a click since the last click of the session
    slates, sessions : (n,) int64, of the session so far, and begun before it
    bots, cold : (n,) bool
    known : (n, d) float64 and known_bias : (n,) float64, the taste as the recommender knows it
    """

    def __init__(
        self, tastes: Tastes, config: SimulatorConfig, rows: Rows, *, rng: np.random.Generator
    ) -> None:
        n = len(rows)
        self.config = config
        self.tastes = tastes
        self.rows = rows
        self._rng = rng
        self._spread = tastes.users.std(axis=0)
        self._taste = tastes.users[rows]
        self.bots = rng.random(n) < config.bots
        self.cold = rng.random(n) < config.cold_users
        self.known = np.where(self.cold[:, None], 0.0, self._taste)
        self.known_bias = np.where(self.cold, 0.0, tastes.user_bias[rows])
        self.satiation = np.zeros((n, tastes.groups.shape[1]))
        self.patience_lost = np.zeros(n, np.int64)
        self.slates = np.zeros(n, np.int64)
        self.sessions = np.zeros(n, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def weariness(self, users: Rows, items: Rows) -> NDArray[np.float64]:
        """Return how tired users are of items: (b, m) float64 in [0, 1].

        Parameters
        ----------
        users : (b,) int64, items : (b, m) int64
        """
        return np.asarray(np.einsum("bmg,bg->bm", self.tastes.groups[items], self.satiation[users]))

    def appeal(self, users: Rows, items: Rows) -> NDArray[np.float64]:
        """Return the probability that users would click items, now, if they looked: (b, m) float64.

        Parameters
        ----------
        users : (b,) int64, items : (b, m) int64
        """
        tastes = self.tastes
        taste = np.einsum("bd,bmd->bm", self._taste[users], tastes.items[items])
        rating = tastes.mean + tastes.user_bias[self.rows[users], None] + tastes.item_bias[items] + taste
        chance = click_probability(rating)
        if self.config.satiation:
            chance = chance * (1.0 - self.config.satiation * self.weariness(users, items))
        return np.where(self.bots[users, None], self.config.bot_clicks, chance)

    def examination(self, k: int) -> NDArray[np.float64]:
        """Return the probability that each of k positions is looked at: (k,) float64."""
        return np.asarray(np.arange(1.0, k + 1.0) ** -self.config.position_bias)

    def expected_clicks(self, users: Rows, items: Rows) -> NDArray[np.float64]:
        """Return the expected clicks of slates, -1 where a position is empty: (b,) float64."""
        chance = np.where(items >= 0, self.appeal(users, np.maximum(items, 0)), 0.0)
        return np.asarray(chance @ self.examination(items.shape[1]))

    def best_expected_clicks(self, users: Rows, items: Rows, k: int) -> NDArray[np.float64]:
        """Return the expected clicks of the slate of k of these items that has most of them: (b,) float64.

        The myopic optimum: it knows all, and cares for this slate only.
        """
        best = -np.sort(-self.appeal(users, items), axis=1)[:, :k]
        return np.asarray(best @ self.examination(best.shape[1]))

    def react(self, users: Rows, items: Rows) -> Reaction:
        """Show each of some users a slate, and let its time pass for them.

        Parameters
        ----------
        users : (b,) int64, different ones
        items : (b, K) int64, by position, -1 where a position is empty
        """
        seen, shown = self.examination(items.shape[1]), items >= 0
        chance = np.where(shown, self.appeal(users, np.maximum(items, 0)), 0.0) * seen
        clicks = self._rng.random(items.shape) < chance
        looked = np.where(shown, seen, 0.0)
        bored = (self.weariness(users, np.maximum(items, 0)) * looked).sum(axis=1)
        bored /= np.maximum(looked.sum(axis=1), 1e-9)
        self._tire(users, np.maximum(items, 0), looked)
        self._wander(users)
        lost = np.where(clicks.any(axis=1), 0, self.patience_lost[users] + 1)
        self.patience_lost[users] = lost
        self.slates[users] += 1
        stays = (1.0 - self.config.leave) * (1.0 - self.config.boredom * bored)
        stays *= (1.0 - self.config.impatience) ** lost
        left = self._rng.random(len(users)) >= stays
        left |= self.slates[users] >= self.config.max_slates
        self._rest(users[left])
        return Reaction(clicks, left, left & (self.sessions[users] >= self.config.sessions))

    def _tire(self, users: Rows, items: Rows, looked: NDArray[np.float64]) -> None:
        exposure = np.einsum("bk,bkg->bg", looked, self.tastes.groups[items])
        rested = (1.0 - self.satiation[users]) * np.exp(-self.config.satiation_gain * exposure)
        self.satiation[users] = (1.0 - rested) * (1.0 - self.config.recovery)

    def _wander(self, users: Rows) -> None:
        if self.config.drift:
            step = self.config.drift * self._spread
            noise = self._rng.normal(size=(len(users), len(step))) * step
            # Drawn back as far as it spreads, so that tastes stay as different as they are.
            kept = np.sqrt(max(0.0, 1.0 - self.config.drift**2))
            self._taste[users] = kept * self._taste[users] + noise

    def _rest(self, users: Rows) -> None:
        self.sessions[users] += 1
        self.slates[users] = 0
        self.patience_lost[users] = 0
        self.satiation[users] *= 1.0 - self.config.rest
