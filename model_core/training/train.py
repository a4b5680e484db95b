"""Trains a model from interactions and item descriptions, and writes it as a release."""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_core.evaluation.evaluate import compare
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.ensemble import Ensemble, served_as_one
from model_core.network.model import Model
from model_core.release.export import export_release
from model_core.release.folder import EASE, MAPPING, Release, read_release, write_manifest
from model_core.release.scorer import Scorer
from model_core.release.text_encoder import TextEncoder
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import fit_log, map_log
from model_core.training.balance import balance
from model_core.training.calibration import calibrate
from model_core.training.checkpoint import Checkpoint, Epoch, fingerprint
from model_core.training.fit import Report, Trainer, Watch
from model_core.training.linear import with_linear
from model_core.training.newcomers import place_newcomers
from model_core.training.plots import plot_calibration, plot_learning_curve, plot_recall_by_popularity
from model_core.training.recency import with_half_life
from model_core.training.samples import collect_samples, cut_windows
from model_core.training.together import ALONE, Together
from model_core.training.warm_start import Start, of_member, save_weights, take_over

logger = logging.getLogger(__name__)

LAST, GOING_ON = 0.1, 0.5  # peaks of the learning rate: of a last pass, of passes that go on from others
NEXT_SEED = 1000  # from a member's seed to the next one's, so that trainings by other seeds share none
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
    config, train, signals, split = fitted.config, fitted.train, fitted.signals, fitted.split
    model = fitted.model

    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    def describe(metrics: dict[str, Any], served_probability: float | None = None) -> None:
        write_manifest(
            partial,
            config=config,
            actions=dict(weights),
            text_encoder=corpus.text_encoder,
            vocabulary=corpus.vocabulary,
            signals=signals,
            metrics=metrics,
            training=asdict(train)
            | {"until": until, "interactions": split, "history": [asdict(epoch) for epoch in fitted.history]}
            | {"until_ms": int(corpus.log.times_ms[split - 1]), "weights": weights_sha256}
            | dict(said or {}),
            served_probability=served_probability,
        )

    with _timed(seconds, "export"):
        report("export", 0.0)
        weights_sha256 = save_weights(partial, members_of(model))
        log, features = corpus.log.first(split), item_features(corpus)
        fit_log(log, signals, features).save(partial / EASE)
        map_log(log, signals, features).save(partial / MAPPING)
        if text_encoder is not None:
            text_encoder.copy_to(partial)
        differences = export_release(partial, model.encoder, model.ranker, n_items=corpus.log.n_items)
        report("export", 1.0)
    with _timed(seconds, "evaluate"):
        report("evaluate", 0.0)
        describe({})
        scorer = Scorer(partial, threads=train.threads)
        compared = compare(scorer, corpus, split)
        describe({**compared.metrics, "onnx_difference": differences}, compared.served_probability)
        plot_learning_curve(partial / "learning-curve.png", fitted.history)
        plot_calibration(partial / "calibration.png", compared.probability, compared.relevant)
        plot_recall_by_popularity(partial / "recall-by-popularity.png", compared.by_popularity)
        report("evaluate", 1.0)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    for number in range(config.ensemble):
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
    signals = _chosen(signals, corpus, split, train, together)
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


