"""Builds a worker's parts and wires them: nothing here runs, connects or keeps state."""

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model_core.release.baseline import BaselineScorer
from model_core.signals.config import SignalConfig
from model_core.signals.weighing import Weigher
from online_learning.statistics.position_bias import POSITIONS
from streams.clock import SYSTEM_CLOCK, Clock
from streams.decoding.dead_letters import DeadLetters
from streams.durability.flush import Flusher
from streams.durability.restore import Restorer
from streams.items.content import ContentEncoder
from streams.items.media import MediaEncoders
from streams.items.table import AnyScorer
from streams.items.text_encoder import open_text_encoder
from streams.kafka.inputs import Inputs
from streams.kafka.log import Ends, Log, RowPublisher
from streams.kafka.placement import Placement
from streams.kafka.producer_patches import Identity
from streams.kafka.record_batch import RecordBatch
from streams.kafka.state_writers import StateWriters
from streams.kafka.topics import topic_names, topic_partitions, topics_of_worker
from streams.mapping.click_reader import reader_of
from streams.mapping.repartition import Repartitioner
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Translator
from streams.metrics import Metrics
from streams.releases.candidate import Candidates
from streams.releases.decider import Decider
from streams.releases.follower import Follower
from streams.releases.live import Live
from streams.serving.eligibility import Eligibility
from streams.serving.lane import Lanes
from streams.serving.lane_maker import LaneMaker
from streams.serving.lists import Lists
from streams.serving.outbox import Outbox
from streams.serving.own_clicks import OwnClicks
from streams.serving.popular import PopularSlates
from streams.serving.published import PublishedSlates
from streams.serving.ranking_inputs import RankingInputs
from streams.serving.server import Server
from streams.serving.shadowing import Shadowing
from streams.serving.slate_quota import SlateQuota
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.shard_factory import ShardFactory
from streams.state.shared import SharedState
from streams.worker.agents.clicks import ClickAgent
from streams.worker.agents.content import ContentAgent
from streams.worker.agents.deletions import Deletions
from streams.worker.agents.mapped import MappedAgent, ReadyAgent
from streams.worker.agents.requests import RequestAgent
from streams.worker.agents.users import UserAgent
from streams.worker.idle_users import IdleUsers
from streams.worker.inspect import Inspector
from streams.worker.log_watch import LogWatch
from streams.worker.neighbours import Neighbours
from streams.worker.partitions import Partitions
from streams.worker.quarantine import Quarantines
from streams.worker.reclaimer import Reclaimer
from streams.worker.shared_topics import FOLLOWED, SharedTopics
from streams.worker.suspects import Suspects

