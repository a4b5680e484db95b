"""Log-probabilities of logged slates under a network's scores, with all candidates or the shown ones only."""

import torch
from torch import Tensor

from online_learning.rl.networks import Batch

NEVER = -1e9
"""Log of a probability that is 0; of minus infinity, gradients would be NaN."""


def log_probabilities(scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each shown item at its position, and of being drawn first.

    Where only shown items are known, the sum of exp(score) over all candidates is estimated from them and
    their propensities: drawn one after another without replacement, sum of those before + exp(score) /
    propensity is unbiased at every position, and so is the mean over positions (Des Raj, "Some estimators
    in sampling with varying probabilities without replacement", JASA 1956). Of what a policy without chance
    logged, propensity 1, there is nothing but the slate itself, and the learned policy compares only there.

    Parameters
    ----------
    scores : (b, C)

    Returns
    -------
    given_before, first : (b, K); 0 where a slate has ended
    """
    chosen = batch.of_shown(scores).masked_fill(~batch.shown, NEVER)
    total = _of_all(scores, batch) if batch.complete else _of_shown(chosen, batch)
    before = torch.logcumsumexp(chosen, dim=1).roll(1, dims=1)
    before[:, 0] = NEVER
    after = torch.logcumsumexp(chosen.flip(1), dim=1).flip(1)  # it and what comes after it
    # What is left when those before are gone; never less than what was then still drawn.
    share = (before - total.unsqueeze(1)).clamp(max=-1e-6)
    left = torch.maximum(total.unsqueeze(1) + torch.log1p(-share.exp()), after)
    first = chosen - torch.maximum(total.unsqueeze(1), after[:, :1])
    zero = torch.zeros_like(chosen)
    return torch.where(batch.shown, chosen - left, zero), torch.where(batch.shown, first, zero)


def _of_all(scores: Tensor, batch: Batch) -> Tensor:
    return torch.logsumexp(scores.masked_fill(~batch.valid, NEVER), dim=1)


def _of_shown(chosen: Tensor, batch: Batch) -> Tensor:
    # (b, K) to (b,): log of the mean over positions of sum before + exp(score) / propensity
    before = torch.logcumsumexp(chosen, dim=1).roll(1, dims=1)
    before[:, 0] = NEVER
    whole = torch.logaddexp(before, chosen - batch.propensities.clamp(min=1e-6).log())
    whole = whole.masked_fill(~batch.shown, NEVER)
    return torch.logsumexp(whole, dim=1) - batch.shown.sum(dim=1).clamp(min=1).float().log()
