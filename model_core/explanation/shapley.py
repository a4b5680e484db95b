"""Shapley values of a game with dear players, whose orders are sampled, and cheap ones, taken exactly.

A game gives every coalition of its players a value. The Shapley value of a player (Shapley 1953) is what it
adds when it comes, as a mean over all orders in which the players may come; the values of all players sum
to the difference between everybody and nobody.

A coalition of *outer* players costs a run of the model; of each, the game tells the values for all subsets
of the few *inner* players at once. So orders of outer players are sampled (Castro, Gomez and Tejada 2009),
each with its reverse (antithetic sampling, Mitchell et al. 2022), and the mean over all the ways in which
the inner players may come in between is taken exactly: let everybody come at a moment drawn from U(0, 1),
then the k-th of n outer players comes at a moment of Beta(k, n - k + 1), and an inner player is there with
that probability. That lowers the variance and keeps, for every single order, the exact sum.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_INNER = 12
EXACT_OUTER = 10  # up to this many outer players every coalition is asked for, 1024 of them


@dataclass(frozen=True, slots=True)
class Shapley:
    """Shapley values of all players; outer players first, then inner ones.

    values, errors : (n_outer + n_inner,) float64; errors are standard errors, 0 where nothing was sampled
    base, total : values of nobody and of everybody; ``base + values.sum() == total`` but for rounding
    orders : orders of outer players taken; 0 when every coalition was
    coalitions : coalitions of outer players asked for
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    base: float
    total: float
    orders: int
    coalitions: int


Game = Generator[NDArray[np.bool_], NDArray[np.float64], Shapley]


def shapley(
    n_outer: int,
    n_inner: int,
    *,
    rng: np.random.Generator,
    tolerance: float,
    min_pairs: int = 8,
    budget: int = 4096,
    chunk: int = 32,
) -> Game:
    """Ask for coalitions, be sent their values, return the players' (PEP 342).

    Yields (c, n_outer) bool, c at most `chunk`: which outer players are in; wants (c, 2**n_inner) float64,
    column T for the subset of inner players whose bits are set in T.

    Parameters
    ----------
    tolerance
        Sampling ends when no standard error is above this; in the unit of the values.
    min_pairs
        Orders (each with its reverse) that are taken at least: fewer give no standard error to go by.
    budget
        Coalitions asked for at most, as far as `min_pairs` allows.

    Raises
    ------
    ValueError
        If an argument breaks its rule.
    """
    if n_outer < 0 or not 0 <= n_inner <= MAX_INNER:
        raise ValueError(
            f"n_outer must be at least 0 and n_inner in [0, {MAX_INNER}], got {n_outer} and {n_inner}"
        )
    if min_pairs < 2 or chunk < 1 or not tolerance >= 0:
        raise ValueError(
            "min_pairs must be at least 2, chunk at least 1 and tolerance at least 0, "
            f"got {min_pairs}, {chunk} and {tolerance}"
        )
    if n_outer <= EXACT_OUTER:
        return (yield from _enumerate(n_outer, n_inner, chunk))
    return (yield from _sample(n_outer, n_inner, rng, tolerance, min_pairs, budget, chunk))


def solve(game: Game, values: Callable[[NDArray[np.bool_]], NDArray[np.float64]]) -> Shapley:
    """Play a game to its end with a function from coalitions to their values."""
    asked = next(game)
    while True:
        try:
            asked = game.send(values(asked))
        except StopIteration as end:
            result: Shapley = end.value
            return result


