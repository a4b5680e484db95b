"""A catalogue beyond the sizes where everything is made for every item, played with few items."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.evaluation import evaluate
from model_core.evaluation.evaluate import future
from model_core.inputs.replay import item_features
from model_core.network import content_map
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.release.served import serve
from model_core.signals import cold_start, ease
from model_core.signals.cold_start import Ridge, weights_as_new
from model_core.signals.config import SignalConfig
from model_core.signals.ease import fit_ease
from model_core.training import samples
from model_core.training.fit import Trainer
from model_core.training.networks import fit_model, fit_widths
from model_core.training.samples import SHARED, collect_samples, cut_windows
from tests.model_core import tiny

TRAIN = TrainConfig(epochs=4, warm_up=0.0, threads=1, whole_catalogue=20, negatives=16)


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ease, cold_start, content_map):
        monkeypatch.setattr(module, "DENSE_ITEMS", 20)
    monkeypatch.setattr(cold_start, "LEARNED", 30)
    monkeypatch.setattr(cold_start, "AS_NEW", 30)
    monkeypatch.setattr(cold_start, "BLOCK", 7)
    monkeypatch.setattr(content_map, "BLOCK", 7)
    monkeypatch.setattr(samples, "IN_MEMORY", 0)


def test_users_are_given_what_their_kind_likes(few_are_many: None) -> None:
    corpus = tiny.corpus(tiny.dataset(n_events=1500))
    config = fit_widths(replace(tiny.CONFIG, n_candidates=20), corpus)
    weights, users = tuple(tiny.WEIGHTS.values()), np.arange(20, dtype=np.int32)
    model, _ = fit_model(corpus, 1400, weights, config, TRAIN, SignalConfig(), device="cpu")
    (served,) = serve(model, corpus, corpus.log, 1400, users, SignalConfig())
    names = list(corpus.vocabulary.item_rows)
    # Users of a kind respond to items of it alone, and have met hardly all of these.
    kinds = np.array([int(name[1:]) % 2 for name in names])[served.top(3)]
    first = [corpus.log.items[corpus.log.users == user][0] for user in users]
    own = np.array([int(names[item][1:]) % 2 for item in first])
    assert (kinds == own[:, None])[served.valid[:, :3]].mean() > 0.8


def test_negatives_are_drawn_as_often_as_is_said_and_shared_by_neighbours() -> None:
    log = tiny.corpus(tiny.dataset(n_events=6000, n_users=300)).log
    windows = cut_windows(log, tiny.CONFIG, TRAIN, np.random.default_rng(0))
    assert windows.expected is not None
    counted = np.bincount(windows.columns.ravel(), minlength=log.n_items) / len(windows.columns)
    np.testing.assert_allclose(counted, windows.expected, atol=0.12)
    assert windows.expected.sum() == pytest.approx(TRAIN.negatives, rel=1e-4)
    assert (windows.expected > 0).all()
    assert (np.diff(windows.lengths) <= 0).all()
    groups = windows.columns[: len(windows.columns) // SHARED * SHARED].reshape(-1, SHARED, TRAIN.negatives)
    assert (groups == groups[:, :1]).all()


def trainer_of(train: TrainConfig) -> Trainer:
    corpus = tiny.corpus(tiny.dataset(n_events=1500))
    config = fit_widths(tiny.CONFIG, corpus)
    torch.manual_seed(0)
    windows = cut_windows(corpus.log, config, train, np.random.default_rng(0))
    collected = collect_samples(
        corpus.log, windows, corpus.edges, corpus.stated, item_features(corpus), config, SignalConfig()
    )
    model = Model(corpus, config, train, tuple(tiny.WEIGHTS.values()))
    return Trainer(model, corpus.log, windows, collected, train)


def test_every_stretch_is_in_one_step_beside_others_of_its_length() -> None:
    trainer = trainer_of(TRAIN)
    usable = np.flatnonzero(np.arange(len(trainer.windows.events)) % 5 > 0)
    batches = trainer._batches(usable, np.random.default_rng(1))
    assert np.sort(np.concatenate(batches)).tolist() == usable.tolist()
    cells = [len(rows) * (1 + trainer.windows.lengths[rows].max()) for rows in batches]
    assert max(cells) <= TRAIN.batch_windows * trainer.windows.targets.shape[1]
    step_of = np.empty(len(trainer.windows.events), np.int64)
    for step, rows in enumerate(batches):
        step_of[rows] = step
    for group in range(len(step_of) // SHARED):
        rows = usable[usable // SHARED == group]
        assert len(set(step_of[rows].tolist())) <= 1


def test_a_step_that_encodes_what_it_reads_has_the_loss_of_one_that_encodes_everything() -> None:
    trainer = trainer_of(TRAIN)
    trainer.model.eval()
    rows = np.arange(12)
    targets = trainer.windows.targets[rows]
    losses = []
    with torch.inference_mode():
        for vectors in (None, trainer.model.vectors()):
            torch.manual_seed(3)
            losses.append(trainer._objective(rows, targets, vectors=vectors)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_targets_and_passes_are_bounded() -> None:
    log = tiny.corpus(tiny.dataset(n_events=6000, n_users=300)).log
    train = replace(TRAIN, most_targets=2000, most_samples=5000)
    windows = cut_windows(log, tiny.CONFIG, train, np.random.default_rng(0))
    asked = windows.targets[windows.targets >= 0]
    assert len(np.unique(asked)) == len(asked)
    assert 1700 < len(asked) < 2300
    assert [train.passes(n) for n in (100, 1200, 2000, 50_000)] == [4, 3, 1, 1]


def test_weights_as_new_of_a_large_catalogue_are_those_of_a_small_one(few_are_many: None) -> None:
    corpus = tiny.corpus(tiny.dataset(n_events=1500))
    log, features = corpus.log, item_features(corpus)
    few = log.items < 25  # what is learned from is all that is liked
    fitted = fit_ease(log.users[few], log.items[few], log.n_items, penalty=10.0)
    many = weights_as_new(fitted, features, Ridge())
    assert np.diff(many.bounds).max() == 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold_start, "DENSE_ITEMS", log.n_items)
        whole = weights_as_new(fitted, features, Ridge()).dense()
    kept = many.dense()
    there = kept != 0
    np.testing.assert_allclose(kept[there], whole[there], rtol=1e-3, atol=1e-6)
    least = np.where(there, np.abs(whole), np.inf).min(1, initial=np.inf)
    assert (np.where(there, 0.0, np.abs(whole)).max(1) <= least + 1e-5).all()


def test_of_many_users_some_are_asked_whatever_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    log = tiny.corpus(tiny.dataset(n_events=3000, n_users=100)).log
    every = future(log, 1500)
    monkeypatch.setattr(evaluate, "MAX_CELLS", 10 * log.n_items)
    some = future(log, 1500)
    assert len(some.users) == 10 < len(every.users)
    at = np.searchsorted(every.users, some.users)
    np.testing.assert_array_equal(every.users[at], some.users)
    np.testing.assert_array_equal(every.relevant[at], some.relevant)
    met = np.zeros((log.n_users, log.n_items), np.bool_)
    met[log.users[:1500], log.items[:1500]] = True
    assert not (every.relevant & met[every.users]).any()