Agent = Callable[[RecordBatch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker; agents by the topic that they read."""

    settings: Settings
    topics: dict[str, str]
    metrics: Metrics
    lanes: Lanes
    folding: ThreadPoolExecutor
    shared: SharedState
    eligibility: Eligibility
    ends: Ends
    content: ContentEncoder
    inputs: Inputs
    publisher: RowPublisher
    slates: RowPublisher
    items: RowPublisher
    writers: StateWriters
    shared_topics: SharedTopics
    partitions: Partitions
    flusher: Flusher
    watch: LogWatch
    reclaimer: Reclaimer
    idle_users: IdleUsers
    quarantines: Quarantines
    suspects: Suspects
    repartitioner: Repartitioner
    server: Server
    signals: SignalConfig
    follower: Follower | None
    decider: Decider | None
    inspector: Inspector
    lists: Lists
    ranking: RankingInputs
    agents: dict[str, Agent]


def assemble(
    settings: Settings,
    log: Log,
    scorer: AnyScorer,
    *,
    live: Live | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Parts:
    """Return the parts of a worker that reads and writes `log`.

    Parameters
    ----------
    live : what it begins with when it is to follow `model-releases`
    """
    metrics, topics = Metrics(), topics_of_worker(settings)
    index = ItemIndex(now_s=int(clock.time()))
    release = scorer.release

    def serving() -> tuple[str, int]:
        now = lanes.serving.scorer.release
        return now.version, now.feature_dim

    def surge_bound() -> float:
        return lanes.serving.scorer.release.signals.surge_bound

    factory = ShardFactory(settings, serving=serving, signals=release.signals)
    metrics.set_examination(factory.examination[:POSITIONS])
    shared = SharedState(index, Catalogue(index), {p: factory.covisits() for p in range(settings.partitions)})
    if isinstance(scorer, BaselineScorer):
        factory.weigher = Weigher(lambda: shared.parts, scorer.release.signals)
    eligibility = Eligibility(shared.catalogue, now_ms=int(clock.time() * 1000))
    lanes = Lanes(eligibility)
    content = ContentEncoder(partial(open_text_encoder, settings, scorer.release), MediaEncoders(settings))
    failed = _produce_errors(settings, metrics)
    inputs, publisher, ends = Inputs(topics), log.publisher(failed=failed), log.ends()
    shared_topics = SharedTopics(
        settings, log, topics, shared=shared, eligibility=eligibility, lanes=lanes, publisher=publisher,
        neighbours=Neighbours(ends.expel), metrics=metrics,
    )  # fmt: skip
    writers = StateWriters(settings, log, topics, failed=failed)

    def writer(partition: int) -> Identity | None:
        return writers.identity(partition) if inputs.owned else None

    # Two, so that slates do not wait while a catalogue is described.
    slates, items = (log.publisher(identity=writer, failed=failed) for _ in range(2))

    def dropped(partition: int) -> None:
        slates.take_back(topics["recommendations"], partition)
        items.take_back(topics["item-state"], partition)

    restorer = Restorer(
        log, topics, factory, answered_requests=settings.answered_requests, index=index, inputs=inputs,
        take_over=writers.open, metrics=metrics,
    )  # fmt: skip
    dead_letters = DeadLetters(publisher, topics["dead-letters"], metrics)
    repartitioner = Repartitioner(settings, publisher=publisher, dead_letters=dead_letters, metrics=metrics)
    partitions = Partitions(
        restorer.restore, topics=topics, ends=ends, inputs=inputs, shared=shared,
        shared_topics=shared_topics, lanes=lanes, metrics=metrics, copied=repartitioner.caught_up,
        faults=lambda: watch.faults, dropped=dropped,
    )  # fmt: skip

    def follow_anew(topic: str) -> None:
        if topic != topics["model-releases"]:
            shared_topics.start_over(topic)
        elif follower is not None:
            follower.start_over()

    watch = LogWatch(
        settings, topics, ends=ends, inputs=inputs, metrics=metrics,
        followed=[topics[name] for name in (*FOLLOWED, "model-releases")], folded=partitions.logs,
        start_over=partitions.start_over, follow_anew=follow_anew,
    )  # fmt: skip
    flusher = Flusher(
        settings, partitions.live, lost=partitions.lose, confirm=watch.confirm, index=index, inputs=inputs,
        writers=writers, metrics=metrics, clock=clock,
    )  # fmt: skip
    reclaimer = Reclaimer(
        settings, partitions.live, partitions.incomplete, shared=shared, lanes=lanes, eligibility=eligibility,
        metrics=metrics, clock=clock,
    )  # fmt: skip
    idle_users = IdleUsers(settings, partitions.live, metrics=metrics, clock=clock)
    quarantines = Quarantines(flusher.flush_shard, clock=clock, days=settings.quarantine_days)
    suspects = Suspects(
        settings, partitions.live, quarantines, shared=shared, surge_bound=release.signals.surge_bound,
        metrics=metrics,
    )  # fmt: skip
    clicks = reader_of(settings)
    own_clicks = OwnClicks(
        partial(ends.of, topics["clicks"]),
        timeout_ms=settings.read_your_writes_ms,
        keyed=clicks is None,
        missed=metrics.own_clicks_missed.inc,
    )
    inputs.tell_ends("clicks", own_clicks.told)
    counts_as_seen = _counts_as_seen(settings)
    maker = LaneMaker(
        settings, partitions.shard, shared=shared, eligibility=eligibility, own_clicks=own_clicks,
        counts_as_seen=counts_as_seen, spaces=factory.spaces, metrics=metrics, clock=clock,
    )  # fmt: skip
    lanes.begin(maker.make(scorer, folder=settings.release, weigher=factory.weigher))
    follower: Follower | None = None
    decider: Decider | None = None
    shadowing = Shadowing(lanes, index, metrics)
    if live is not None:
        candidates = Candidates(
            settings, log, topics, partitions.live, lanes=lanes, maker=maker, content=content
        )
        follower = Follower(
            log, topics["model-releases"], partitions.live, lanes=lanes, candidates=candidates,
            publisher=publisher, metrics=metrics, decides=lambda: partitions.owns(0), begun=live,
        )  # fmt: skip
        followed = follower
        decider = Decider(
            log, topics, topic_partitions(settings, "feedback"), changes=lambda: followed.changes,
            decides=lambda: partitions.owns(0), wake=followed.look_again, shadow=lambda: shadowing.shadow,
            positive=settings.positive_actions, publisher=publisher, metrics=metrics, clock=clock,
        )  # fmt: skip
    outbox = Outbox(slates, topics["recommendations"], lost=partitions.lose, inputs=inputs, metrics=metrics)
    popular = PopularSlates(shared, eligibility, counts_as_seen=counts_as_seen, surge_bound=surge_bound)
    server = Server(
        settings, lanes=lanes, popular=popular,
        own_clicks=own_clicks, inputs=inputs, outbox=outbox,
        quota=SlateQuota(settings.learned_slates_per_hour),
        published=PublishedSlates(log, topics["recommendations"]), dead_letters=dead_letters,
        shadowing=shadowing, metrics=metrics, clock=clock,
    )  # fmt: skip
    placement, deletions = Placement(settings.partitions, metrics), Deletions(metrics)
    # The event loop has little to do while these fold: it waits for them.
    folding = ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix="folding")
    agents: dict[str, Agent] = {
        "clicks": ClickAgent(
            settings, partitions.shard, index=index, serve=server.serve_click, placement=placement,
            dead_letters=dead_letters, metrics=metrics, threads=folding, read=clicks,
        ),
        "content": ContentAgent(
            content, publisher=items, item_state=topics["item-state"],
            writes=lambda p: writer(p) is not None, lost=partitions.start_over,
            ends=partial(ends.of, topics["item-state"]),
            position=partial(shared_topics.position, "item-state"), inputs=inputs, index=index,
            deletions=deletions, dead_letters=dead_letters, metrics=metrics,
        ),
        "users": UserAgent(
            partitions.shard, index=index, flush=flusher.flush_shard, placement=placement,
            deletions=deletions, dead_letters=dead_letters, metrics=metrics,
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
    return Parts(
        repartitioner=repartitioner,
        settings=settings, topics=topics, metrics=metrics, lanes=lanes, shared=shared,
        eligibility=eligibility, ends=ends, content=content,
        inputs=inputs, publisher=publisher, slates=slates, items=items, writers=writers,
        shared_topics=shared_topics,
        partitions=partitions, flusher=flusher, watch=watch, reclaimer=reclaimer, idle_users=idle_users,
        quarantines=quarantines, suspects=suspects,
        server=server, signals=release.signals, follower=follower, decider=decider, folding=folding,
        inspector=Inspector(settings, shared, eligibility, suspects),
        lists=Lists(shared, eligibility, clock, surge_bound=surge_bound),
        ranking=RankingInputs(shared, lanes, clock),
        agents=agents,
    )  # fmt: skip


def _produce_errors(settings: Settings, metrics: Metrics) -> Callable[[str], None]:
    """Return what counts a topic's errors, by its name on the broker."""
    names = {full: name for name, full in topic_names(settings).items()}
    return lambda full: metrics.count_produce_error(names[full])


def _counts_as_seen(settings: Settings) -> NDArray[np.bool_]:
    seen = settings.actions if settings.seen_actions is None else settings.seen_actions
    return np.array([name in seen for name in settings.actions], np.bool_)
