"""Trains the networks of a model: each by itself, then what their score counts for together."""

import logging
from dataclasses import replace

import numpy as np
import torch

from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_features
from model_core.network.config import CO_VISITS, ModelConfig, TrainConfig
from model_core.network.ensemble import Ensemble, served_as_one
from model_core.network.model import Model
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training.balance import balance
from model_core.training.calibration import calibrate
from model_core.training.checkpoint import Checkpoint, Epoch
from model_core.training.fit import Report, Trainer, Watch
from model_core.training.newcomers import place_newcomers
from model_core.training.samples import Samples, Windows, collect_samples, cut_windows
from model_core.training.together import ALONE, Together
from model_core.training.warm_start import Start, of_member, take_over

logger = logging.getLogger(__name__)

LAST, GOING_ON = 0.1, 0.5  # peaks of the learning rate: of a last pass, of passes that go on from others
NEXT_SEED = 1000  # from a member's seed to the next one's, so that trainings by other seeds share none


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
    last whole epoch. One that goes on from another passes over what is new since then and as much of what
    is older, so that it forgets neither.

    The networks of an ensemble are trained one after the other, on the same samples, each from a seed of its
    own. They are balanced and calibrated together. The epochs are those of all of them.

    Of several processes that train `together`, each has the same model in the end.
    """
    log, features = corpus.log.first(split), item_features(corpus)
    windows, samples = _replay(corpus, log, features, config, train, signals, checkpoint, report)
    passes = _passes(train, len(samples.rows))
    torch.set_num_threads(train.threads)
    recent = int((1.0 - train.calibration) * split)
    since = 0 if start is None else min(split, start.since(corpus))
    trainers: list[Trainer] = []
    history: list[Epoch] = []
    for number in range(config.ensemble):
        seeded = replace(train, seed=train.seed + number * NEXT_SEED)
        member = _begin(
            corpus, log.first(recent), replace(config, ensemble=1), seeded, weights, signals,
            start=None if start is None else of_member(start, number),
            device=device, report=report, together=together,
        )  # fmt: skip
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


def _replay(
    corpus: Corpus,
    log: Log,
    features: ItemFeatures,
    config: ModelConfig,
    train: TrainConfig,
    signals: SignalConfig,
    checkpoint: Checkpoint | None,
    report: Report,
) -> tuple[Windows, Samples]:
    """Cut a log into stretches, with the state before each of their targets.

    What does not fit into memory lies beside the checkpoint.
    """
    report("replay", 0.0)
    windows = cut_windows(log, config, train, np.random.default_rng(train.seed))
    samples = collect_samples(
        log, windows, corpus.edges, corpus.stated, features, config, signals,
        folder=None if checkpoint is None else checkpoint.path.parent,
        progress=lambda done: report("replay", done),
    )  # fmt: skip
    report("replay", 1.0)
    return windows, samples


def _passes(train: TrainConfig, n_targets: int) -> int:
    """Return how often targets are passed over, and warn where that is less often than wanted."""
    passes = train.passes(n_targets)
    if passes < train.epochs:
        logger.warning(
            "%d targets are passed over %d times and not %d; most_samples says so",
            n_targets, passes, train.epochs,
        )  # fmt: skip
    return passes


def _begin(
    corpus: Corpus,
    log: Log,
    config: ModelConfig,
    train: TrainConfig,
    weights: tuple[float, ...],
    signals: SignalConfig,
    *,
    start: Start | None,
    device: str,
    report: Report,
    together: Together,
) -> Model:
    """Make a network with the weights that it is trained from, in all processes the same.

    They are those of another training, or random ones, of which the tables may be those of the catalogue's
    graph or of the co-visits of a log.
    """
    torch.manual_seed(train.seed)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    member = Model(corpus, config, train, weights).to(where)
    if start is not None:
        taken = take_over(member, corpus.vocabulary, start)
        logger.info("the training goes on from release %s, with %d of its tensors", start.version, taken)
    elif train.graph_embedding == CO_VISITS and together.leads:
        start_from_co_visits(member, log, train, signals)
    elif train.graph_embedding != "none" and corpus.edges.mask.any() and together.leads:
        start_from_graph(member, corpus, train, device=device, report=report)
    together.match(member)
    if not together.leads:
        torch.manual_seed(train.seed + together.rank)  # what it draws is not what another one draws
    return member


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


@torch.no_grad()
def start_from_co_visits(model: Model, log: Log, train: TrainConfig, signals: SignalConfig) -> None:
    """Embed the graph of what is liked together, and let the items that it has start there."""
    from model_core.graph.co_visits import pairs_in_order, spectral_embedding

    liked = np.flatnonzero(log.positive & (log.items < log.n_items))[-train.most_targets :]
    by_user = liked[np.argsort(log.users[liked], kind="stable")]
    pairs = pairs_in_order(
        log.users[by_user], log.items[by_user], log.n_items,
        window=signals.window, decay=signals.pair_decay,
    )  # fmt: skip
    model.encoder.begin_at(
        model.inputs["id_rows"], torch.as_tensor(spectral_embedding(pairs, model.encoder.config.dim))
    )
