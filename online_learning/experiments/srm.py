"""Counts against what they should be, at any time: the sample-ratio-mismatch alarm, and its case of two.

The evidence is the likelihood of the counts under a Dirichlet mixture of probabilities, divided by that under
the given ones (Lindon & Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022). As counts
come in one by one it is a martingale that begins at 1, so it ever reaches 1 / alpha with probability alpha
at most (Ville's inequality): 1 / (its maximum so far) is a p-value that may be looked at all the time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The mixture's weight in observations: it looks for deviations of the order of 1 / sqrt(100).
CONCENTRATION = 100.0


def log_evidence(counts: Any, probabilities: Any, *, concentration: float = CONCENTRATION) -> Any:
    """Return the logarithm of the evidence that counts are not of these probabilities.

    Parameters
    ----------
    counts : (..., V) int
    probabilities : (..., V) float, above 0, summing to 1
    """
    from scipy.special import gammaln, xlogy  # half a second that only reports wait for

    counts = np.asarray(counts, np.float64)
    probabilities = np.asarray(probabilities, np.float64)
    prior = concentration * probabilities
    mixture = (gammaln(prior + counts) - gammaln(prior)).sum(axis=-1)
    mixture += gammaln(concentration) - gammaln(concentration + counts.sum(axis=-1))
    return mixture - xlogy(counts, probabilities).sum(axis=-1)


def sample_ratio_p_value(variants: NDArray[np.int64], weights: Sequence[float]) -> float:
    """Return how well users are split as planned: an always-valid p-value, small when they are not.

    Parameters
    ----------
    variants : (n,) int64, the variant of each user, in the order of their first exposure
    weights : planned, one for each variant
    """
    planned = np.asarray(weights, np.float64)
    counts = np.cumsum(np.eye(len(planned))[np.asarray(variants, np.int64)], axis=0)
    if not len(counts):
        return 1.0
    evidence = log_evidence(counts, planned / planned.sum())
    return float(min(1.0, np.exp(-evidence.max())))


def win_rate_interval(wins: int, losses: int, *, alpha: float) -> tuple[float, float]:
    """Return bounds of the probability of a win, which hold at every look at once: all rates not refuted.

    The mixture is about 1/2, as of `log_evidence`: a rate far from it is found soon in any case. The trials
    are those that were decided, each of which must be won with this probability whatever came before.
    """
    from scipy.special import xlogy

    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses must be at least 0, got {wins} and {losses}")
    rates = np.linspace(0.0, 1.0, 10_001)[1:-1]
    counts = np.array([wins, losses])
    mixture = log_evidence(counts, [0.5, 0.5]) + xlogy(counts, 0.5).sum()
    kept = rates[mixture - xlogy(wins, rates) - xlogy(losses, 1.0 - rates) < -np.log(alpha)]
    return float(kept[0] if wins else 0.0), float(kept[-1] if losses else 1.0)
