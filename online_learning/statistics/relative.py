"""Sums over slates of what sets an item apart from the others beside it, relative to what a release expects.

A release says how likely a reward of a candidate is, p, and describes it by features x. Its probabilities may
be off for all alike: somebody likes an item some day more often than it is taken from one slate. And whoever
looks at a slate may take more than others, or less. Neither says anything of the order of items, but a model
that has to explain it by the features gives it to those that go with p, and the order suffers. So what is
learned is

    reward = level p~ + (z - z~) @ w,    z = p x,    z~ and p~ means over the slate

Differences between slates have no part in w: it is the estimator with an effect of each slate's own ("within
estimator", Mundlak, "On the pooling of time series and cross section data", Econometrica 1978). And what x
says counts in proportion to p, as it does in log-odds where p is small (the delta method), so that what is
learned of items that were shown does not lift an unlikely one above all others.

Features are as of a release: 1, p, x ...; rows have the same places: p~ or nothing, p, p x ...
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import brief
from online_learning.statistics.linear import LinearStatistics

EXPECTED = 1
"""Feature that is the release's probability."""


def candidate_rows(features: NDArray[Any]) -> NDArray[Any]:
    """Return what weights are put to, z: (..., F), of the features' type.

    Parameters
    ----------
    features : (..., F) float; one that is not finite makes its row not finite
    """
    flat = np.ascontiguousarray(features).reshape(-1, features.shape[-1])
    rows = np.empty_like(flat)
    _put_to(flat, rows)
    return rows.reshape(features.shape)


@brief
def _put_to(features: NDArray[Any], out: NDArray[Any]) -> None:
    for at in range(len(features)):
        of_one, row = features[at], out[at]
        expected = of_one[EXPECTED]
        for f in range(len(of_one)):
            row[f] = of_one[f] * expected
        row[0] *= 0  # not a number where it is not finite
        row[EXPECTED] = expected


@brief
def _centre(rows: NDArray[np.float64]) -> None:
    """Let finite rows be differences from their mean, and say the level in the first place."""
    centre, finite, n = np.zeros(rows.shape[1]), np.ones(len(rows), np.bool_), 0
    for row in range(len(rows)):
        for f in range(rows.shape[1]):
            finite[row] &= np.isfinite(rows[row, f])
        if finite[row]:
            centre += rows[row]
            n += 1
    if not n:
        return
    centre /= n
    for row in range(len(rows)):
        rows[row] -= centre
        if finite[row]:
            rows[row, 0] = centre[EXPECTED]


class RelativeStatistics(LinearStatistics):
    """Linear statistics of `rows`: of a slate's level in the first place, of differences in the others."""

    kind = "relative"

    @classmethod
    def rows(cls, features: NDArray[Any]) -> NDArray[np.float64]:
        """See `Statistics.rows`. A row that is not finite has no part in the others' mean."""
        rows = candidate_rows(np.asarray(features, np.float64))
        _centre(rows)
        return rows
