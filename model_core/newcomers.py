"""How new items stand beside known ones: how far what they say of themselves is trusted, and their level.

Both are chosen on events that the networks have not learned from. For the trust all known items are taken
for new ones: their vectors and EASE's weights are then those of leave-one-out, so no item has a part in what
it is measured by. What counts is what ranks best and not what is likeliest: the likelihood gains by scores
that are farther apart even where their order gets worse. The level is that at which items that nobody has
responded to are as likely to be the next ones as they really were.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Newcomers:
    """trust : how far from the mean of all a new item's vector is put; level : bias of their scores."""

    trust: float
    level: float


def place_newcomers(model: Model, trainer: Trainer, log: Log, features: ItemFeatures) -> Newcomers:
    """Settle a model trained on a log as is best on what the trainer has after it."""
    left_out = model.settle(log, features)
    mean = model.encoder.content.mean
    places = {t: _places(trainer.compare(len(log), mean + t * (left_out - mean))[0]) for t in TRUST}
    level = float(model.ranker.newcomer.bias.detach())
    if len(places[UNTOLD]) < MIN_EVENTS:
        chosen = Newcomers(UNTOLD, level)
    else:
        trust = max(TRUST, key=lambda t: _gain(places[t]))
        settle(model, log, features, Newcomers(trust, level))
        chosen = Newcomers(trust, level + shift(*trainer.compare(len(log))))
    settle(model, log, features, chosen)
    return chosen


@torch.no_grad()
def settle(model: Model, log: Log, features: ItemFeatures, newcomers: Newcomers) -> None:
    """End a training on a log, with new items as chosen."""
    model.settle(log, features, newcomers.trust)
    model.ranker.newcomer.bias.fill_(newcomers.level)


def shift(scores: Tensor, new: Tensor, *, steps: int = 25) -> float:
    """What to add to the scores of new items, so that column 0 is new as often as it is likely to be.

    The likeliest shift, by Newton's method, under a standard normal prior: a few events move it little.

    Parameters
    ----------
    scores : (n, 1 + m); new : (n, 1 + m) bool
    """
    found = 0.0
    for _ in range(steps):
        share = (torch.softmax(scores.double() + found * new, 1) * new).sum(1)
        slope = float((new[:, 0].double() - share).sum()) - found
        step = slope / (float((share * (1.0 - share)).sum()) + 1.0)
        found += min(max(step, -1.0), 1.0)
        if abs(step) < 1e-6:
            break
    return found


def _places(scores: Tensor) -> Tensor:
    """Place of column 0, behind all that tie with it: (n, 1 + m) to (n,)."""
    return (scores[:, 1:] >= scores[:, :1]).sum(1)


def _gain(places: Tensor) -> float:
    """NDCG, of all places."""
    return float((1.0 / torch.log2(2.0 + places)).mean())
