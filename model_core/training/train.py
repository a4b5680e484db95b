"""Trains a model from interactions and item descriptions, and writes it as a release."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from model_core.evaluation.evaluate import compare
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.ensemble import Ensemble
from model_core.network.model import Model
from model_core.release.export import export_release
from model_core.release.folder import EASE, MAPPING, Release, read_release, whole_folder, write_manifest
from model_core.release.scorer import Scorer
from model_core.release.text_encoder import TextEncoder
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import fit_log, map_log
from model_core.training.checkpoint import Checkpoint, Epoch, fingerprint
from model_core.training.fit import Report, Watch
from model_core.training.linear import with_linear
from model_core.training.networks import fit_model, fit_widths, members_of
from model_core.training.plots import plot_calibration, plot_learning_curve, plot_recall_by_popularity
from model_core.training.recency import order_ranks_better, with_half_life
from model_core.training.together import ALONE, Together
from model_core.training.warm_start import Start, save_weights

HELD_OUT = 0.1  # kept out for the metrics when all interactions are to be trained on


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training: the release, with its metrics, and the seconds of each stage."""

    release: Release
    seconds: dict[str, float]


def train_release(
    corpus: Corpus,
    weights: Mapping[str, float],
    out: Path,
    *,
    until: float = 1.0,
    config: ModelConfig | None = None,
    train: TrainConfig | None = None,
    signals: SignalConfig | None = None,
    text_encoder: TextEncoder | None = None,
    start: Start | None = None,
    said: Mapping[str, Any] | None = None,
    device: str = "auto",
    report: Report = lambda stage, done: None,
    watch: Watch = lambda number, epoch: None,
    together: Together = ALONE,
) -> Trained:
    """Train on the first part of a log by time and write the release folder `out`.

    What follows the first part is the test behind the metrics; with ``until=1`` the last tenth is kept out
    for that. The same seed gives the same release where the platform's arithmetic allows. The folder
    appears complete or not at all; a training that was killed goes on after its last whole epoch, by the file
    `<out>.checkpoint`, when it is started again in the same way.

    Of several processes that train together this is what the first one does; the others `help_training`.

    Parameters
    ----------
    weights
        Reward weight of every action, in the order of the release's codes; positive from 1 on.
    until
        Fraction of the interactions to train on, in (0, 1].
    text_encoder
        The corpus's, for the release to carry; without it a worker must have one of the same name.
    start
        Another training of a model of these sizes, which this one goes on from: it learns from what is new
        since then, and from as much again of what was before. If none of its items is known here,
        it is of another domain, and all is new.
    said
        What else the release is to say of its training.
    together
        The processes that train it; all have the same data and arguments.

    Raises
    ------
    ValueError
        If there is too little to train on, or a graph fails its check against torch.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "train"):
        fitted = _fit(
            corpus, weights, out, until=until, config=config, train=train, signals=signals, start=start,
            device=device, report=report, watch=watch, together=together,
        )  # fmt: skip
    with whole_folder(out) as folder:
        with _timed(seconds, "export"):
            report("export", 0.0)
            differences, weights_sha256 = _export(folder, fitted, corpus, text_encoder)
            report("export", 1.0)
        training = _said_of_training(fitted, corpus, until, weights_sha256) | dict(said or {})
        if start is None:  # else it counts as the training before did
            log = corpus.log.first(fitted.split)
            training["order_ranks_better"] = order_ranks_better(fitted.signals, corpus, log, len(log) // 2)
        with _timed(seconds, "evaluate"):
            report("evaluate", 0.0)
            _evaluate(folder, fitted, corpus, dict(weights), training, differences)
            report("evaluate", 1.0)
    for number in range(fitted.config.ensemble):
        fitted.checkpoint.of_member(number).delete()
    return Trained(read_release(out), seconds)


def help_training(
    corpus: Corpus,
    weights: Mapping[str, float],
    out: Path,
    together: Together,
    *,
    until: float = 1.0,
    config: ModelConfig | None = None,
    train: TrainConfig | None = None,
    signals: SignalConfig | None = None,
    start: Start | None = None,
    device: str = "auto",
) -> None:
    """Take part in the training of a release that the first of several processes writes.

    All have the same corpus and arguments, which are those of `train_release`. What does not fit into memory
    lies beside `out`.
    """
    _fit(
        corpus, weights, out, until=until, config=config, train=train, signals=signals, start=start,
        device=device, report=lambda stage, done: None, watch=lambda number, epoch: None, together=together,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A trained model, with all that was decided on the way."""

    model: Model | Ensemble
    history: list[Epoch]
    config: ModelConfig
    train: TrainConfig
    signals: SignalConfig
    split: int
    checkpoint: Checkpoint


