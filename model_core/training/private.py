"""A release that hardly depends on any one user: EASE of noisy counts, and networks that learned nothing.

Networks learn from all that users did, so they are left as they begin: they rank by co-visits, popularity
and EASE with fixed weights, and say nothing of an item by itself. Nothing else is told that was computed from
users: no metrics, no count of events, no times, no pictures. Events are not held out, for where a share of
the log ends depends on every user in it.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model_core.data.datasets import Dataset
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.model import Model
from model_core.privacy.config import Privacy
from model_core.privacy.counts import PrivateCounts, Similar, likely_pairs, noises, private_counts
from model_core.release.export import export_release
from model_core.release.folder import EASE, MAPPING, read_release, whole_folder, write_manifest
from model_core.release.text_encoder import TextEncoder
from model_core.signals.cold_start import ItemFeatures, Ridge, fit_mapping
from model_core.signals.config import SignalConfig
from model_core.signals.ease import DENSE_ITEMS, Ease, ease_of_counts
from model_core.signals.sample_signals import with_unmet
from model_core.training.fit import Report
from model_core.training.networks import fit_widths
from model_core.training.train import Trained

ALIKE = Ridge(graph_weight=2.0)
"""How items are alike: what they are linked to counts twice as much as their texts."""
PRIOR = 0.5
"""Pairs that items which are alike are taken to have, relative to noise and popularity."""
MOST_CLIP = 2.0
"""Beyond, hardly anybody is shortened, and noise, which grows with its square, drowns everything."""
PENALTY = 10.0
"""Of EASE on noisy pairs, of which a user has a length of 1."""
PRIVATE_WEIGHTS = (0.8, 0.2, 0.2)
"""Of co-visits, popularity and EASE, which noise makes worse and the others not; chosen on ML-100K."""


def train_private(
    corpus: Corpus,
    weights: Mapping[str, float],
    out: Path,
    privacy: Privacy,
    *,
    config: ModelConfig | None = None,
    signals: SignalConfig | None = None,
    text_encoder: TextEncoder | None = None,
    report: Report = lambda stage, done: None,
) -> Trained:
    """Write a release with the promise of `privacy`, from all of a log; see `public_part` for the corpus.

    No two are alike: the noise is drawn from the system's entropy, once.

    Raises
    ------
    ValueError
        If nothing is promised, there are too many items, a low pass, nearness or too large a clip is asked
        for, or a graph fails its check against torch.
    """
    if not privacy.promised:
        raise ValueError("epsilon must be finite for a private release, got inf")
    check_size(corpus.log.n_items)
    for name in ("low_pass", "ease_near"):
        if signals is not None and getattr(signals, name):
            raise ValueError(f"{name} must be 0 for a private release, got {getattr(signals, name)}")
    if privacy.clip > MOST_CLIP:
        raise ValueError(
            f"clip must be at most {MOST_CLIP:g} for a private release, got {privacy.clip:g}: it is "
            "relative to the length that independent likes have"
        )
    config = fit_widths(config or ModelConfig(), corpus)
    signals = replace(signals or SignalConfig(), full_likes=0)  # `Privacy.clip` bounds a user instead
    config = replace(config, ensemble=1)  # networks that learn nothing say nothing together either
    began, features, log = time.perf_counter(), item_features(corpus), corpus.log
    report("train", 0.0)
    counts = private_counts(
        log.users[log.positive], log.items[log.positive], log.n_items, by_catalogue(features), privacy,
        np.random.default_rng(),
    )  # fmt: skip
    ease = private_ease(counts, log.n_items, penalty=signals.ease_penalty, keep=signals.ease_keep)
    with whole_folder(out) as folder:
        with_unmet(ease, signals, features).save(folder / EASE)
        fit_mapping(ease, features).save(folder / MAPPING)
        report("train", 1.0)
        if text_encoder is not None:
            text_encoder.copy_to(folder)
        model = untrained(corpus, config, tuple(weights.values()))
        differences = export_release(folder, model.encoder, model.ranker, n_items=log.n_items)
        write_manifest(
            folder, config=config, actions=dict(weights), text_encoder=corpus.text_encoder,
            vocabulary=corpus.vocabulary, signals=signals, metrics={"onnx_difference": differences},
            training={"privacy": privacy.statement(noises(privacy))},
        )  # fmt: skip
    return Trained(read_release(out), {"train": round(time.perf_counter() - began, 2)})


def private_ease(counts: PrivateCounts, n_items: int, *, penalty: float = 300.0, keep: int = 256) -> Ease:
    """EASE of the counts of `private_counts`; it reads nothing else of the users.

    Items that are alike are taken for liked together beside what users told, the more the more noise.

    Parameters
    ----------
    penalty : where there is no noise

    Raises
    ------
    ValueError
        If there are more than `DENSE_ITEMS` items.
    """
    check_size(n_items)
    pairs = likely_pairs(counts)
    if counts.edge:
        root, penalty = np.sqrt(counts.liked), PENALTY
        pairs += PRIOR * counts.edge / counts.users * root[:, None] * root * counts.alike
    return ease_of_counts(pairs.astype(np.float32), counts.known, n_items, penalty=penalty, keep=keep)


def by_catalogue(features: ItemFeatures) -> Similar:
    """Similarity of items by their texts and attributes."""
    return lambda rows: features.kernel(ALIKE, rows, rows)


def check_size(n_items: int) -> None:
    """See that there are few enough items for a matrix of counts."""
    if n_items > DENSE_ITEMS:
        raise ValueError(
            f"items must be at most {DENSE_ITEMS} where epsilon is set, since every pair of them gets noise, "
            f"got {n_items}"
        )


def untrained(corpus: Corpus, config: ModelConfig, weights: tuple[float, ...]) -> Model:
    """Networks as they begin, that leave the score to the signals; they depend on the catalogue alone."""
    torch.manual_seed(0)
    model = Model(corpus, config, TrainConfig(), weights)
    ranker = model.ranker
    with torch.no_grad():
        for part in (ranker.user.weight, ranker.user.bias, ranker.item_bias):
            part.zero_()
        ranker.signal_weight.copy_(torch.log(torch.expm1(torch.tensor(PRIVATE_WEIGHTS))))
        for gains in (ranker.gains_here, ranker.gains_away):
            gains[-2:] = 0.0
    return model.eval()


def public_part(dataset: Dataset, actions: list[str]) -> tuple[Dataset, list[str]]:
    """Leave out what a vocabulary would tell of users: what they state, and items known from clicks only.

    Such an item has its id for a title. Its events go with it.

    Raises
    ------
    ValueError
        If no item is left.
    """
    items = [item for item in dataset.items if item.title != item.item_id]
    if not items:
        raise ValueError(
            "items must have titles where epsilon is set, since those known from users' events only are left "
            "out: give a catalogue"
        )
    log = dataset.interactions
    kept = np.isin(log.item_ids, np.array([item.item_id for item in items], np.str_))
    return (
        replace(dataset, items=items, users=[], interactions=log[kept]),
        [action for action, there in zip(actions, kept.tolist(), strict=True) if there],
    )
