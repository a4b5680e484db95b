"""Confidence intervals of estimated values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.types import Contributions, Floats

# Resamples go through the matrix product together, as many as keep their counts at this size, but not so few
# that the product is bound by reading the other matrix.
_COUNTS, _MIN_TOGETHER = 1 << 17, 8


def bootstrap(
    estimates: Sequence[Contributions],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    clusters: NDArray[Any] | None = None,
) -> list[tuple[Floats, Floats]]:
    """Return percentile intervals by resampling rows (Efron & Tibshirani 1993, chapter 13).

    All estimators and policies share each resample, so the cost is that of drawing, about 10 ns per row and
    resample, and one matrix product. A ratio is normalised anew in every resample.

    Rows are taken as independent unless `clusters` says which belong together: then whole clusters are
    drawn, as many as there are, and a mean is that over the rows drawn (Davison & Hinkley 1997, "Bootstrap
    methods and their application", section 3.8).

    Parameters
    ----------
    estimates : over the same n rows
    resamples : how many, at least 1
    level : share of repetitions in which the interval should cover the value, in (0, 1)
    clusters : (n,) of any kind that sorts, equal for rows that depend on each other, such as those of a user

    Returns
    -------
    Lower and upper ends for each of `estimates`, (P,) float64 each. A resample in which a
    policy's weights are all 0 is left out of a self-normalised estimate; NaN if none is left.
    """
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not estimates:
        return []
    columns = [estimate.columns() for estimate in estimates]
    means = _resampled_means(np.concatenate(columns), resamples, seed, clusters)
    ends = np.cumsum([len(part) for part in columns])[:-1]
    tail = (1.0 - level) / 2.0
    intervals = []
    for estimate, part in zip(estimates, np.split(means, ends, axis=1), strict=True):
        values = estimate.combine(part)
        low, high = _quantiles(values, [tail, 1.0 - tail])
        intervals.append((low, high))
    return intervals


def empirical_bernstein(
    contributions: Floats, *, low: float, high: float, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return intervals that cover the mean with at least probability `level` at any n.

    Theorem 4 of Maurer & Pontil 2009, "Empirical Bernstein bounds and sample variance penalization", on
    each side with half of the error: mean -+ sqrt(2 V L / n) -+ 7 L R / (3 (n - 1)), V the sample variance,
    R = high - low, L = ln(4 / (1 - level)). The ends are not cut to [low, high].

    Parameters
    ----------
    contributions : (P, n) float64, independent rows
    low, high : what a contribution can be at least and at most, known before the data

    Raises
    ------
    ValueError
        There are fewer than 2 rows, the range is not finite, or a contribution is outside it.
    """
    _check_level(level)
    n = contributions.shape[1]
    if n < 2:
        raise ValueError(f"contributions must have at least 2 rows, got {n}")
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"low and high must be finite with low < high, got {low} and {high}")
    least, most = contributions.min(), contributions.max()
    slack = 1e-9 * (high - low)
    if not (least >= low - slack and most <= high + slack):
        raise ValueError(f"contributions must be in [{low}, {high}], got {least} to {most}")
    log_term = np.log(4.0 / (1.0 - level))
    width = np.sqrt(2.0 * contributions.var(axis=1, ddof=1) * log_term / n)
    width += 7.0 * log_term * (high - low) / (3.0 * (n - 1))
    mean = contributions.mean(axis=1)
    return mean - width, mean + width


def cluster_sums(columns: Floats, clusters: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return (..., G) sums over the rows of each cluster and (G,) float64 their numbers.

    Parameters
    ----------
    columns : (..., n) float64
    clusters : (n,)
    """
    if clusters.shape != columns.shape[-1:]:
        raise ValueError(f"clusters must have shape {columns.shape[-1:]} as the rows, got {clusters.shape}")
    order = np.argsort(clusters, kind="stable")
    _, starts, sizes = np.unique(clusters[order], return_index=True, return_counts=True)
    return np.add.reduceat(columns[..., order], starts, axis=-1), sizes.astype(np.float64)


def _resampled_means(
    columns: Floats, resamples: int, seed: int, clusters: NDArray[Any] | None = None
) -> Floats:
    # (C, n) to (resamples, C): a resample is how often each row was drawn, so its means are one product.
    rng = np.random.default_rng(seed)
    sizes = np.ones(columns.shape[1])
    if clusters is not None:
        columns, sizes = cluster_sums(columns, clusters)
    n = columns.shape[1]
    by_row = np.ascontiguousarray(columns.T)
    means = np.empty((resamples, len(columns)))
    counts = np.empty((min(resamples, max(_MIN_TOGETHER, _COUNTS // n)), n))
    for start in range(0, resamples, len(counts)):
        block = means[start : start + len(counts)]
        for i in range(len(block)):
            counts[i] = np.bincount(rng.integers(n, size=n), minlength=n)
        np.matmul(counts[: len(block)], by_row, out=block)
        block /= (counts[: len(block)] @ sizes)[:, None]
    return means


def _quantiles(values: Floats, shares: list[float]) -> Floats:
    # (B, P) to (len(shares), P), over the resamples that are not NaN; NaN where all are.
    missing = np.isnan(values)
    if not missing.any():
        return np.asarray(np.quantile(values, shares, axis=0))
    empty = missing.all(axis=0)
    found = np.nanquantile(np.where(empty, 0.0, values), shares, axis=0)
    return np.where(empty, np.nan, found)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}")
