"""Chooses how far the features of new items are trusted.

Chosen on events that the networks have not learned from, with all known items taken for new ones: their
vectors and EASE's weights are then those of leave-one-out, so no item has a part in what it is measured by.
What counts is what ranks best and not what is likeliest: the likelihood gains by scores that are farther
apart even where their order gets worse.
"""

import torch
from torch import Tensor

from model_core.network.model import Model
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.sample_signals import Log
from model_core.training.balance import MIN_EVENTS
from model_core.training.fit import Trainer

TRUST = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
UNTOLD = 0.25
"""Where there are too few events to choose by."""


def place_newcomers(model: Model, trainer: Trainer, log: Log, features: ItemFeatures) -> None:
    """Settle a model trained on a log, with the trust that is best on what the trainer has after it."""
    left_out = model.settle(log, features)
    content = model.encoder.content
    about_mean = left_out - content.mean
    with torch.inference_mode():
        read = model.vectors()
    places = {t: _places(trainer.compare(len(log), content.mean + t * about_mean, read)) for t in TRUST}
    enough = len(places[UNTOLD]) >= MIN_EVENTS
    content.trust.fill_(max(TRUST, key=lambda t: _gain(places[t])) if enough else UNTOLD)


def _places(scores: Tensor) -> Tensor:
    """Place of column 0, behind all that tie with it: (n, 1 + m) to (n,)."""
    return (scores[:, 1:] >= scores[:, :1]).sum(1)


def _gain(places: Tensor) -> float:
    """NDCG, of all places."""
    return float((1.0 / torch.log2(2.0 + places)).mean())
