from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core import newcomers as module
from model_core.config import TrainConfig
from model_core.datasets import Dataset
from model_core.fit import Trainer
from model_core.model import Model
from model_core.newcomers import TRUST, UNTOLD, Newcomers, place_newcomers, shift
from model_core.replay import item_features
from model_core.samples import collect_samples, cut_windows
from model_core.signals import SignalConfig
from model_core.train import fit_widths
from tests.model_core import tiny

TRAIN = TrainConfig(epochs=4, warm_up=0.0, threads=1)


def trained(data: Dataset) -> tuple[Model, Newcomers, float]:
    """A model of the first two thirds of a log, with newcomers placed by the rest; and its bias before."""
    corpus = tiny.corpus(data)
    config = fit_widths(tiny.CONFIG, corpus)
    torch.manual_seed(0)
    model = Model(corpus, config, TRAIN, tuple(tiny.WEIGHTS.values()))
    windows = cut_windows(corpus.log, config, TRAIN, np.random.default_rng(0))
    features = item_features(corpus)
    samples = collect_samples(
        corpus.log, windows, corpus.edges, corpus.stated, features, config, SignalConfig()
    )
    trainer = Trainer(model, corpus.log, windows, samples, TRAIN)
    split = 2 * len(corpus.log) // 3
    trainer.fit(TRAIN.epochs, before=split, report=lambda stage, done: None)
    bias = float(model.ranker.newcomer.bias.detach())
    return model, place_newcomers(model, trainer, corpus.log.first(split), features), bias


def nameless(data: Dataset, *, telling: bool) -> Dataset:
    """The same users and items, whose one entity tells their kind or is drawn by lot."""
    rng = np.random.default_rng(0)
    lots = rng.permutation([item.attributes["kind"][0] for item in data.items])
    items = [
        replace(item, title="", attributes={"kind": [item.attributes["kind"][0] if telling else lot]})
        for item, lot in zip(data.items, lots.tolist(), strict=True)
    ]
    return replace(data, items=items)


def test_content_that_tells_what_is_liked_is_trusted_more_than_content_drawn_by_lot() -> None:
    data = tiny.dataset(n_events=1500)
    telling, by_lot = (trained(nameless(data, telling=told))[1].trust for told in (True, False))
    assert telling in TRUST
    assert by_lot < telling


def test_the_level_of_new_items_is_that_which_makes_later_events_likeliest() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(2000, 30, generator=rng)
    new = torch.rand(2000, 30, generator=rng) < 0.3
    drawn = torch.distributions.Categorical(logits=scores + 1.5 * new).sample().unsqueeze(1)
    column = torch.cat((drawn, torch.arange(30).expand(2000, -1)), 1)  # what was taken first, then the rest
    kept = torch.cat((torch.ones(2000, 1, dtype=torch.bool), column[:, 1:] != drawn), 1)
    scores, new = scores.gather(1, column).masked_fill(~kept, -1e9), new.gather(1, column)
    found = shift(scores, new)
    assert found == pytest.approx(1.5, abs=0.15)
    share = (torch.softmax(scores + found * new, 1) * new).sum(1).mean()
    assert float(share) == pytest.approx(float(new[:, 0].float().mean()), abs=2e-3)


def test_the_level_stays_where_nothing_tells_of_new_items_and_falls_where_none_is_wanted() -> None:
    none, some = (
        torch.zeros(500, 4, dtype=torch.bool),
        torch.tensor([[False, True, True, False]]).expand(500, 4),
    )
    assert shift(torch.zeros(500, 4), none) == 0.0
    assert shift(torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.bool)) == 0.0
    assert -10.0 < shift(torch.zeros(500, 4), some) < -3.0
    assert shift(torch.zeros(2, 4), some[:2]) > -1.0  # two events say little


def test_a_log_with_few_later_events_leaves_the_level_as_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_EVENTS", 10_000)
    model, chosen, bias = trained(tiny.dataset())
    assert chosen == Newcomers(UNTOLD, pytest.approx(bias))
    assert float(model.ranker.newcomer.bias.detach()) == pytest.approx(bias)


def test_the_head_is_not_heard_of_an_item_that_nobody_has_responded_to() -> None:
    data = tiny.corpus(tiny.dataset())
    config = replace(fit_widths(tiny.CONFIG, data), n_candidates=20)
    ranker = Model(data, config, TRAIN, tuple(tiny.WEIGHTS.values())).eval().ranker
    torch.manual_seed(0)
    asked = {
        "items": torch.randn(20, config.dim),
        "history": torch.arange(config.history_length).unsqueeze(0),
        "history_actions": torch.ones(1, config.history_length, dtype=torch.int64),
        "history_age_s": torch.arange(config.history_length, 0, -1.0).unsqueeze(0),
        "user_entities": torch.zeros(1, config.n_affinities, dtype=torch.int64),
        "user_entity_weights": torch.zeros(1, config.n_affinities),
        "signals": torch.rand(1, config.n_signals, 20) + 0.1,
        "eligible": torch.ones(1, 20, dtype=torch.bool),
    }
    asked["signals"][:, 1, :8] = 0.0

    def probability() -> np.ndarray:
        with torch.inference_mode():
            rows, _, scores, *_ = ranker(**asked)
        return scores[0][rows[0].argsort()].numpy()

    before = probability()
    ranker.gains_here[3] = 0.0  # of the match: while a user is here
    of_known_only = probability()
    with torch.no_grad():
        ranker.rank.weight.normal_(std=3.0)
    after = probability()
    np.testing.assert_allclose(of_known_only[:8], before[:8], atol=1e-6)
    assert np.abs(of_known_only[8:] - before[8:]).min() > 0
    np.testing.assert_allclose(after[:8], of_known_only[:8], atol=1e-6)
    assert np.abs(after[8:] - of_known_only[8:]).min() > 0
