from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.data.datasets import Dataset
from model_core.inputs.replay import item_features
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.signals.config import SignalConfig
from model_core.training import newcomers as module
from model_core.training.fit import Trainer
from model_core.training.networks import fit_widths
from model_core.training.newcomers import TRUST, UNTOLD, place_newcomers
from model_core.training.samples import collect_samples, cut_windows
from tests.model_core import tiny

TRAIN = TrainConfig(epochs=4, warm_up=0.0, threads=1)
SIGNALS = SignalConfig(read_window=1)  # which say little: what users like the networks must find out


def place(data: Dataset, heard: Dataset) -> tuple[float, float]:
    """Train on the first two thirds of a log, and choose by the rest.

    Parameters
    ----------
    heard : what EASE takes the items' content for

    Returns
    -------
    trust, and by how much it lifts the later events' items, taken for new ones, in NDCG
    """
    corpus = tiny.corpus(data)
    config = fit_widths(tiny.CONFIG, corpus)
    torch.manual_seed(0)
    model = Model(corpus, config, TRAIN, tuple(tiny.WEIGHTS.values()))
    windows = cut_windows(corpus.log, config, TRAIN, np.random.default_rng(0))
    features, misheard = item_features(corpus), item_features(tiny.corpus(heard))
    samples = collect_samples(corpus.log, windows, corpus.edges, corpus.stated, misheard, config, SIGNALS)
    trainer = Trainer(model, corpus.log, windows, samples, TRAIN)
    split = 2 * len(corpus.log) // 3
    trainer.fit(TRAIN.epochs, before=split, report=lambda stage, done: None)
    known = corpus.log.first(split)
    place_newcomers(model, trainer, known, features)
    trust = model.encoder.content.trust.clone()
    new, read = model.settle(known, features), model.vectors().detach()
    mean = model.encoder.content.mean

    def quality(vectors: torch.Tensor) -> float:
        scores = trainer.compare(split, vectors, read)
        return float((1.0 / torch.log2(2.0 + (scores[:, 1:] >= scores[:, :1]).sum(1))).mean())

    return round(float(trust), 6), quality(mean + trust * (new - mean)) - quality(mean.expand_as(new))


def nameless(data: Dataset, *, telling: bool) -> Dataset:
    """The same users and items, whose one entity tells their kind or is drawn by lot."""
    rng = np.random.default_rng(0)
    lots = rng.permutation([item.attributes["kind"][0] for item in data.items])
    items = [
        replace(item, title="", attributes={"kind": [item.attributes["kind"][0] if telling else lot]})
        for item, lot in zip(data.items, lots.tolist(), strict=True)
    ]
    return replace(data, items=items)


def test_content_is_trusted_where_it_tells_what_is_liked_and_hardly_where_it_is_drawn_by_lot() -> None:
    data = tiny.dataset(n_events=1500)
    by_lot = nameless(data, telling=False)  # to EASE it always is, so that the networks' vectors decide
    trust, gained = place(nameless(data, telling=True), by_lot)
    assert trust in TRUST
    assert gained > 0.1
    trust, gained = place(by_lot, by_lot)
    assert trust <= UNTOLD
    assert abs(gained) < 0.01


def test_with_few_later_events_trust_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_EVENTS", 10_000)
    data = tiny.dataset()
    assert place(data, data)[0] == UNTOLD


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
