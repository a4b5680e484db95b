"""Chooses EASE's penalty and share of low-pass filter by what ranks best on later events."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.signals.config import SignalConfig
from model_core.signals.ease import DENSE_ITEMS, Ease
from model_core.signals.pasts import Pasts, chosen
from model_core.signals.sample_signals import Log, UserEvents, fit_known
from model_core.training.balance import MIN_EVENTS, TOP, hold_back, most_rows, spread, unmet

SHARES = (0.0, 0.15, 0.3, 0.6)
"""Of the low pass, beside EASE."""
FACTORS = (1.0, 2.0)
"""Of the penalty that the config has."""
BLOCK = 256


def with_linear(config: SignalConfig, log: Log, since: int) -> SignalConfig:
    """Return the config with the penalty and the low pass that rank best from row `since` of the log on.

    What is ranked by is EASE's signal alone, by NDCG@10 before each positive event and for what
    `balance.hold_back` holds back, half and half. In a large catalogue, where a fit takes long, both stay as
    they are.
    """
    rows = np.flatnonzero(unmet(log))
    rows = spread(rows[rows >= since], most_rows(log))
    if len(rows) < MIN_EVENTS or log.n_items > DENSE_ITEMS:
        return config
    here = np.zeros((len(rows), log.n_items), np.bool_)
    here[np.arange(len(rows)), log.items[rows]] = True
    kept, back = hold_back(log, since)
    end = np.full(len(back.users), len(kept))
    asked = (
        (UserEvents(log, config.depth).before(log.users[rows], rows), here),
        (UserEvents(kept, config.depth).before(back.users, end), back.relevant),
    )
    first, reached = log.first(since), {}
    for factor, share in product(FACTORS, SHARES):
        one = replace(config, ease_penalty=factor * config.ease_penalty, low_pass=share)
        ease = fit_known(first, one)
        reached[one] = np.array([_ndcg(ease, *some) for some in asked if len(some[1])])
    plain = np.maximum(reached[replace(config, low_pass=0.0)], 1e-9)
    return max(reached, key=lambda one: float((reached[one] / plain).mean()))


def _ndcg(ease: Ease, pasts: Pasts, relevant: NDArray[np.bool_]) -> float:
    """Mean NDCG@10 after each past by EASE alone.

    Parameters
    ----------
    relevant : (n, n_items) bool
    """
    from scipy import sparse

    n = ease.n_items
    weights = sparse.csr_matrix((ease.weights, ease.items, ease.bounds), (n, n))
    described = np.ones(n, np.bool_)

    def matrix(flags: NDArray[np.bool_]) -> Any:
        bounds, items = chosen(pasts.bounds, pasts.items, flags, described)
        found = sparse.csr_matrix((np.ones(len(items), np.float32), items, bounds), (len(relevant), n))
        found.sum_duplicates()
        found.data[:] = 1.0  # an item liked twice counts once
        return found

    liked, met = matrix(pasts.positive), matrix(np.ones(len(pasts.items), np.bool_))
    reached = []
    for begin in range(0, len(relevant), BLOCK):
        here = slice(begin, begin + BLOCK)
        scores = np.maximum((liked[here] @ weights).toarray(), 0.0)
        top = top_items(scores, met[here].toarray() > 0, min(TOP, n))
        reached.append(ranking_metrics(top, relevant[here])["ndcg"])
    return float(np.concatenate(reached).mean())
