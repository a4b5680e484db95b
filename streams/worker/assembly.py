"""Builds a worker's parts and wires them: nothing here runs, connects or keeps state."""

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
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
from streams.kafka.outputs import Outputs
from streams.kafka.topics import topic_partitions, topics_of_worker
from streams.mapping.click_reader import source_of_clicks
from streams.mapping.repartition import Repartitioner
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
from streams.state.budgets import Budgets
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.likes import Likes
from streams.state.prerequisites import Prerequisites
from streams.state.shard_factory import ShardFactory
from streams.state.shared import SharedState
from streams.worker.dead_ends import DeadEnds
from streams.worker.erased_shares import ErasedShares
from streams.worker.idle_users import IdleUsers
from streams.worker.inspect import Inspector
from streams.worker.log_watch import LogWatch
from streams.worker.neighbours import Neighbours
from streams.worker.partitions import Partitions
from streams.worker.quarantine import Quarantines
from streams.worker.reclaimer import Reclaimer
from streams.worker.shared_topics import FOLLOWED, SharedTopics
from streams.worker.suspects import Suspects


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker."""

    settings: Settings
    topics: dict[str, str]
    metrics: Metrics
    inputs: Inputs
    ends: Ends
    outputs: Outputs
    dead_letters: DeadLetters
    repartitioner: Repartitioner
    shared: SharedState
    eligibility: Eligibility
    lanes: Lanes
    signals: SignalConfig
    shared_topics: SharedTopics
    partitions: Partitions
    watch: LogWatch
    flusher: Flusher
    reclaimer: Reclaimer
    idle_users: IdleUsers
    quarantines: Quarantines
    suspects: Suspects
    dead_ends: DeadEnds
    erased_shares: ErasedShares
    content: ContentEncoder
    follower: Follower | None
    decider: Decider | None
    server: Server
    inspector: Inspector
    lists: Lists
    ranking: RankingInputs
    folding: ThreadPoolExecutor
    clock: Clock


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
    inputs, ends = Inputs(topics), log.ends()
    outputs = Outputs(settings, log, topics, inputs=inputs, metrics=metrics)
    dead_letters = DeadLetters(outputs.rows, topics["dead-letters"], metrics)
    repartitioner = Repartitioner(
        settings, publisher=outputs.rows, dead_letters=dead_letters, metrics=metrics
    )
    shared, eligibility, lanes, factory = _state(settings, scorer, clock)
    metrics.set_examination(factory.examination[:POSITIONS])
    shared_topics = SharedTopics(
        settings, log, topics, shared=shared, eligibility=eligibility, lanes=lanes, publisher=outputs.rows,
        neighbours=Neighbours(ends.expel), metrics=metrics,
    )  # fmt: skip
    partitions, watch = _owned(
        settings, log, topics, factory, shared=shared, shared_topics=shared_topics, lanes=lanes, ends=ends,
        inputs=inputs, outputs=outputs, copied=repartitioner.caught_up, follower=lambda: follower,
        metrics=metrics,
    )  # fmt: skip
    flusher = Flusher(
        settings, partitions.live, lost=partitions.lose, confirm=watch.confirm, index=shared.index,
        inputs=inputs, writers=outputs.states, metrics=metrics, clock=clock,
    )  # fmt: skip
    erased_shares = ErasedShares(
        log, topics["feedback"], partitions.live, flusher.flush_shard,
        within_hours=settings.erase_share_hours, clock=clock,
    )  # fmt: skip
    reclaimer, idle_users, quarantines, suspects = _upkeep(
        settings, scorer, partitions, flusher, shared=shared, eligibility=eligibility, lanes=lanes,
        metrics=metrics, clock=clock,
    )  # fmt: skip
    own_clicks = _own_clicks(settings, partial(ends.of, topics["clicks"]), inputs, metrics)
    maker = LaneMaker(
        settings, partitions.shard, shared=shared, eligibility=eligibility, own_clicks=own_clicks,
        counts_as_seen=_counts_as_seen(settings), spaces=factory.spaces, metrics=metrics, clock=clock,
    )  # fmt: skip
    lanes.begin(maker.make(scorer, folder=settings.release, weigher=factory.weigher))
    content = ContentEncoder(partial(open_text_encoder, settings, scorer.release), MediaEncoders(settings))
    shadowing = Shadowing(lanes, shared.index, metrics)
    follower, decider = _follow(
        settings, log, topics, live, partitions, lanes=lanes, maker=maker, content=content,
        shadowing=shadowing, publisher=outputs.rows, metrics=metrics, clock=clock,
    )  # fmt: skip
    server = _server(
        settings, log, topics, partitions, shared=shared, eligibility=eligibility, lanes=lanes, inputs=inputs,
        outputs=outputs, own_clicks=own_clicks, dead_letters=dead_letters, shadowing=shadowing,
        metrics=metrics, clock=clock,
    )  # fmt: skip
    return Parts(
        settings=settings, topics=topics, metrics=metrics, inputs=inputs, ends=ends, outputs=outputs,
        dead_letters=dead_letters, repartitioner=repartitioner, shared=shared, eligibility=eligibility,
        lanes=lanes, signals=scorer.release.signals, shared_topics=shared_topics, partitions=partitions,
        watch=watch, flusher=flusher, reclaimer=reclaimer, idle_users=idle_users, quarantines=quarantines,
        suspects=suspects, dead_ends=DeadEnds(shared, metrics), erased_shares=erased_shares,
        content=content, follower=follower, decider=decider, server=server,
        inspector=Inspector(settings, shared, eligibility, suspects),
        lists=Lists(shared, eligibility, clock, surge_bound=lanes.surge_bound),
        ranking=RankingInputs(shared, lanes, clock),
        # The event loop has little to do while these fold: it waits for them.
        folding=ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix="folding"),
        clock=clock,
    )  # fmt: skip


def _state(
    settings: Settings, scorer: AnyScorer, clock: Clock
) -> tuple[SharedState, Eligibility, Lanes, ShardFactory]:
    """Return what a worker holds of all users and items, and what makes shards that learn for its lanes."""
    index = ItemIndex(now_s=int(clock.time()))
    catalogue, signals = Catalogue(index), scorer.release.signals
    eligibility = Eligibility(catalogue, now_ms=int(clock.time() * 1000))
    lanes = Lanes(eligibility)
    factory = ShardFactory(
        settings, serving=lambda: (lanes.release.version, lanes.release.feature_dim), signals=signals
    )
    partitions = range(settings.partitions)
    shared = SharedState(
        index, catalogue,
        prerequisites=Prerequisites(
            catalogue, index, settings.prerequisites_attribute, _flags(settings, settings.actions_done)
        ),
        budgets=_budgets(settings, catalogue, index),
        covisits={p: factory.covisits() for p in partitions},
        likes={p: Likes() for p in partitions} if settings.friends_boost else {},
        trials=factory.trials,
    )  # fmt: skip
    if shared.budgets is not None:
        factory.spending = shared.budgets.spending
    if isinstance(scorer, BaselineScorer):
        factory.weigher = Weigher(lambda: shared.parts, signals)
    return shared, eligibility, lanes, factory


def _budgets(settings: Settings, catalogue: Catalogue, index: ItemIndex) -> Budgets | None:
    if settings.budget_attribute is None:
        return None
    by = settings.budget_spent_by
    return Budgets(
        catalogue, index, attribute=settings.budget_attribute,
        price_attribute=settings.budget_price_attribute, spent_by=by or "",
        code=-1 if by is None else list(settings.actions).index(by),
        zone=settings.budget_zone, partitions=settings.partitions, seed=settings.seed,
    )  # fmt: skip


def _owned(
    settings: Settings,
    log: Log,
    topics: Mapping[str, str],
    factory: ShardFactory,
    *,
    shared: SharedState,
    shared_topics: SharedTopics,
    lanes: Lanes,
    ends: Ends,
    inputs: Inputs,
    outputs: Outputs,
    copied: Callable[[], Awaitable[None]],
    follower: Callable[[], Follower | None],
    metrics: Metrics,
) -> tuple[Partitions, LogWatch]:
    """Return the partitions that a worker owns, and what notices when their logs are others."""
    restorer = Restorer(
        log, topics, factory, answered_requests=settings.answered_requests, index=shared.index, inputs=inputs,
        take_over=outputs.states.open, metrics=metrics,
    )  # fmt: skip
    partitions = Partitions(
        restorer.restore, topics=topics, ends=ends, inputs=inputs, shared=shared, shared_topics=shared_topics,
        lanes=lanes, metrics=metrics, copied=copied, faults=lambda: watch.faults, dropped=outputs.take_back,
    )  # fmt: skip

    def follow_anew(topic: str) -> None:
        if topic != topics["model-releases"]:
            shared_topics.start_over(topic)
        elif (of_releases := follower()) is not None:
            of_releases.start_over()

    watch = LogWatch(
        settings, topics, ends=ends, inputs=inputs, metrics=metrics,
        followed=[topics[name] for name in (*FOLLOWED, "model-releases")], folded=partitions.logs,
        start_over=partitions.start_over, follow_anew=follow_anew,
    )  # fmt: skip
    return partitions, watch


def _upkeep(
    settings: Settings,
    scorer: AnyScorer,
    partitions: Partitions,
    flusher: Flusher,
    *,
    shared: SharedState,
    eligibility: Eligibility,
    lanes: Lanes,
    metrics: Metrics,
    clock: Clock,
) -> tuple[Reclaimer, IdleUsers, Quarantines, Suspects]:
    """Return what looks through users and items again and again: for idle, unknown and fake ones."""
    reclaimer = Reclaimer(
        settings, partitions.live, partitions.incomplete, shared=shared, lanes=lanes, eligibility=eligibility,
        metrics=metrics, clock=clock,
    )  # fmt: skip
    idle_users = IdleUsers(settings, partitions.live, metrics=metrics, clock=clock)
    quarantines = Quarantines(flusher.flush_shard, clock=clock, days=settings.quarantine_days)
    suspects = Suspects(
        settings, partitions.live, quarantines, shared=shared,
        surge_bound=scorer.release.signals.surge_bound, metrics=metrics,
    )  # fmt: skip
    return reclaimer, idle_users, quarantines, suspects


def _own_clicks(
    settings: Settings,
    ends: Callable[[Iterable[int]], Awaitable[Mapping[int, int]]],
    inputs: Inputs,
    metrics: Metrics,
) -> OwnClicks:
    """Return what lets requests wait for the clicks before them, told of every fetch of clicks."""
    own_clicks = OwnClicks(
        ends, timeout_ms=settings.read_your_writes_ms, keyed=source_of_clicks(settings) is None,
        missed=metrics.own_clicks_missed.inc,
    )  # fmt: skip
    inputs.tell_ends("clicks", own_clicks.told)
    return own_clicks


def _follow(
    settings: Settings,
    log: Log,
    topics: dict[str, str],
    live: Live | None,
    partitions: Partitions,
    *,
    lanes: Lanes,
    maker: LaneMaker,
    content: ContentEncoder,
    shadowing: Shadowing,
    publisher: RowPublisher,
    metrics: Metrics,
    clock: Clock,
) -> tuple[Follower, Decider] | tuple[None, None]:
    """Return what follows `model-releases`, and what decides on a release that is tried, where one does."""
    if live is None:
        return None, None
    candidates = Candidates(settings, log, topics, partitions.live, lanes=lanes, maker=maker, content=content)
    follower = Follower(
        log, topics["model-releases"], partitions.live, lanes=lanes, candidates=candidates,
        publisher=publisher, metrics=metrics, decides=lambda: partitions.owns(0), begun=live,
    )  # fmt: skip
    decider = Decider(
        log, topics, topic_partitions(settings, "feedback"), changes=lambda: follower.changes,
        decides=lambda: partitions.owns(0), wake=follower.look_again, shadow=lambda: shadowing.shadow,
        positive=settings.positive_actions, publisher=publisher, metrics=metrics, clock=clock,
    )  # fmt: skip
    return follower, decider


def _server(
    settings: Settings,
    log: Log,
    topics: Mapping[str, str],
    partitions: Partitions,
    *,
    shared: SharedState,
    eligibility: Eligibility,
    lanes: Lanes,
    inputs: Inputs,
    outputs: Outputs,
    own_clicks: OwnClicks,
    dead_letters: DeadLetters,
    shadowing: Shadowing,
    metrics: Metrics,
    clock: Clock,
) -> Server:
    """Return what answers requests: by the lanes, by what was published, or by popular items."""
    popular = PopularSlates(
        shared, eligibility, counts_as_seen=_counts_as_seen(settings), surge_bound=lanes.surge_bound
    )
    slates = topics["recommendations"]
    return Server(
        settings, lanes=lanes, popular=popular, own_clicks=own_clicks, inputs=inputs,
        outbox=Outbox(outputs.slates, slates, lost=partitions.lose, inputs=inputs, metrics=metrics),
        quota=SlateQuota(settings.learned_slates_per_hour), published=PublishedSlates(log, slates),
        dead_letters=dead_letters, shadowing=shadowing, trials=shared.trials, metrics=metrics, clock=clock,
    )  # fmt: skip


def _counts_as_seen(settings: Settings) -> NDArray[np.bool_]:
    return _flags(settings, settings.actions if settings.seen_actions is None else settings.seen_actions)


def _flags(settings: Settings, names: Collection[str]) -> NDArray[np.bool_]:
    """Tell which actions are among some: (n_actions,) bool."""
    return np.array([name in names for name in settings.actions], np.bool_)
