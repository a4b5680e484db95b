"""Statistics that hardly depend on any one user: sums over slates with clipped shares and Gaussian noise.

Three sums are told: the gram of the rows, the surprises, which are rows times how far rewards were from what
is expected, and the counts of impressions and rewards. A user's share of all is shortened, by one factor,
until each is within its clip, so what is summed stays that of slates, of which those of some users weigh
less. Adding or removing a user then moves the lower triangle of the gram, the surprises and the counts by at
most their clips, and noise on each number, once, makes them private (Dwork et al. 2014, "Analyze Gauss"; for
bandits Shariff & Sheffet 2018, "Differentially private contextual linear bandits").

The rows of a slate are taken as they are: what they tell of other users than the slate's is not covered.

A policy that took noisy sums at their word would believe noise where few rewards speak. So it gets the sums
of so many fewer slates as say no more than the noisy ones do (`statistics_of`).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.relative import RelativeStatistics

SHARES = (0.2, 0.75, 0.05)
"""Of the promise, spent on the gram, the surprises and the counts: Gaussian mechanisms compose by the squares
of sensitivity over noise (Dong, Roth & Su 2022, "Gaussian differential privacy", corollary 3.3)."""
SPREAD = 2.0
"""Standard deviations of a user's surprises, with as many impressions as their share may have, that are told
unshortened where rewards are as expected."""
LEVEL = 0.25
"""What the level of a slate, the first number of a relative row, is told multiplied by. It is about four
times as long as what sets items apart, and would leave that no room within the clips, nor above the noise."""
LEAST_RATE = 1e-3

Floats = NDArray[np.float64]


class Clips(NamedTuple):
    """Longest share of a user in the lower triangle of the gram, in the surprises and in the counts."""

    gram: float
    surprises: float
    counts: float

    @classmethod
    def of(cls, impressions: float, rate: float) -> "Clips":
        """Return what so many impressions come to, about, as relative rows where rewards have this rate.

        Both are to be chosen without a look at the slates.
        """
        length = math.sqrt(2.0) * LEVEL * rate  # of a row: its level, and as much of differences
        spread = SPREAD * math.sqrt(impressions * rate * (1.0 - rate))
        return cls(impressions * length**2, length * spread, impressions)


class SlateRows(NamedTuple):
    """Items that users were shown, and what they earned; those of one user may stand anywhere.

    users : (n,) int64; rows : (n, F) float, as `RelativeStatistics` take them
    weights : (n,) float64, chance that the item was looked at; rewards : (n,) float64
    """

    users: NDArray[np.int64]
    rows: NDArray[np.floating]
    weights: Floats
    rewards: Floats


class Sums(NamedTuple):
    """What is told of slates: gram (F, F), surprises (F,), and counts (2,), impressions and rewards.

    Rows are with their level shortened to `LEVEL` of it.
    """

    gram: Floats
    surprises: Floats
    counts: Floats


NO_NOISE = Clips(0.0, 0.0, 0.0)


def noises(sigma: float, clips: Clips) -> Clips:
    """Standard deviations of the noise on each number of the three sums; together they promise.

    Parameters
    ----------
    sigma : what the promise takes for a sensitivity of 1
    """
    return Clips(*(sigma * clip / math.sqrt(share) for clip, share in zip(clips, SHARES, strict=True)))


def clipped_sums(slates: SlateRows, expected: Floats, clips: Clips) -> Sums:
    """Sum slates, no user's share beyond the clips.

    Parameters
    ----------
    expected : (F,) float64, weights of the reward that is expected
    clips : inf shortens nothing

    Raises
    ------
    ValueError
        If rows, weights or rewards are not finite.
    """
    for name in ("rows", "weights", "rewards"):
        if not np.isfinite(getattr(slates, name)).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    dim, scale = len(expected), _scale(len(expected))
    total = Sums(np.zeros((dim, dim)), np.zeros(dim), np.zeros(2))
    order = np.argsort(slates.users, kind="stable")
    bounds = np.flatnonzero(np.diff(slates.users[order], prepend=-1, append=-1)) if len(order) else order
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        at = order[begin:end]
        own = _own(slates.rows[at] * scale, slates.weights[at], slates.rewards[at], expected / scale)
        length = _length(own, clips)
        if length < math.inf:  # of numbers too large to be summed nothing is
            for whole, part in zip(total, own, strict=True):
                whole += part / max(1.0, length)
    return total


def _scale(dim: int) -> Floats:
    scale = np.ones(dim)
    scale[0] = LEVEL
    return scale


def _own(rows: Floats, weights: Floats, rewards: Floats, expected: Floats) -> Sums:
    with np.errstate(over="ignore", invalid="ignore"):
        looked = rows * weights[:, None]
        surprises = rows.T @ rewards - looked.T @ (rows @ expected)
        return Sums(looked.T @ rows, surprises, np.array([len(rows), np.count_nonzero(rewards)], np.float64))


def _length(own: Sums, clips: Clips) -> float:
    """Return how long a user's sums are in units of the clips, the one that is longest; NaN where one is."""
    with np.errstate(over="ignore", invalid="ignore"):
        triangle = np.sqrt((np.square(own.gram).sum() + np.square(own.gram.diagonal()).sum()) / 2.0)
        lengths = triangle, np.linalg.norm(own.surprises), np.linalg.norm(own.counts)
        return float(np.max([length / clip for length, clip in zip(lengths, clips, strict=True)]))


