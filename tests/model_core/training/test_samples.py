from dataclasses import replace

import numpy as np
import torch

from model_core.data.datasets import User
from model_core.network.config import ModelConfig, TrainConfig
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training.networks import fit_model, fit_widths
from model_core.training.objective import target_weights
from model_core.training.samples import cut_windows
from tests.model_core import tiny

CONFIG = ModelConfig(history_length=10)
TRAIN = TrainConfig(warm_up=0.0, horizon=0.5)


def log(n: int = 600) -> Log:
    rng = np.random.default_rng(0)
    positive = rng.random(n) < 0.4
    return Log(
        rng.integers(9, size=n).astype(np.int32), rng.integers(30, size=n).astype(np.int32),
        positive + np.int64(1), positive, np.arange(n) * 1000, 9, 30,
    )  # fmt: skip


def test_each_event_is_a_target_once_and_follows_its_history() -> None:
    events = log()
    windows = cut_windows(events, CONFIG, TRAIN, np.random.default_rng(0))
    targets = windows.targets[windows.targets >= 0]
    assert sorted(targets.tolist()) == list(range(len(events)))
    for window, row in zip(windows.events, windows.targets, strict=True):
        for place in np.flatnonzero(row[1:] >= 0):
            assert window[place] < row[1 + place]
            assert events.users[window[place]] == events.users[row[1 + place]]


def test_a_share_of_the_targets_wants_a_later_positive_item_of_the_same_user() -> None:
    events = log()
    windows = cut_windows(events, CONFIG, TRAIN, np.random.default_rng(0))
    here = windows.targets >= 0
    targets, wanted = windows.targets[here], windows.wanted[here]
    ahead = wanted != targets
    assert 0.35 < ahead.mean() < 0.5  # half, less those after whom nothing positive comes
    assert (wanted >= targets).all()
    assert (events.users[wanted] == events.users[targets]).all()
    assert events.positive[wanted[ahead]].all()
    assert (windows.wanted[~here] == -1).all()
    none = cut_windows(events, CONFIG, replace(TRAIN, horizon=0.0), np.random.default_rng(0))
    assert (none.wanted == none.targets).all()


def test_clicks_weighed_by_position_show_the_taste_behind_the_bias() -> None:
    rng = np.random.default_rng(0)
    items, positions = rng.integers(2, size=20_000), rng.integers(4, size=20_000)
    positions[items == 1] = 3  # liked as much as item 0, and shown where it is looked at a quarter as often
    clicked = rng.random(20_000) < 0.8 / (positions + 1)
    clicked &= (items == 1) | (positions == 0)
    n = int(clicked.sum())
    events = Log(
        np.zeros(n, np.int32), items[clicked].astype(np.int32), np.ones(n, np.int64), np.ones(n, np.bool_),
        np.arange(n), 1, 2, positions[clicked],
    )  # fmt: skip
    shown = np.array([((items == 0) & (positions == 0)).sum(), (items == 1).sum()])
    plain, weighed = (
        np.bincount(events.items, target_weights(events, TrainConfig(position_bias=bias))) / shown
        for bias in (0.0, 1.0)
    )
    assert plain[1] < 0.35 * plain[0]
    np.testing.assert_allclose(weighed[0], weighed[1], rtol=0.1)


def test_a_click_of_no_slate_weighs_one_and_none_more_than_the_most() -> None:
    events = replace(log(4), positive=np.ones(4, np.bool_), positions=np.array([-1, 0, 1, 500]))
    weights = target_weights(events, TrainConfig(position_bias=1.0, most_clicks=7.0))
    assert weights.tolist() == [1.0, 1.0, 2.0, 7.0]
    assert (
        target_weights(replace(events, positions=None), TrainConfig(position_bias=1.0)).tolist() == [1.0] * 4
    )


def test_a_model_learns_what_users_of_a_kind_want_from_what_they_state_alone() -> None:
    stated = [User(f"u{n}", {"side": f"s{n % 2}"}) for n in range(60)]
    data = tiny.corpus(replace(tiny.dataset(n_users=60, n_events=1800), users=stated))
    train = TrainConfig(epochs=8, batch_windows=8)
    config = replace(fit_widths(tiny.CONFIG, data), n_candidates=40)
    model, _ = fit_model(data, 1800, tuple(tiny.WEIGHTS.values()), config, train, SignalConfig())
    with torch.inference_mode():
        vectors = model.vectors()
        entity = torch.tensor([[data.vocabulary.entity_rows[f"side=s{side}"]] for side in range(2)])
        length = torch.zeros(2, config.history_length)
        signals = torch.zeros(2, 3, tiny.N_ITEMS)
        signals[:, 1] = 2.0  # all items are as popular
        rows = model.ranker(
            vectors, length.long() - 1, length.long(), length, entity, torch.ones(2, 1), signals,
            torch.ones(2, tiny.N_ITEMS, dtype=torch.bool),
        )[0]  # fmt: skip
    share_odd = (rows[:, :20] % 2).float().mean(1)
    assert share_odd[0] < 0.25
    assert share_odd[1] > 0.75
