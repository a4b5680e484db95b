"""Softmax over a catalogue, whole or sampled, with scores that mean the same either way.

Training on negatives drawn by popularity lowers popular items: they are the ones drawn. Dividing what a
drawn item adds by how often it was expected to be drawn undoes that: the logQ correction (Bengio & Senecal
2008, "Adaptive importance sampling to accelerate training of a neural probabilistic language model"; Yi et
al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations").
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BARRED = -1e9


def popularity_distribution(counts: NDArray[np.integer], *, power: float = 1.0) -> NDArray[np.float64]:
    """Probabilities proportional to ``(counts + 1) ** power``, so that every item can be drawn: (n_items,).

    Parameters
    ----------
    counts : (n_items,), not negative
    power
        0 draws items alike, 1 as often as they occur.

    Raises
    ------
    ValueError
        If there is no item, a count is negative or the power is not in [0, 1].
    """
    if not 0 <= power <= 1:
        raise ValueError(f"power must be in [0, 1], got {power}")
    if not len(counts) or counts.min() < 0:
        raise ValueError(f"counts must be of at least one item and not negative, got {counts}")
    weights = (counts + 1.0) ** power
    return np.asarray(weights / weights.sum(), np.float64)


def full_softmax_loss(scores: Tensor, targets: Tensor, barred: Tensor | None = None) -> Tensor:
    """Mean cross entropy of the targets among all items.

    Parameters
    ----------
    scores : (n, n_items)
    targets : (n,) int64
    barred : (n, n_items) bool
        Items that do not compete, such as those already met; a target is never one.
    """
    if barred is not None:
        own = targets.unsqueeze(1)
        scores = scores.masked_fill(barred.scatter(1, own, False), BARRED)
    return functional.cross_entropy(scores, targets)


def sampled_softmax_loss(
    target_scores: Tensor,
    negative_scores: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_q: Tensor | None,
    barred: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of the targets against negatives that all rows share.

    With s the scores and q the distribution of the m draws, a row's loss is
    ``log(exp(s_t) + sum_j exp(s_j) / (m q_j)) - s_t`` over the draws j that are not its target. The sum is an
    unbiased estimate of that over all other items, so only the logarithm is biased, and by O(1 / m).

    Parameters
    ----------
    target_scores : (n,)
    negative_scores : (n, m)
    targets : (n,) int64
    negatives : (m,) int64, drawn with replacement
    log_q : (n_items,)
        Logarithms of the probabilities they were drawn with; None leaves out the correction, and scores then
        tend to ``log(p / q)`` instead of ``log p``.
    barred : (n, m) bool
        Draws that do not compete.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    shape = (len(targets), len(negatives))
    if negative_scores.shape != shape:
        raise ValueError(f"negative_scores must be of shape {shape}, got {tuple(negative_scores.shape)}")
    if log_q is not None:
        negative_scores = negative_scores - (log_q[negatives] + math.log(len(negatives)))
    out = negatives == targets.unsqueeze(1)
    if barred is not None:
        out = out | barred
    others = torch.logsumexp(negative_scores.masked_fill(out, BARRED), 1)
    return functional.softplus(others - target_scores).mean()
