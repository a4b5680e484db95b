"""Chooses EASE's penalty, share of low-pass filter and of nearness by what ranks best on later events."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.signals.config import SignalConfig
from model_core.signals.ease import DENSE_ITEMS, Ease
from model_core.signals.pasts import Pasts, chosen
from model_core.signals.sample_signals import Log, UserEvents, fit_known
from model_core.training.balance import MIN_EVENTS, TOP, hold_back, most_rows, spread, unmet
from model_core.training.recency import SURE

FACTORS = (0.5, 1.0, 2.0)
"""Of the penalty that the config has."""
SHARES = (0.3, 0.0, 0.6)
"""Of the low pass, beside EASE."""
NEARS = (0.8, 0.0)
"""Of what is counted of pairs, by nearness."""
BLOCK = 256

Reached = list[NDArray[np.float64]]
"""NDCG@10 of each that was asked, by each way of asking."""


def with_linear(config: SignalConfig, log: Log, since: int) -> SignalConfig:
    """Return the config with a penalty, low pass and nearness that rank well from row `since` of the log on.

    What is ranked by is EASE's signal alone, by NDCG@10 before each positive event and for what
    `balance.hold_back` holds back, half and half. The first of `FACTORS`, `SHARES` and `NEARS` count unless
    another is surely better, each in its turn. In a large catalogue, where a fit takes long, all stay as they
    are.
    """
    rows = np.flatnonzero(unmet(log))
    rows = spread(rows[rows >= since], most_rows(log))
    if len(rows) < MIN_EVENTS or log.n_items > DENSE_ITEMS:
        return config
    here = np.zeros((len(rows), log.n_items), np.bool_)
    here[np.arange(len(rows)), log.items[rows]] = True
    kept, back = hold_back(log, since)
    end = np.full(len(back.users), len(kept))
    asked = [
        (UserEvents(log, config.depth).before(log.users[rows], rows), here),
        (UserEvents(kept, config.depth).before(back.users, end), back.relevant),
    ]
    first = log.first(since)

    def reached(one: SignalConfig) -> Reached:
        ease = fit_known(first, one)
        return [_ndcg(ease, *some) for some in asked if len(some[1])]

    penalties = [factor * config.ease_penalty for factor in FACTORS]
    return surely_best({"ease_penalty": penalties, "low_pass": SHARES, "ease_near": NEARS}, config, reached)


def surely_best(
    choices: Mapping[str, Sequence[Any]], config: SignalConfig, reached: Callable[[SignalConfig], Reached]
) -> SignalConfig:
    """Return the config with the first of all choices, but for those that another is surely better than.

    Better is what is ahead by more than `SURE` standard errors, as a share of what was reached before.
    """
    first: dict[str, Any] = {name: values[0] for name, values in choices.items()}
    config = replace(config, **first)
    now = reached(config)
    for name, (_, *others) in choices.items():
        tried = {value: reached(_with(config, name, value)) for value in others}
        means = {value: sum(_ahead(one, now)[0]) for value, one in tried.items()}
        best = max(means, key=lambda value: means[value])
        error = sum(_ahead(tried[best], now)[1]) ** 0.5
        if means[best] > SURE * error:
            config, now = _with(config, name, best), tried[best]
    return config


def _with(config: SignalConfig, name: str, value: Any) -> SignalConfig:
    changed: dict[str, Any] = {name: value}
    return replace(config, **changed)


def _ahead(reached: Reached, before: Reached) -> tuple[list[float], list[float]]:
    """Mean of what is ahead, as a share of what was before, and its squared standard error, of each."""
    ahead = [(one - other) / max(other.mean(), 1e-9) for one, other in zip(reached, before, strict=True)]
    return [float(one.mean()) for one in ahead], [float(one.var()) / len(one) for one in ahead]


def _ndcg(ease: Ease, pasts: Pasts, relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """NDCG@10 after each past by EASE alone: (n,).

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
    return np.concatenate(reached)