def _fit(
    corpus: Corpus,
    weights: Mapping[str, float],
    out: Path,
    *,
    until: float,
    config: ModelConfig | None,
    train: TrainConfig | None,
    signals: SignalConfig | None,
    start: Start | None,
    device: str,
    report: Report,
    watch: Watch,
    together: Together,
) -> _Fitted:
    """Train on the first part of a log: what all of several processes do together."""
    train, signals = train or TrainConfig(), signals or SignalConfig()
    config = fit_widths(config or ModelConfig(), corpus)
    if start is not None:
        start.check_texts(corpus)
        start = start.for_actions(weights)
    if not 0.0 < until <= 1.0:
        raise ValueError(f"until must be in (0, 1], got {until}")
    split = int((until if until < 1.0 else 1.0 - HELD_OUT) * len(corpus.log))
    signals = _chosen(signals, corpus, split, train, start, together)
    version = "" if start is None else start.version
    checkpoint = Checkpoint(
        out.with_name(out.name + ".checkpoint"),
        fingerprint(corpus, split, config, train, signals, start=version),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    model, history = fit_model(
        corpus, split, tuple(weights.values()), config, train, signals, start=start, device=device,
        report=report, checkpoint=checkpoint, watch=watch, together=together,
    )  # fmt: skip
    return _Fitted(model, history, config, train, signals, split, checkpoint)


def _export(
    folder: Path, fitted: _Fitted, corpus: Corpus, text_encoder: TextEncoder | None
) -> tuple[dict[str, float], str]:
    """Write all of a release but its manifest.

    Returns
    -------
    How far each graph is from torch, and the SHA-256 of the weights, of which another training begins.
    """
    log, features = corpus.log.first(fitted.split), item_features(corpus)
    model = fitted.model
    weights_sha256 = save_weights(folder, members_of(model))
    fit_log(log, fitted.signals, features).save(folder / EASE)
    map_log(log, fitted.signals, features).save(folder / MAPPING)
    if text_encoder is not None:
        text_encoder.copy_to(folder)
    differences = export_release(folder, model.encoder, model.ranker, n_items=corpus.log.n_items)
    return differences, weights_sha256


def _said_of_training(fitted: _Fitted, corpus: Corpus, until: float, weights_sha256: str) -> dict[str, Any]:
    """Return what the manifest says of how a release came about."""
    return asdict(fitted.train) | {
        "until": until,
        "interactions": fitted.split,
        "history": [asdict(epoch) for epoch in fitted.history],
        "until_ms": int(corpus.log.times_ms[fitted.split - 1]),
        "weights": weights_sha256,
    }


def _evaluate(
    folder: Path,
    fitted: _Fitted,
    corpus: Corpus,
    actions: dict[str, float],
    training: dict[str, Any],
    differences: dict[str, float],
) -> None:
    """Measure an exported release on what it has not learned from, and write the manifest and pictures."""
    describe = partial(
        write_manifest, folder, config=fitted.config, actions=actions, text_encoder=corpus.text_encoder,
        vocabulary=corpus.vocabulary, signals=fitted.signals, training=training,
    )  # fmt: skip
    describe(metrics={})  # without a manifest there is nothing to serve
    compared = compare(Scorer(folder, threads=fitted.train.threads), corpus, fitted.split)
    describe(
        metrics={**compared.metrics, "onnx_difference": differences},
        served_probability=compared.served_probability,
    )
    plot_learning_curve(folder / "learning-curve.png", fitted.history)
    plot_calibration(folder / "calibration.png", compared.probability, compared.relevant)
    plot_recall_by_popularity(folder / "recall-by-popularity.png", compared.by_popularity)


def _chosen(
    signals: SignalConfig,
    corpus: Corpus,
    split: int,
    train: TrainConfig,
    start: Start | None,
    together: Together,
) -> SignalConfig:
    """Return a copy with what later interactions decide.

    Co-visits are counted as the training before counted them: workers have those counts.
    """

    def chosen() -> dict[str, Any]:
        log, found = corpus.log.first(split), signals
        if train.choose_half_life and not found.popularity_half_life_ms:
            found = with_half_life(found, corpus, log, split // 2)
        if start is not None and found.order == SignalConfig().order:
            found = replace(found, **start.signals.order)
        if train.choose_linear:
            found = with_linear(found, log, int((1.0 - train.calibration) * split))
        return asdict(found)

    return SignalConfig(**together.told(chosen))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - began, 2)
