"""Team-draft interleaving: two policies fill one slate, and each answers for what it has put there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.sampling import mix, uniforms

_COINS = 1 << 20  # above every stream that a policy uses
_OTHER = np.uint64(0xD1B54A32D192ED03)

# In place of an estimate of 0, by which nothing could be weighed.
SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class Draft:
    """Slates of two teams.

    Attributes
    ----------
    index : (B, K) int64, column of the candidate at each position, -1 after a slate's end
    teams : (B, K) int8, which of the two rankings put it there, -1 after the end
    """

    index: NDArray[np.int64]
    teams: NDArray[np.int8]


def other_seeds(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return seeds for the second ranking: the two must not depend on the same random numbers."""
    return mix(np.asarray(seeds, np.uint64) ^ _OTHER)


def team_draft(first: NDArray[np.int64], second: NDArray[np.int64], *, seeds: NDArray[np.uint64]) -> Draft:
    """Interleave two rankings of each request.

    In each round of two positions a fair coin says which team chooses first; a team chooses the best item of
    its ranking that is not in the slate yet (Radlinski, Kurup & Joachims, "How does clickthrough data
    reflect retrieval quality?", CIKM 2008). A slate ends where the team whose turn it is has none, and is no
    longer than the longer ranking.

    Parameters
    ----------
    first, second : (B, K) int64, columns of candidates, best first, -1 after the end
    seeds : (B,) uint64, of the coins
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"rankings must have one shape (requests, K), got {first.shape} and {second.shape}")
    n, k = first.shape
    rankings = np.stack((first, second), axis=1)
    begins = (uniforms(seeds, (k + 1) // 2, stream=_COINS) < 0.5).astype(np.int8)
    shown = np.zeros((n, int(rankings.max(initial=-1)) + 2), np.bool_)
    shown[:, -1] = True  # where -1 points
    index, teams = np.full((n, k), -1, np.int64), np.full((n, k), -1, np.int8)
    sizes = (rankings >= 0).sum(axis=2).max(axis=1)
    going = np.arange(n)
    for position in range(k):
        going = going[position < sizes[going]]
        turn = begins[going, position // 2] ^ (position % 2)
        ranking = rankings[going, turn]
        left = ~shown[going[:, None], ranking]
        going, turn, ranking, left = (a[left.any(axis=1)] for a in (going, turn, ranking, left))
        chosen = ranking[np.arange(len(going)), left.argmax(axis=1)]
        index[going, position], teams[going, position] = chosen, turn
        shown[going, chosen] = True
    return Draft(index, teams)


def draft_propensities(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how probable each position of drafted slates was, given the positions before it.

    At the first position of a round either team may choose: q = (p1 + p2) / 2. At the second the other one
    does; that the first team began has, by Bayes' rule from the item it would have put there, probability
    r = p1 / (p1 + p2) of the position before, and q = r p2 + (1 - r) p1. The coins are not conditioned on.

    Exact when both policies are memoryless (`RegisteredPolicy`) and what they say is exact. Otherwise a
    policy's ranking says a little less of its next choice than it would itself, and the result is an
    approximation.

    Parameters
    ----------
    first, second : (B, K) float, what each policy's `propensities` says of the drafted slates

    Returns
    -------
    (B, K) float32, at least `SMALLEST`, also after a slate's end
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    q = 0.5 * (one + two)
    both = one[:, ::2] + two[:, ::2]
    began = np.divide(one[:, ::2], both, out=np.full_like(both, 0.5), where=both > 0.0)
    began = began[:, : one.shape[1] // 2]
    q[:, 1::2] = began * two[:, 1::2] + (1.0 - began) * one[:, 1::2]
    return np.clip(q, SMALLEST, 1.0).astype(np.float32)


def preferences(teams: NDArray[np.int8], credit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which team each slate speaks for: -1 the first, 1 the second, 0 neither: (B,) int64.

    Parameters
    ----------
    teams : (B, K) int8, as of `team_draft`
    credit : (B, K) float, what each position earned (1 for an item responded to)
    """
    if teams.shape != credit.shape:
        raise ValueError(f"credit must have the teams' shape {teams.shape}, got {credit.shape}")
    gain = np.where(teams == 1, credit, 0.0).sum(axis=1) - np.where(teams == 0, credit, 0.0).sum(axis=1)
    signs: NDArray[np.int64] = np.sign(gain).astype(np.int64)
    return signs
