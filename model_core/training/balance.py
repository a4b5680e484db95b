"""How much each part of a score counts while a user is here, chosen by what ranks best.

Training minimises a likelihood, over all items and on rows that the networks learn by heart, early ones
among them, when little had been counted yet. A slate shows ten items, to users who are mostly in the middle
of something, and by then much has been counted. So once the networks stand, the parts of the score (each
signal, the match, the head) are weighed anew on later rows that they have not learned from: stacking
(Wolpert 1992, "Stacked generalization"), by NDCG@10 before each event of a user who is here; not by the one
best weighing but by an average of all that are about as good, as in Yao et al. 2018, "Using stacking to
average Bayesian predictive distributions". Who has been away is served as trained.
"""

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.data.corpus import Corpus
from model_core.data.replay import Replay, item_features
from model_core.network.model import Model
from model_core.network.ranker import HERE_S, is_new
from model_core.release.served import dense_inputs
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log, fit_log

GAINS = tuple(
    product((0.5, 1.0, 2.0), (0.0, 1.0), (0.25, 0.5, 1.0, 2.0), (0.0, 0.25, 0.5, 1.0), (0.0, 0.5, 1.0))
)
"""Of co-visits, popularity, EASE, the match and the head."""
TOP, COMPARED = 10, 256
MOST_EVENTS, MOST_SCORES = 2000, 4_000_000
MIN_EVENTS = 100
BATCH = 32
BATCH_CELLS = BATCH * 8192
"""Users times items that the networks read at once."""


@torch.inference_mode()
def balance(model: Model, corpus: Corpus, log: Log, since: int, signals: SignalConfig) -> Tensor:
    """Choose `Ranker.gains_here` by the rows of the log from `since` on; return it: (S + 2,) float32."""
    rows = asked_rows(log, since)
    if len(rows) >= MIN_EVENTS:
        parts, level, target = _parts(model, corpus, log, since, rows, signals)
        model.ranker.gains_here.copy_(average(parts, level, target))
    return model.ranker.gains_here


def asked_rows(log: Log, since: int) -> NDArray[np.int64]:
    """Rows from `since` on, spread evenly, where a user who is here responds to an item not met before."""
    order = np.argsort(log.users, kind="stable")
    idle = np.full(len(log), np.inf)
    same = log.users[order[1:]] == log.users[order[:-1]]
    idle[order[1:]] = np.where(same, np.diff(log.times_ms[order]) / 1000.0, np.inf)
    _, first = np.unique(log.users.astype(np.int64) * log.n_items + log.items, return_index=True)
    unmet = np.zeros(len(log), np.bool_)
    unmet[first] = True
    rows = np.flatnonzero(log.positive & unmet & (idle < HERE_S))
    rows = rows[rows >= since]
    most = max(1, min(MOST_EVENTS, MOST_SCORES // max(log.n_items, 1)))
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]


def _parts(
    model: Model, corpus: Corpus, log: Log, since: int, rows: NDArray[np.int64], signals: SignalConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of the scores of all items before each row, (n, S + 2, n_items); what is added, and the targets.

    Returns
    -------
    parts : signals, match and head; level : (n, n_items), -inf for items met; target : (n,) int64 items
    """
    ranker, device = model.ranker, model.ranker.item_bias.device
    model.eval()
    replay = Replay(
        log,
        corpus.edges,
        corpus.stated,
        history_length=ranker.config.history_length,
        n_affinities=ranker.config.n_affinities,
        signals=signals,
        ease=fit_log(log.first(since), signals, item_features(corpus)),
    )
    vectors = model.vectors()
    parts, levels = [], []
    batch = max(1, min(BATCH, BATCH_CELLS // log.n_items))
    for begin in range(0, len(rows), batch):
        requests = []
        for row in rows[begin : begin + batch]:
            replay.advance(int(row))
            requests.append(replay.requests(log.users[row : row + 1], log.times_ms[row : row + 1]))
        each = [dense_inputs(request, device) for request in requests]
        asked = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        given, eligible, history = (asked.pop(name) for name in ("signals", "eligible", "history"))
        user, states, known, _ = ranker.read(vectors[history.clamp(min=0)], history >= 0, **asked)
        weighed = ranker.signal_weights(user).unsqueeze(-1) * ranker.transform_signals(given, 1)
        match = ranker.match(user) @ vectors.T
        everything = vectors.expand(len(user), -1, -1)
        head = ranker.rank(ranker.hidden(user, everything, states, known.unsqueeze(1))).transpose(1, 2)
        new = is_new(given)
        networks = torch.cat((match.unsqueeze(1), head), 1) * (1.0 - new).unsqueeze(1)
        parts.append(torch.cat((weighed, networks), 1))
        level = (ranker.newcomer(user) + match) * new
        levels.append(level.masked_fill(~eligible, -torch.inf))
    target = torch.as_tensor(log.items[rows]).long().to(device)
    return torch.cat(parts), torch.cat(levels), target


def average(parts: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """Mean of `GAINS`, each weighing ``exp(-z**2 / 2)``, z = standard errors that it ranks below the best.

    One winner among many is mostly luck where events are few; what the good ones have in common is not.
    """
    # Beyond the best by all parts alike hardly an item comes into the ten by other gains.
    first = (parts.sum(1) + level).topk(min(COMPARED, level.shape[1]), dim=1).indices
    first = torch.cat((target.unsqueeze(1), first), 1)
    level = level.gather(1, first)
    parts = parts.gather(2, first.unsqueeze(1).expand(-1, parts.shape[1], -1))
    level[:, 1:] = level[:, 1:].masked_fill(first[:, 1:] == target.unsqueeze(1), -torch.inf)
    gains = torch.tensor(GAINS, device=parts.device)
    reached = torch.stack([_ndcg(parts, level, some) for some in gains])  # (g, n)
    below = reached[reached.mean(1).argmax()] - reached
    error = (below.std(1) / below.shape[1] ** 0.5).clamp(min=1e-9)
    weights = torch.exp(-0.5 * (below.mean(1) / error) ** 2)
    mean: Tensor = weights @ gains / weights.sum()
    return mean


def _ndcg(parts: Tensor, level: Tensor, gains: Tensor) -> Tensor:
    """NDCG@10 of the first item each, behind all that tie with it: (n,)."""
    scores = torch.einsum("npi,p->ni", parts, gains) + level
    place = (scores >= scores[:, :1]).sum(1) - 1
    return torch.where(place < TOP, 1.0 / torch.log2(2.0 + place), 0.0)
