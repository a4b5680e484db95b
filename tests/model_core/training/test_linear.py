import numpy as np
import pytest

from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training.linear import FACTORS, SHARES, with_linear

N_USERS, N_ITEMS, N_EVENTS = 400, 200, 6000
TASTES, SINCE = 5, 5000


def log(noise: float) -> Log:
    """Each user takes items of one of few tastes, or, in a share of the events, any item."""
    rng = np.random.default_rng(0)
    users = rng.integers(N_USERS, size=N_EVENTS)
    items = users % TASTES + TASTES * rng.integers(N_ITEMS // TASTES, size=N_EVENTS)
    anything = rng.random(N_EVENTS) < noise
    items = np.where(anything, rng.integers(N_ITEMS, size=N_EVENTS), items)
    return Log(
        users.astype(np.int32), items.astype(np.int32), np.full(N_EVENTS, 2), np.ones(N_EVENTS, np.bool_),
        60_000 * np.arange(N_EVENTS), N_USERS, N_ITEMS,
    )  # fmt: skip


def test_few_main_directions_of_taste_make_the_low_pass_count() -> None:
    chosen = with_linear(SignalConfig(ease_penalty=1.0), log(noise=0.5), SINCE)
    assert chosen.low_pass == max(SHARES)
    assert chosen.ease_penalty in FACTORS


def test_what_comes_last_decides_and_nothing_else_of_the_config_changes() -> None:
    config = SignalConfig(window=7)
    chosen = with_linear(config, log(noise=0.3), SINCE)
    assert SignalConfig(window=7, ease_penalty=chosen.ease_penalty, low_pass=chosen.low_pass) == chosen


@pytest.mark.parametrize("since", [N_EVENTS, N_EVENTS - 20])
def test_few_events_choose_nothing(since: int) -> None:
    assert with_linear(SignalConfig(), log(noise=0.3), since) == SignalConfig()
