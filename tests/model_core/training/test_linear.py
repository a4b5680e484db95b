from dataclasses import replace

import numpy as np
import pytest

from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training.linear import FACTORS, NEARS, SHARES, surely_best, with_linear

N_USERS, N_ITEMS, N_EVENTS = 400, 200, 6000
TASTES, SINCE = 5, 5000


def log(noise: float, *, lasting: bool = True) -> Log:
    """Each user takes items of one of few tastes, or, in a share of the events, any item.

    A taste that does not last is another one in each tenth of the log.
    """
    rng = np.random.default_rng(0)
    users = rng.integers(N_USERS, size=N_EVENTS)
    phase = 0 if lasting else np.arange(N_EVENTS) * 10 // N_EVENTS
    items = (users + phase) % TASTES + TASTES * rng.integers(N_ITEMS // TASTES, size=N_EVENTS)
    anything = rng.random(N_EVENTS) < noise
    items = np.where(anything, rng.integers(N_ITEMS, size=N_EVENTS), items)
    return Log(
        users.astype(np.int32), items.astype(np.int32), np.full(N_EVENTS, 2), np.ones(N_EVENTS, np.bool_),
        60_000 * np.arange(N_EVENTS), N_USERS, N_ITEMS,
    )  # fmt: skip


def test_what_is_usual_counts_where_nothing_is_surely_better() -> None:
    chosen = with_linear(SignalConfig(ease_penalty=8.0), log(noise=1.0), SINCE)
    usual = SignalConfig(ease_penalty=8.0 * FACTORS[0], low_pass=SHARES[0], ease_near=NEARS[0])
    assert chosen == usual


def test_a_choice_that_is_surely_better_counts_and_one_that_may_be_luck_does_not() -> None:
    noise = np.random.default_rng(0).standard_normal(400)
    gain = {("low_pass", 0.6): 0.3, ("ease_near", 0.0): 0.001, ("low_pass", 0.0): -0.5}

    def reached(one: SignalConfig) -> list[np.ndarray]:
        ahead = sum(more for (name, value), more in gain.items() if getattr(one, name) == value)
        return [1.0 + ahead + 0.5 * noise * (1.0 + one.ease_near) + 0.1 * one.low_pass * noise[::-1]]

    choices = {"low_pass": (0.3, 0.0, 0.6), "ease_near": (0.8, 0.0)}
    found = surely_best(choices, SignalConfig(window=7), reached)
    assert found == SignalConfig(window=7, low_pass=0.6, ease_near=0.8)


def test_what_comes_last_decides_and_nothing_else_of_the_config_changes() -> None:
    config = SignalConfig(window=7)
    chosen = with_linear(config, log(noise=0.3), SINCE)
    assert chosen != config
    kept = replace(chosen, ease_penalty=config.ease_penalty, low_pass=0.0, ease_near=0.0)
    assert kept == config


@pytest.mark.parametrize("since", [N_EVENTS, N_EVENTS - 20])
def test_few_events_choose_nothing(since: int) -> None:
    assert with_linear(SignalConfig(), log(noise=0.3), since) == SignalConfig()