def private_sums(
    slates: SlateRows, expected: Floats, *, clips: Clips, sigma: float, rng: np.random.Generator
) -> tuple[Sums, Clips]:
    """Sum slates with the noise that a promise takes; return its standard deviations, too.

    Parameters
    ----------
    expected, clips : as of `clipped_sums`; sigma : as of `noises`
    rng : whoever knows its seed can take the noise away: seeded by nothing that is told, outside tests
    """
    sums, noise = clipped_sums(slates, expected, clips), noises(sigma, clips)
    gram, surprises, counts = (
        part + rng.normal(0.0, deviation, part.shape) for part, deviation in zip(sums, noise, strict=True)
    )
    lower = np.tril(gram)
    return Sums(lower + np.tril(lower, -1).T, surprises, counts), noise


def statistics_of(
    sums: Sums, noise: Clips, expected: Floats, *, feature_space: str = ""
) -> RelativeStatistics:
    """Return what a policy may infer from noisy sums: without noise, the statistics of the slates.

    Along an eigenvector of the gram with eigenvalue g the surprises are g times how far the weights are from
    what is expected, with the variance g v of rewards and that of the noise, s^2. That is what g' = g k with
    k = g v / (g v + s^2) says without noise, of the surprises times k (Bernstein & Sheldon 2019,
    "Differentially private Bayesian linear regression", with the gram in its place as it is estimated). Noise
    moves an eigenvalue x beyond half its edge to ``x + edge ** 2 / 4 / x``, and drowns the others, which
    count as 0 (Benaych-Georges & Nadakuditi 2011, "The eigenvalues and eigenvectors of finite, low rank
    perturbations of large random matrices", section 3.1).

    Parameters
    ----------
    noise : as `private_sums` returns it, or `NO_NOISE`
    expected : as of `clipped_sums`
    """
    values, vectors = np.linalg.eigh(sums.gram)
    edge = 2.0 * noise.gram * math.sqrt(len(values))
    there = values > edge
    found = np.where(there, values, edge)
    found = np.where(there, (found + np.sqrt(found**2 - edge**2)) / 2.0, 0.0)
    shown = max(0.0, float(sums.counts[0]))
    rewarded = min(max(0.0, float(sums.counts[1])), shown)
    rate = min(max(rewarded / shown if shown else 0.0, LEAST_RATE), 0.5)
    told = found * rate * (1.0 - rate)
    kept = np.divide(told, told + noise.surprises**2, out=np.zeros_like(told), where=there)
    scale = _scale(len(values))
    gram = (vectors * (found * kept)) @ vectors.T / scale / scale[:, None]
    moment = (vectors * kept) @ (vectors.T @ sums.surprises) / scale + gram @ expected
    return RelativeStatistics.of_sums(
        gram, moment, impressions=round(shown), rewards=round(rewarded), feature_space=feature_space
    )