def fit_model(
    corpus: Corpus,
    split: int,
    weights: tuple[float, ...],
    config: ModelConfig,
    train: TrainConfig,
    signals: SignalConfig,
    *,
    start: Start | None = None,
    device: str = "auto",
    report: Report = lambda stage, done: None,
    checkpoint: Checkpoint | None = None,
    watch: Watch = lambda number, epoch: None,
    together: Together = ALONE,
) -> tuple[Model | Ensemble, list[Epoch]]:
    """Train and calibrate on the first `split` rows of a corpus's log.

    The latest rows serve to balance and calibrate the score first, as what the model has not seen; a last,
    gentle epoch then learns from them too. With a checkpoint, a training that was killed goes on after its
    last whole epoch. One that goes on from another passes over what is new since then, with as much of what
    was before, lest that be forgotten.

    The networks of an ensemble are trained one after the other, on the same samples, each from a seed of its
    own. They are balanced and calibrated together. The epochs are those of all of them.

    Of several processes that train `together`, each has the same model in the end.
    """
    log = corpus.log.first(split)
    report("replay", 0.0)
    windows = cut_windows(log, config, train, np.random.default_rng(train.seed))
    features = item_features(corpus)
    samples = collect_samples(
        log, windows, corpus.edges, corpus.stated, features, config, signals,
        folder=None if checkpoint is None else checkpoint.path.parent,
        progress=lambda done: report("replay", done),
    )  # fmt: skip
    passes = train.passes(len(samples.rows))
    if passes < train.epochs:
        logger.warning(
            "%d targets are passed over %d times and not %d; most_samples says so",
            len(samples.rows), passes, train.epochs,
        )  # fmt: skip
    report("replay", 1.0)
    torch.set_num_threads(train.threads)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    recent = int((1.0 - train.calibration) * split)
    since = 0 if start is None else min(split, start.since(corpus))
    trainers: list[Trainer] = []
    history: list[Epoch] = []
    for number in range(config.ensemble):
        seeded = replace(train, seed=train.seed + number * NEXT_SEED)
        torch.manual_seed(seeded.seed)
        member = Model(corpus, replace(config, ensemble=1), seeded, weights).to(where)
        if start is not None:
            taken = take_over(member, corpus.vocabulary, of_member(start, number))
            logger.info("the training goes on from release %s, with %d of its tensors", start.version, taken)
        elif train.graph_embedding != "none" and corpus.edges.mask.any() and together.leads:
            start_from_graph(member, corpus, seeded, device=device, report=report)
        together.match(member)
        if not together.leads:
            torch.manual_seed(seeded.seed + together.rank)  # what it draws is not what another one draws
        trainers.append(Trainer(member, log, windows, samples, seeded, together))
        history += trainers[-1].fit(
            passes, before=recent, since=since, peak=1.0 if start is None else GOING_ON,
            report=_share(report, number, config.ensemble),
            checkpoint=None if checkpoint is None else checkpoint.of_member(number),
            watch=_after(watch, len(history)),
        )  # fmt: skip
        if together.leads:
            place_newcomers(member, trainers[-1], log.first(recent), features)
    model = served_as_one([one.model for one in trainers])
    if together.leads:
        report("balance", 0.0)
        balance(model, corpus, log, recent, signals)
        report("balance", 1.0)
        calibrate(model, corpus, log, recent, signals)
    together.match(model)
    for number, trainer in enumerate(trainers):
        trainer.fit(
            1, before=split, since=min(since, recent), peak=LAST,
            report=_share(lambda stage, done: report("finish", done), number, config.ensemble),
        )  # fmt: skip
        trainer.model.settle(log, features)
    return model, history


def _chosen(
    signals: SignalConfig, corpus: Corpus, split: int, train: TrainConfig, together: Together
) -> SignalConfig:
    """Return a copy with what later interactions decide."""

    def chosen() -> dict[str, Any]:
        log, found = corpus.log.first(split), signals
        if train.choose_half_life and not found.popularity_half_life_ms:
            found = with_half_life(found, corpus, log, split // 2)
        if train.choose_linear:
            found = with_linear(found, log, int((1.0 - train.calibration) * split))
        return asdict(found)

    return SignalConfig(**together.told(chosen))


def members_of(model: Model | Ensemble) -> list[Model]:
    """Return the networks that a model consists of."""
    return model.models if isinstance(model, Ensemble) else [model]


def _share(report: Report, number: int, members: int) -> Report:
    """Report how much of all members' training is done while one of them trains."""
    return lambda stage, done: report(stage, (number + done) / members)


def _after(watch: Watch, epochs: int) -> Watch:
    """Count the epochs of a member after those of the members before it."""
    return lambda number, epoch: watch(epochs + number, epoch)


def fit_widths(config: ModelConfig, corpus: Corpus) -> ModelConfig:
    """Return a copy with the widths of the corpus's embeddings."""
    widths = {f"{kind}_dim": getattr(corpus, kind).shape[1] for kind in ("text", "image", "audio")}
    return replace(config, **widths)


def start_from_graph(
    model: Model, corpus: Corpus, train: TrainConfig, *, device: str = "auto", report: Report
) -> None:
    """Embed the catalogue's knowledge graph, and let the model's tables start there."""
    # PyG takes a second to import and warns of what it uses: only who embeds a graph waits for it.
    from model_core.graph.kge import KgeConfig, train_embeddings
    from model_core.graph.knowledge_graph import KnowledgeGraph, split_triples
    from model_core.graph.node_embeddings import initial_weights

    names, edges = corpus.vocabulary, corpus.edges
    items, entities, relations = (
        list(rows) for rows in (names.item_rows, names.entity_rows, names.relation_rows)
    )
    at, column = np.nonzero(edges.mask)
    graph = KnowledgeGraph.from_triples(
        (
            (items[row], relations[relation - 1], entities[entity - 1])
            for row, relation, entity in zip(
                at, edges.relations[at, column], edges.entities[at, column], strict=True
            )
        ),
        items,
    )
    settings = KgeConfig(
        model=train.graph_embedding, dim=model.encoder.config.dim, epochs=train.graph_epochs, seed=train.seed
    )
    trained = train_embeddings(graph, split_triples(graph, test=0.0), settings, device=device, report=report)
    start = initial_weights(trained.embeddings, names, model.encoder)
    model.encoder.load_state_dict(start, strict=False)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - began, 2)
