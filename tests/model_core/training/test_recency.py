from dataclasses import replace

import numpy as np
import pytest

from model_core.inputs.corpus import Corpus
from model_core.signals.config import SignalConfig
from model_core.signals.horizons import HOUR_MS
from model_core.signals.sample_signals import Log
from model_core.training.recency import order_ranks_better, with_half_life
from tests.model_core import tiny

N_USERS, N_EVENTS = 60, 1200


def corpus(hot: int) -> Corpus:
    """Each hour everybody takes one of a few items: the next ones, or, where `hot` is 0, always the same."""
    rng = np.random.default_rng(0)
    hours = np.arange(N_EVENTS) // 50
    items = (hot * 4 * hours + rng.integers(4, size=N_EVENTS)) % tiny.N_ITEMS
    if not hot:
        items = np.minimum(rng.geometric(0.08, N_EVENTS) - 1, tiny.N_ITEMS - 1)
    log = Log(
        rng.integers(N_USERS, size=N_EVENTS).astype(np.int32), items.astype(np.int32),
        np.full(N_EVENTS, 2), np.ones(N_EVENTS, np.bool_),
        HOUR_MS * hours + 60_000 * (np.arange(N_EVENTS) % 50), N_USERS, tiny.N_ITEMS,
    )  # fmt: skip
    data = tiny.corpus(tiny.dataset())
    return replace(data, log=log, stated=np.zeros((N_USERS, data.stated.shape[1]), np.int64))


@pytest.mark.parametrize(("hot", "at_most"), [(1, 6 * HOUR_MS), (0, 0)])
def test_popularity_is_forgotten_as_fast_as_what_is_hot_changes(hot: int, at_most: int) -> None:
    data = corpus(hot)
    chosen = with_half_life(SignalConfig(), data, data.log, N_EVENTS // 2).popularity_half_life_ms
    assert bool(chosen) == bool(hot)
    assert chosen <= at_most


def in_turns(in_order: bool) -> Corpus:
    """Users take three items of a group in a row, from anywhere in it, or go through a third in any order."""
    data, rng = corpus(0), np.random.default_rng(1)
    users, turn = np.arange(N_EVENTS) % N_USERS, np.arange(N_EVENTS) // N_USERS
    shape = (N_USERS, turn.max() // 3 + 1)
    groups, begun = rng.integers(tiny.N_ITEMS // 6, size=shape), rng.integers(6, size=shape)
    items = 6 * groups[users, turn // 3] + (begun[users, turn // 3] + turn % 3) % 6
    if not in_order:
        third = tiny.N_ITEMS // 3
        items = rng.permuted(np.tile(np.arange(third), (N_USERS, 1)), axis=1)[users, turn % third]
        items += third * (users % 3)
    log = replace(data.log, users=users.astype(np.int32), items=items.astype(np.int32))
    return replace(data, log=log)


@pytest.mark.parametrize("in_order", [True, False])
def test_order_counts_where_items_are_taken_one_after_another(in_order: bool) -> None:
    data = in_turns(in_order)
    assert order_ranks_better(SignalConfig(), data, data.log, N_EVENTS // 2) is in_order
    assert not order_ranks_better(SignalConfig().ordered(), data, data.log, N_EVENTS // 2)
    assert not order_ranks_better(SignalConfig(), data, data.log, N_EVENTS - 20)


def test_few_events_choose_no_half_life() -> None:
    data = corpus(1)
    assert with_half_life(SignalConfig(), data, data.log, N_EVENTS - 20) == SignalConfig()
