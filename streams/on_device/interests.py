"""Which of a public list of items a device says it is interested in: true with a stated probability only.

Subset selection: of n items a device names d, the true one among them with probability
``d e^epsilon / (d e^epsilon + n - d)``, the others drawn alike; d is about ``n / (e^epsilon + 1)`` (Ye & Barg
2018, "Optimal schemes for discrete distribution estimation under locally differential privacy", section III).
Whatever the history is, each set of d items is at most e^epsilon times as probable as with any other history:
epsilon-local differential privacy of all that a user ever did. At d = 1 it is randomised response.
"""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SubsetSelection:
    """Draws of n items at an epsilon.

    Attributes
    ----------
    size : items that are named
    chance : probability that the true one is among them
    """

    epsilon: float
    n: int

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if self.n < 2:
            raise ValueError(f"n must be at least 2, got {self.n}")

    @property
    def size(self) -> int:
        """See the class."""
        return max(1, round(self.n / (math.exp(self.epsilon) + 1.0)))

    @property
    def chance(self) -> float:
        """See the class."""
        odds = self.size * math.exp(self.epsilon)
        return odds / (odds + self.n - self.size)

    def draw(self, true: int, rng: random.Random) -> list[int]:
        """Return the items that are named, ascending.

        Parameters
        ----------
        true : in [0, n)
        rng : whoever knows its state can take the noise away: the system's source, outside tests
        """
        others = [place for place in range(self.n) if place != true]
        if rng.random() < self.chance:
            return sorted([true, *rng.sample(others, self.size - 1)])
        return sorted(rng.sample(others, self.size))


MOST_EPSILON = 20.0
"""Beyond, the true item is named always but once in a hundred million times: that is no privacy."""


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError for an epsilon that promises nothing, or cannot be kept."""
    if not 0.0 < epsilon <= MOST_EPSILON:
        raise ValueError(f"epsilon must be above 0 and at most {MOST_EPSILON:g}, got {epsilon:g}")
