"""Adversarial training: the step that hurts the most, and the loss that is weighed under it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.inputs.replay import item_features
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.signals.config import SignalConfig
from model_core.training.adversarial import worst_step
from model_core.training.networks import fit_widths
from model_core.training.objective import Objective
from model_core.training.samples import collect_samples, cut_windows
from tests.model_core import tiny

PLAIN = TrainConfig(
    warm_up=0.0, threads=1, dropout=0.0, id_dropout=0.0, modality_dropout=0.0, newcomers=0.0, new_users=0.0,
    ranked=1.0, negatives=16, neighbours=4,
)  # fmt: skip


def test_a_step_is_a_share_of_the_length_along_the_gradient_and_nothing_of_what_is_missing() -> None:
    parts = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 2.0], [1.0, 0.0]]])
    gradient = torch.tensor([[[0.0, 1e-6], [5.0, 0.0]], [[-3.0, 0.0], [0.0, 0.0]]])
    expected = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[-0.4, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(worst_step(parts, gradient, 0.2), expected)


@pytest.mark.parametrize("whole_catalogue", [4096, 20])
@pytest.mark.parametrize("fusion", ["sum", "joint"])
def test_the_loss_under_the_worst_step_is_weighed_with_the_plain_one(
    whole_catalogue: int, fusion: str
) -> None:
    train = replace(PLAIN, whole_catalogue=whole_catalogue)
    plain, under_none = losses(train, fusion), losses(train, fusion, adversarial=0.3, adversarial_weight=0.0)
    assert under_none == pytest.approx(plain, rel=1e-5)
    small, large = (
        losses(train, fusion, adversarial=size, adversarial_weight=1.0)[0] for size in (0.01, 0.3)
    )
    half = losses(train, fusion, adversarial=0.3, adversarial_weight=0.5)[0]
    assert plain[0] < small < large
    assert half == pytest.approx((plain[0] + large) / 2, rel=1e-5)


def losses(train: TrainConfig, fusion: str, **settings: float) -> tuple[float, float]:
    """Loss and retrieval's part of it of one step, before anything is learned; draws are always the same."""
    train = replace(train, **settings)
    corpus = tiny.corpus(tiny.dataset(n_events=300))
    config = fit_widths(replace(tiny.CONFIG, fusion=fusion), corpus)
    windows = cut_windows(corpus.log, config, train, np.random.default_rng(0))
    features = item_features(corpus)
    samples = collect_samples(
        corpus.log, windows, corpus.edges, corpus.stated, features, config, SignalConfig()
    )
    torch.manual_seed(0)
    model = Model(corpus, config, train, tuple(tiny.WEIGHTS.values())).train()
    objective = Objective(model, corpus.log, windows, samples, train, np.random.default_rng(0))
    rows = np.flatnonzero((windows.targets >= 0).any(1))[:8]
    torch.manual_seed(1)
    loss, retrieval = objective(rows, windows.targets[rows])
    loss.backward()
    assert model.encoder.text.weight.grad is not None
    assert torch.isfinite(model.encoder.text.weight.grad).all()
    return float(loss.detach()), float(retrieval.detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adversarial": -0.1}, r"adversarial must be in \[0, 1\], got -0.1"),
        ({"adversarial": float("nan")}, r"adversarial must be in \[0, 1\], got nan"),
        ({"adversarial_weight": 1.5}, r"adversarial_weight must be in \[0, 1\], got 1.5"),
    ],
)
def test_steps_and_weights_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
