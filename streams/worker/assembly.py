"""Builds a worker's parts and wires them: nothing here runs, connects or keeps state."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model_core.signals.sample_signals import SignalConfig
from online_learning.statistics.position_bias import POSITIONS
from online_learning.statistics.posterior import LinearPrior
from streams.clock import SYSTEM_CLOCK, Clock
from streams.durability.flush import Flusher
from streams.durability.restore import Restorer
from streams.items.content import ContentEncoder
from streams.items.table import AnyScorer, ItemTable
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.inputs import Inputs
from streams.kafka.log import Log, RowPublisher
from streams.kafka.placement import Placement
from streams.kafka.topics import topic_names
from streams.kafka.transport import RecordBatch
from streams.learning.learner import Learner
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.serving.server import Server
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.shard_factory import ShardFactory
from streams.state.shared import SharedState
from streams.why.explainer import Explainer
from streams.worker.agents.clicks import ClickAgent
from streams.worker.agents.content import ContentAgent
from streams.worker.agents.requests import RequestAgent
from streams.worker.agents.users import UserAgent
from streams.worker.partitions import Partitions
from streams.worker.shared_topics import SharedTopics

Agent = Callable[[RecordBatch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker; agents by the topic that they read."""

    settings: Settings
    topics: dict[str, str]
    metrics: Metrics
    scorer: AnyScorer
    inference: ThreadPoolExecutor
    shared: SharedState
    items: ItemTable
    content: ContentEncoder
    policies: PolicySet
    learner: Learner
    inputs: Inputs
    publisher: RowPublisher
    shared_topics: SharedTopics
    partitions: Partitions
    flusher: Flusher
    server: Server
    explainer: Explainer
    agents: dict[str, Agent]


def assemble(settings: Settings, log: Log, scorer: AnyScorer, *, clock: Clock = SYSTEM_CLOCK) -> Parts:
    """Return the parts of a worker that reads and writes `log`."""
    metrics, topics = Metrics(), topic_names(settings)
    inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
    index = ItemIndex()
    policies = PolicySet(settings, _prior(settings, scorer), metrics)
    factory = ShardFactory(
        settings,
        policies.learning,
        model_version=scorer.release.version,
        signals=SignalConfig(**scorer.release.signals),
    )
    metrics.set_examination(factory.examination[:POSITIONS])
    shared = SharedState(index, Catalogue(index), {p: factory.covisits() for p in range(settings.partitions)})
    items = ItemTable(index, shared.catalogue, scorer, inference)
    content = ContentEncoder(settings, scorer)
    inputs, publisher = Inputs(topics), log.publisher()
    learner = Learner(policies, metrics)
    shared_topics = SharedTopics(
        settings, log, topics, shared=shared, items=items, learner=learner, experiments=policies.experiments,
        publisher=publisher, metrics=metrics,
    )  # fmt: skip
    restorer = Restorer(
        log, topics, factory, policies.learning, model_version=scorer.release.version,
        feature_dim=scorer.release.feature_dim, index=index, inputs=inputs, metrics=metrics,
    )  # fmt: skip
    partitions = Partitions(
        restorer.restore, inputs=inputs, shared=shared, shared_topics=shared_topics, items=items,
        learner=learner, metrics=metrics,
    )  # fmt: skip
    flusher = Flusher(
        settings, topics, partitions.live, index=index, inputs=inputs, publisher=publisher, metrics=metrics,
        clock=clock,
    )  # fmt: skip
    server = Server(
        settings, shared=shared, scorer=scorer, items=items, policies=policies, inference=inference,
        end_of_clicks=shared_topics.end_of_clicks, inputs=inputs, publisher=publisher,
        recommendations=topics["recommendations"], metrics=metrics,
    )  # fmt: skip
    explainer = Explainer(
        settings, partitions.shard, shared=shared, scorer=scorer, items=items, server=server,
        inference=inference,
    )  # fmt: skip
    dead_letters = DeadLetters(publisher, topics["dead-letters"], metrics)
    placement = Placement(settings.partitions, metrics)
    agents: dict[str, Agent] = {
        "clicks": ClickAgent(
            settings, partitions.shard, index=index, server=server, placement=placement,
            dead_letters=dead_letters, metrics=metrics,
        ),
        "content": ContentAgent(
            content, publisher=publisher, item_state=topics["item-state"], inputs=inputs,
            dead_letters=dead_letters, metrics=metrics,
        ),
        "users": UserAgent(
            partitions.shard, index=index, flusher=flusher, dead_letters=dead_letters, metrics=metrics
        ),
        "requests": RequestAgent(
            settings, partitions.shard, server=server, inputs=inputs, placement=placement,
            dead_letters=dead_letters, metrics=metrics,
        ),
    }  # fmt: skip
    return Parts(
        settings=settings, topics=topics, metrics=metrics, scorer=scorer, inference=inference, shared=shared,
        items=items, content=content, policies=policies, learner=learner, inputs=inputs, publisher=publisher,
        shared_topics=shared_topics, partitions=partitions, flusher=flusher, server=server,
        explainer=explainer, agents=agents,
    )  # fmt: skip


def _prior(settings: Settings, scorer: AnyScorer) -> LinearPrior:
    release = scorer.release
    return LinearPrior(
        release.prior_weights.astype(np.float64),
        precision=settings.prior_precision,
        # Sums of responses and sums of rewards must not be added.
        feature_space=release.version + ("/reward" if settings.learn_from == "reward" else ""),
    )
