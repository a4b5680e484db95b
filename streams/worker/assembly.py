"""Builds a worker's parts and wires them: nothing here runs, connects or keeps state."""

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from model_core.release.baseline import BaselineScorer
from model_core.signals.weighing import Weigher
from online_learning.statistics.position_bias import POSITIONS
from online_learning.statistics.posterior import LinearPrior
from streams.clock import SYSTEM_CLOCK, Clock
from streams.durability.flush import Flusher
from streams.durability.restore import Restorer
from streams.items.content import ContentEncoder
from streams.items.media import MediaEncoders
from streams.items.table import AnyScorer, ItemTable
from streams.items.text_encoder import open_text_encoder
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.inputs import Inputs
from streams.kafka.log import Ends, Log, RowPublisher
from streams.kafka.log_watch import LogWatch
from streams.kafka.placement import Placement
from streams.kafka.state_writers import StateWriters
from streams.kafka.topics import topic_names, topics_of_worker
from streams.kafka.transport import RecordBatch
from streams.learning.learner import Learner
from streams.learning.policy_set import PolicySet
from streams.mapping.click_reader import ClickReader
from streams.mapping.repartition import Repartitioner
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Translator
from streams.metrics import Metrics
from streams.serving.eligibility import Eligibility
from streams.serving.explainer import Explainer
from streams.serving.own_clicks import OwnClicks
from streams.serving.popular import PopularSlates
from streams.serving.previews import Previews
from streams.serving.published import PublishedSlates
from streams.serving.request_batch import RequestBatches
from streams.serving.server import Server
from streams.serving.slates import SlateMaker
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.shard_factory import ShardFactory
from streams.state.shared import SharedState
from streams.why.signal_sources import SignalSources
from streams.why.slate_reasons import SlateReasons
from streams.worker.agents.clicks import ClickAgent
from streams.worker.agents.content import ContentAgent
from streams.worker.agents.mapped import MappedAgent, ReadyAgent
from streams.worker.agents.requests import RequestAgent
from streams.worker.agents.users import UserAgent
from streams.worker.idle_users import IdleUsers
from streams.worker.inspect import Inspector
from streams.worker.partitions import Partitions
from streams.worker.reclaimer import Reclaimer
from streams.worker.shared_topics import FOLLOWED, SharedTopics

