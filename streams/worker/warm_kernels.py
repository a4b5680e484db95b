"""Compile every kernel of the state, or load it from the cache, before the first event waits for it.

`python -m streams.worker.warm_kernels` compiles them, and those of every policy, for all workers to come: in
two processes side by side, a minute of processor time in all.
"""

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np

from model_core.release import compact_items, histories, retrieval, tiled_items
from model_core.robust import suspicion
from model_core.signals import (
    co_visitation,
    co_visitation_scores,
    evidence,
    joint,
    popularity,
    trends,
    weighing,
)
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.parts import PartsReader
from model_core.signals.reader import Reader
from model_core.signals.stated_preferences import MAX_STATED
from streams.decoding import clicks
from streams.decoding.click_kernels import ITEM, USER, read_clicks
from streams.durability.covisit_restore import restore_covisits
from streams.durability.covisit_rows import take_covisits
from streams.durability.digest import fold_batch
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import take_profiles
from streams.events import Click
from streams.items import ease_signal
from streams.kafka import columns, packed_rows
from streams.kafka.columns import RecordColumns
from streams.kafka.partitioner import partitions_of
from streams.serving import allowed_rows, newcomers, records
from streams.state import fold_kernels, id_table, profile_kernels
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.item_rows import encode_item_state
from streams.state.own_likes import follow_likes, stances
from streams.state.people import gather
from streams.state.profiles import Profiles
from streams.why import graph_paths as graph
from streams.why.slate_reasons import SlateReasons
from streams.worker.cached_kernels import are_cached

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "streams.worker.warm_kernels")


async def compile_missing() -> None:
    """Compile the kernels in processes of their own, if none are cached: a compiler takes a gigabyte.

    Whatever fails there is compiled here, when it is needed, and says what is wrong.
    """
    if are_cached(fold_kernels.fold, read_clicks):
        return
    log.warning("compiling kernels, once in this environment: this takes about a minute of two cores")
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(*COMMAND, stdin=subprocess.DEVNULL)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
    log.info("kernels compiled in %.0f s (exit code %d)", time.monotonic() - began, code)


def warm() -> None:
    """Run each kernel once on a few events, with the types that the worker uses."""
    _warm_scoring()
    _warm_state()


def _warm_scoring() -> None:
    histories.warm()
    retrieval.warm()
    compact_items.warm()
    tiled_items.warm()
    ease_signal.warm()
    evidence.warm()
    joint.warm()
    popularity.warm()
    suspicion.warm()
    allowed_rows.warm()
    records.warm()
    newcomers.warm()
    packed_rows.warm()


def _warm_state() -> None:
    co_visitation.warm()
    co_visitation_scores.warm()
    trends.warm()
    weighing.warm()
    id_table.warm()
    liked = np.zeros(1, np.int32)
    bounds = np.array([0, 1], np.int64)
    Ease(bounds, liked, np.ones(1, np.float32)).sparse_scores(bounds, liked)
    index, profiles = ItemIndex(), Profiles(0, history_limit=32, actions=["like"], positive=["like"])
    covisits, catalogue = CoVisitation(neighbours=32, window=2), Catalogue(index)
    log = [
        (k, Click(event_id=f"{k}", user_id="u", item_id=f"{k}", action="like", timestamp_ms=10**12))
        for k in range(3)
    ]
    columns.warm()
    click = clicks.warm()
    index.rows_of_bytes(click.data, click.spans[ITEM], click.keys[ITEM])
    profiles.rows_of_bytes(click.data, click.spans[USER], click.keys[USER])
    fold_batch(profiles, covisits, index, log)
    rows = RecordColumns.of_rows(take_covisits(covisits, index, 0).rows)
    restore_covisits(CoVisitation(neighbours=32, window=2), index, rows)
    restore = Restore(Profiles(0, history_limit=32, actions=["like"], positive=["like"]), index)
    restore.add(RecordColumns.of_rows(take_profiles(profiles, index).rows))
    restore.finish()
    profile_kernels.mark_chunks(profiles.rings, np.zeros(1, np.int32))
    state = encode_item_state(
        content_id="0", title="0", text=None, image=None, audio=None, attributes={"genre": ["x"]}, triples=[],
        available=True, published_ms=None, expires_ms=None, partition=0, offset=0,
    )  # fmt: skip
    catalogue.apply([SimpleNamespace(key=b"0", value=state, timestamp=0)])
    profiles.stances = stances({"like": 1.0}, ("like",))
    follow_likes(profiles, index, np.zeros(1, np.int32))
    profiles.history(0, 2)
    profiles.recent_positives(0, profiles.positive, 2)
    profiles.last_ms(np.zeros(1, np.int32))
    profiles.mark_items(np.zeros(3, np.bool_))
    profiles.seen_mask(0, profiles.positive, np.ones(3, np.bool_))
    _warm_reasons(profiles, covisits, catalogue, index)
    partitions_of(["u"], 2)
    pairs = profiles.pairs_of(0, window=2)
    covisits.retract(*pairs[:4], pairs.times, through=2)
    index.forget(np.zeros(1, np.int32))
    profiles.erase("u")


def _warm_reasons(profiles: Profiles, covisits: CoVisitation, catalogue: Catalogue, index: ItemIndex) -> None:
    everything, now_ms = np.ones(1, np.bool_), np.full(1, 10**12)
    people = gather([(profiles, 0)], depth=2, counts_as_seen=everything, positive=everything)
    described, edges = np.ones(3, np.bool_), np.ones((3, 1), np.int32)
    reader = Reader(
        SignalConfig(), history_length=2, n_affinities=2, n_entities=2, codes=np.ones(1, np.int64)
    )
    drawn = reader.draw(people.pasts, now_ms, described=described)
    reader.users(
        people.pasts, now_ms, drawn, described=described, edges=edges,
        stated=np.zeros((1, MAX_STATED), np.int64),
    )  # fmt: skip
    why = SlateReasons(
        catalogue=catalogue, index=index, actions=["like"], action_weights=np.ones(1, np.float32)
    )
    parts = PartsReader().read([covisits])
    why.of(
        people.stated, drawn, np.arange(3)[None], parts=parts, liked=None, popularity=np.ones(3, np.float32)
    )
    slate = np.zeros((1, 1), np.int64)
    graph.best_paths(
        catalogue, drawn.positives, slate, actions=["like"], action_weights=np.ones(1, np.float32)
    )


def _warm_policies() -> None:
    from online_learning.policies.registry import POLICIES, find
    from streams.learning.policy_set import PolicySet
    from streams.metrics import Metrics
    from streams.settings import Settings
    from streams.state.feature_spaces import Spaces

    for name in POLICIES:
        if find(name).served:
            settings = Settings.model_validate({"policy": name})
            PolicySet(settings, Spaces(settings).prior("", 4), Metrics()).warm()


def _warm_mapping() -> None:
    from streams.mapping import click_reader

    click_reader.warm()


# What one process compiles; the halves take about as long.
HALVES = {"state": (_warm_state,), "scoring": (_warm_scoring, _warm_policies, _warm_mapping)}


def main(*halves: str) -> int:
    """Compile these halves here; without any, both, each in a process of its own."""
    if not halves:
        running = [subprocess.Popen([*COMMAND, half], stdin=subprocess.DEVNULL) for half in HALVES]
        try:
            return max(abs(process.wait()) for process in running)
        finally:
            for process in running:
                process.kill()
    for half in halves:
        for run in HALVES[half]:
            run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