def _ask(
    coalitions: NDArray[np.bool_], chunk: int
) -> Generator[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    parts = []
    for begin in range(0, len(coalitions), chunk):
        parts.append((yield coalitions[begin : begin + chunk]))
    return np.concatenate(parts)


def _enumerate(n_outer: int, n_inner: int, chunk: int) -> Game:
    """The definition: every coalition, weighed by the share of orders in which it comes just before."""
    n, players = n_outer, n_outer + n_inner
    rows = np.arange(1 << n)
    table = yield from _ask((rows[:, None] >> np.arange(n) & 1).astype(np.bool_), chunk)
    size = _sizes(n)[:, None] + _sizes(n_inner)[None, :]  # of each coalition of both kinds
    before = np.minimum(size, players - 1)  # everybody comes before nobody
    factorial = _log_factorials(players)
    weight = np.exp(factorial[before] + factorial[players - 1 - before] - factorial[players])
    values = np.empty(players)
    for player in range(n):
        out = rows[(rows >> player & 1) == 0]
        values[player] = (weight[out] * (table[out | 1 << player] - table[out])).sum()
    for player in range(n_inner):
        out, joined = _without(player, n_inner)
        values[n + player] = (weight[:, out] * (table[:, joined] - table[:, out])).sum()
    return Shapley(values, np.zeros(players), float(table[0, 0]), float(table[-1, -1]), 0, len(table))


def _sample(
    n_outer: int,
    n_inner: int,
    rng: np.random.Generator,
    tolerance: float,
    min_pairs: int,
    budget: int,
    chunk: int,
) -> Game:
    n = n_outer
    ends = yield from _ask(np.array([[False] * n, [True] * n]), chunk)
    weights = _outer_weights(n, n_inner), _inner_weights(n, n_inner)
    pairs: list[NDArray[np.float64]] = []
    errors = np.zeros(n + n_inner)
    asked = 2
    while len(pairs) < min_pairs or errors.max() > tolerance and asked + 2 * (n - 1) <= budget:
        forth = rng.permutation(n)
        orders = np.stack((forth, forth[::-1]))
        place = np.argsort(orders, axis=1)  # (2, n) when each player comes
        coalitions = place[:, None, :] < np.arange(1, n)[None, :, None]  # (2, n - 1, n) those there
        inside = yield from _ask(coalitions.reshape(-1, n), chunk)
        asked += 2 * (n - 1)
        both = [
            _of_order(order, np.concatenate((ends[:1], along, ends[1:])), *weights)
            for order, along in zip(orders, inside.reshape(2, n - 1, -1), strict=True)
        ]
        pairs.append((both[0] + both[1]) / 2)
        if len(pairs) >= min_pairs:
            errors = np.std(pairs, axis=0, ddof=1) / len(pairs) ** 0.5
    values = np.mean(pairs, axis=0)
    return Shapley(values, errors, float(ends[0, 0]), float(ends[1, -1]), 2 * len(pairs), asked)


def _of_order(
    order: NDArray[np.int64],
    along: NDArray[np.float64],
    outer_weights: NDArray[np.float64],
    inner_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Each player's contribution if the outer players come in this order, averaged over the inner ones.

    along : (n + 1, 2**n_inner) values after each of the outer players
    """
    n, n_inner = len(order), along.shape[1].bit_length() - 1
    sizes = _sizes(n_inner)
    values = np.empty(n + n_inner)
    values[order] = (outer_weights[:, sizes] * np.diff(along, axis=0)).sum(1)
    for player in range(n_inner):
        out, joined = _without(player, n_inner)
        values[n + player] = (inner_weights[:, sizes[out]] * (along[:, joined] - along[:, out])).sum()
    return values


def _outer_weights(n: int, n_inner: int) -> NDArray[np.float64]:
    """(n, 1 + n_inner): when the k-th outer player comes, the probability that just these t inner are in."""
    k, t = np.arange(1, n + 1)[:, None], np.arange(1 + n_inner)[None, :]
    beta = _log_beta(n + n_inner)
    weights: NDArray[np.float64] = np.exp(beta(k + t, n - k + 1 + n_inner - t) - beta(k, n - k + 1))
    return weights


def _inner_weights(n: int, n_inner: int) -> NDArray[np.float64]:
    """(n + 1, n_inner): when an inner player comes, the probability of k outer and just these t inner."""
    k, t = np.arange(n + 1)[:, None], np.arange(n_inner)[None, :]
    beta, factorial = _log_beta(n + n_inner), _log_factorials(n)
    choose = factorial[n] - factorial[k] - factorial[n - k]
    weights: NDArray[np.float64] = np.exp(choose + beta(k + t + 1, n - k + n_inner - t))
    return weights


def _log_factorials(n: int) -> NDArray[np.float64]:
    """Logarithms of 0!, 1!, ..., n!."""
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, n + 1)))))


def _log_beta(n: int) -> Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Logarithm of the beta function, of whole numbers that sum to n + 1 at most."""
    factorial = _log_factorials(n)
    return lambda a, b: factorial[a - 1] + factorial[b - 1] - factorial[a + b - 1]


def _sizes(n: int) -> NDArray[np.int64]:
    """(2**n,) members of the subset that each number's bits name."""
    sizes: NDArray[np.int64] = (np.arange(1 << n)[:, None] >> np.arange(n) & 1).sum(1)
    return sizes


def _without(player: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subsets of n players that lack one of them, and the same with it."""
    subsets = np.arange(1 << n)
    out = subsets[(subsets >> player & 1) == 0]
    return out, out | 1 << player