Agent = Callable[[RecordBatch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker; agents by the topic that they read."""

    settings: Settings
    topics: dict[str, str]
    metrics: Metrics
    scorer: AnyScorer
    inference: ThreadPoolExecutor
    folding: ThreadPoolExecutor
    shared: SharedState
    items: ItemTable
    eligibility: Eligibility
    ends: Ends
    content: ContentEncoder
    policies: PolicySet
    learner: Learner
    inputs: Inputs
    publisher: RowPublisher
    slates: RowPublisher
    writers: StateWriters
    shared_topics: SharedTopics
    partitions: Partitions
    flusher: Flusher
    watch: LogWatch
    reclaimer: Reclaimer
    idle_users: IdleUsers
    repartitioner: Repartitioner
    server: Server
    explainer: Explainer
    inspector: Inspector
    previews: Previews
    agents: dict[str, Agent]


def assemble(settings: Settings, log: Log, scorer: AnyScorer, *, clock: Clock = SYSTEM_CLOCK) -> Parts:
    """Return the parts of a worker that reads and writes `log`."""
    metrics, topics = Metrics(), topics_of_worker(settings)
    inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
    index = ItemIndex(now_s=int(clock.time()))
    policies = PolicySet(settings, _prior(settings, scorer), metrics)
    factory = ShardFactory(
        settings,
        policies.learning,
        model_version=scorer.release.version,
        signals=scorer.release.signals,
    )
    metrics.set_examination(factory.examination[:POSITIONS])
    shared = SharedState(index, Catalogue(index), {p: factory.covisits() for p in range(settings.partitions)})
    if isinstance(scorer, BaselineScorer):
        factory.weigher = Weigher(lambda: shared.parts, scorer.release.signals)
    eligibility = Eligibility(shared.catalogue, now_ms=int(clock.time() * 1000))
    items = ItemTable(index, shared.catalogue, scorer, inference, eligibility.mark_encoded)
    content = ContentEncoder(partial(open_text_encoder, settings, scorer.release), MediaEncoders(settings))
    failed = _produce_errors(settings, metrics)
    inputs, publisher, ends = Inputs(topics), log.publisher(failed=failed), log.ends()
    slates = log.publisher(may_send=lambda: inputs.owned, failed=failed)
    learner = Learner(policies, metrics)
    shared_topics = SharedTopics(
        settings, log, topics, shared=shared, items=items, eligibility=eligibility, learner=learner,
        experiments=policies.experiments, publisher=publisher, metrics=metrics,
    )  # fmt: skip
    writers = StateWriters(settings, log, topics, failed=failed)
    restorer = Restorer(
        log, topics, factory, policies.learning, model_version=scorer.release.version,
        feature_dim=scorer.release.feature_dim, index=index, inputs=inputs, writers=writers, metrics=metrics,
    )  # fmt: skip
    partitions = Partitions(
        restorer.restore, topics=topics, ends=ends, inputs=inputs, shared=shared,
        shared_topics=shared_topics, items=items, learner=learner, metrics=metrics,
        faults=lambda: watch.faults,
    )  # fmt: skip
    watch = LogWatch(
        settings, topics, ends=ends, inputs=inputs, metrics=metrics,
        followed=[topics[name] for name in FOLLOWED], folded=partitions.logs,
        start_over=partitions.start_over, follow_anew=shared_topics.start_over,
    )  # fmt: skip
    flusher = Flusher(
        settings, partitions.live, lost=partitions.lose, confirm=watch.confirm, index=index, inputs=inputs,
        writers=writers, metrics=metrics, clock=clock,
    )  # fmt: skip
    reclaimer = Reclaimer(
        settings, partitions.live, partitions.incomplete, shared=shared, items=items, eligibility=eligibility,
        metrics=metrics, clock=clock,
    )  # fmt: skip
    idle_users = IdleUsers(settings, partitions.live, metrics=metrics, clock=clock)
    dead_letters = DeadLetters(publisher, topics["dead-letters"], metrics)
    server, explainer, previews = _serving(
        settings, topics, partitions, weigher=factory.weigher, shared=shared, scorer=scorer, items=items,
        eligibility=eligibility, policies=policies, inference=inference, ends=ends, inputs=inputs,
        publisher=slates, published=PublishedSlates(log, topics["recommendations"]),
        dead_letters=dead_letters, metrics=metrics, clock=clock,
    )  # fmt: skip
    placement = Placement(settings.partitions, metrics)
    # One core is the event loop's.
    folding = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="folding")
    clicks = _click_reader(settings)
    agents: dict[str, Agent] = {
        "clicks": ClickAgent(
            settings, partitions.shard, index=index, server=server, placement=placement,
            dead_letters=dead_letters, metrics=metrics, threads=folding, read=clicks,
        ),
        "content": ContentAgent(
            content, publisher=publisher, item_state=topics["item-state"], inputs=inputs,
            dead_letters=dead_letters, metrics=metrics,
        ),
        "users": UserAgent(
            partitions.shard, index=index, flusher=flusher, placement=placement, dead_letters=dead_letters,
            metrics=metrics,
        ),
        "requests": RequestAgent(
            settings, partitions.shard, server=server, inputs=inputs, placement=placement,
            dead_letters=dead_letters, metrics=metrics,
        ),
    }  # fmt: skip
    if clicks is not None:
        agents["clicks"] = ReadyAgent(clicks.ready, agents["clicks"])
    for source in settings.sources:
        if not source.repartition and source.feeds != "clicks":
            agents[source.feeds] = MappedAgent(
                Translator(source, schemas=schemas_of(settings, source)),
                agents[source.feeds],
                dead_letters=dead_letters,
                metrics=metrics,
            )
    repartitioner = Repartitioner(settings, publisher=publisher, dead_letters=dead_letters, metrics=metrics)
    return Parts(
        repartitioner=repartitioner,
        settings=settings, topics=topics, metrics=metrics, scorer=scorer, inference=inference, shared=shared,
        items=items, eligibility=eligibility, ends=ends, content=content, policies=policies, learner=learner,
        inputs=inputs, publisher=publisher, slates=slates, writers=writers, shared_topics=shared_topics,
        partitions=partitions, flusher=flusher, watch=watch, reclaimer=reclaimer, idle_users=idle_users,
        server=server, explainer=explainer, previews=previews, folding=folding,
        inspector=Inspector(settings, shared, eligibility),
        agents=agents,
    )  # fmt: skip


def _produce_errors(settings: Settings, metrics: Metrics) -> Callable[[str], None]:
    """Return what counts a topic's errors, by its name on the broker."""
    names = {full: name for name, full in topic_names(settings).items()}
    return lambda full: metrics.count_produce_error(names[full])


def _click_reader(settings: Settings) -> ClickReader | None:
    """Return what reads the topic that feeds clicks, where that is not one of our own."""
    codes = {name: code for code, name in enumerate(settings.actions)}
    for source in settings.sources:
        if source.feeds == "clicks" and not source.repartition:
            schemas = schemas_of(settings, source)
            return ClickReader(source, codes, settings.max_future_ms, schemas=schemas)
    return None


def _serving(
    settings: Settings,
    topics: dict[str, str],
    partitions: Partitions,
    *,
    weigher: Weigher | None,
    shared: SharedState,
    scorer: AnyScorer,
    items: ItemTable,
    eligibility: Eligibility,
    policies: PolicySet,
    inference: ThreadPoolExecutor,
    ends: Ends,
    inputs: Inputs,
    publisher: RowPublisher,
    published: PublishedSlates,
    dead_letters: DeadLetters,
    metrics: Metrics,
    clock: Clock,
) -> tuple[Server, Explainer, Previews]:
    release, names = scorer.release, tuple(settings.actions)
    positive = np.array([name in settings.positive_actions for name in names], np.bool_)
    seen = names if settings.seen_actions is None else settings.seen_actions
    counts_as_seen = np.array([name in seen for name in names], np.bool_)
    sources = SignalSources(covisits=shared.covisits, ease=items.ease)
    reasons = SlateReasons(
        catalogue=shared.catalogue, index=shared.index, covisits=shared.covisits, sources=sources,
        actions=names, action_weights=np.array(list(settings.actions.values()), np.float32),
    )  # fmt: skip
    batches = RequestBatches(
        settings, shared=shared, scorer=scorer, items=items, eligibility=eligibility, policies=policies,
        sources=sources, counts_as_seen=counts_as_seen, positive=positive, weigher=weigher,
        clock=clock,
    )  # fmt: skip
    own_clicks = OwnClicks(
        partial(ends.of, topics["clicks"]),
        timeout_ms=settings.read_your_writes_ms,
        missed=metrics.own_clicks_missed.inc,
    )
    slates = SlateMaker(
        settings, shared=shared, scorer=scorer, policies=policies, batches=batches, reasons=reasons,
        metrics=metrics,
    )  # fmt: skip
    server = Server(
        settings, batches=batches, slates=slates,
        popular=PopularSlates(
            shared, eligibility, depth=release.signals.depth, counts_as_seen=counts_as_seen
        ),
        own_clicks=own_clicks,
        inference=inference, inputs=inputs, publisher=publisher, published=published,
        recommendations=topics["recommendations"], model_version=release.version,
        dead_letters=dead_letters, metrics=metrics,
    )  # fmt: skip
    explainer = Explainer(
        settings, partitions.shard, shared=shared, scorer=scorer, items=items, eligibility=eligibility,
        batches=batches, sources=sources, slate_reasons=reasons, own_clicks=own_clicks, inference=inference,
    )  # fmt: skip
    previews = Previews(
        batches=batches, slates=slates, policies=policies, index=shared.index, inference=inference
    )
    return server, explainer, previews


def _prior(settings: Settings, scorer: AnyScorer) -> LinearPrior:
    release = scorer.release
    return LinearPrior(
        release.prior_weights.astype(np.float64),
        precision=settings.prior_precision,
        # Sums of responses and sums of rewards must not be added.
        feature_space=release.version + ("/reward" if settings.learn_from == "reward" else ""),
    )
