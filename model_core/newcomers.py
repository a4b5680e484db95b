"""How new items stand beside known ones: how far what they say of themselves is trusted, and their level.

Both are chosen on events that the networks have not learned from, with known items taken for new ones: their
vectors and EASE's weights are then those of leave-one-out, so no item has a part in what it is measured by.
How far to trust is chosen by what ranks best and not by what is likeliest: the likelihood gains by scores
that are farther apart even where their order gets worse.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_core.balance import MIN_EVENTS
from model_core.cold_start import ItemFeatures
from model_core.fit import Trainer
from model_core.model import Model
from model_core.signals import Log

TRUST = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
UNTOLD = 0.25
"""Trust where there are too few events to choose by."""
SHARE = 0.2
"""Of the items, taken for new ones when their level is chosen."""


@dataclass(frozen=True, slots=True)
class Newcomers:
    """trust : how far from the mean of all a new item's vector is put; level : bias of their scores."""

    trust: float
    level: float


def place_newcomers(model: Model, trainer: Trainer, log: Log, features: ItemFeatures) -> Newcomers:
    """Settle a model that was trained on a log, as is best on what the trainer has after it."""
    left_out = model.settle(log, features)
    mean = model.encoder.content.mean
    every = torch.ones(len(left_out), dtype=torch.bool, device=mean.device)
    reached = {t: _ndcg(trainer.compare(len(log), mean + t * (left_out - mean), every)[0]) for t in TRUST}
    bias = float(model.ranker.newcomer.bias.detach())
    if len(next(iter(reached.values()))) < MIN_EVENTS:
        chosen = Newcomers(UNTOLD, bias)
    else:
        trust = max(TRUST, key=lambda t: float(reached[t].mean()))
        some = np.random.default_rng(0).random(len(left_out)) < SHARE
        taken = torch.as_tensor(some).to(mean.device)
        scores, new = trainer.compare(len(log), mean + trust * (left_out - mean), taken)
        chosen = Newcomers(trust, bias + shift(scores, new))
    settle(model, log, features, chosen)
    return chosen


@torch.no_grad()
def settle(model: Model, log: Log, features: ItemFeatures, newcomers: Newcomers) -> None:
    """End a training on a log, with new items as chosen."""
    model.settle(log, features, newcomers.trust)
    model.ranker.newcomer.bias.fill_(newcomers.level)


def shift(scores: Tensor, new: Tensor, *, steps: int = 25) -> float:
    """What to add to the scores of new items, so that column 0 is likeliest: Newton's method.

    Parameters
    ----------
    scores : (n, 1 + m); new : (n, 1 + m) bool
    """
    found = 0.0
    wanted = new[:, 0].double().mean()
    for _ in range(steps):
        share = (torch.softmax(scores.double() + found * new, 1) * new).sum(1)
        slope = (share * (1.0 - share)).mean()
        step = float(((wanted - share.mean()) / (slope + 1e-9)).clamp(-1.0, 1.0))
        found += step
        if abs(step) < 1e-6:
            break
    return found


def _ndcg(scores: Tensor) -> Tensor:
    """Gain of column 0 by its place, behind all that tie with it: (n, 1 + m) to (n,)."""
    place = (scores[:, 1:] >= scores[:, :1]).sum(1)
    return 1.0 / torch.log2(2.0 + place)
