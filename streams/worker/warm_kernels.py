"""Compile every kernel of the state, or load it from the cache, before the first event waits for it.

`python -m streams.worker.warm_kernels` compiles them, and those of every policy, for all workers to come.
"""

from types import SimpleNamespace
from typing import get_args

import numpy as np

from model_core.release import compact_items, histories, retrieval
from model_core.signals import co_visitation, evidence, joint, popularity
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.reader import Reader
from model_core.signals.stated import MAX_STATED
from streams.decoding import clicks
from streams.decoding.click_kernels import ITEM, USER
from streams.durability.covisit_restore import restore_covisits
from streams.durability.digest import fold_batch
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import take_profiles
from streams.durability.rows import take_covisits
from streams.events import Click
from streams.items import ease_signal
from streams.kafka import columns, packed_rows
from streams.kafka.columns import RecordColumns
from streams.kafka.partitioner import partitions_of
from streams.serving import allowed_rows
from streams.state import profile_kernels
from streams.state.catalogue import Catalogue, encode_item_state
from streams.state.item_index import ItemIndex
from streams.state.people import gather
from streams.state.profiles import Profiles
from streams.why import graph_paths as graph
from streams.why.signal_sources import SignalSources
from streams.why.slate_reasons import SlateReasons


def warm() -> None:
    """Run each kernel once on a few events, with the types that the worker uses."""
    co_visitation.warm()
    histories.warm()
    retrieval.warm()
    compact_items.warm()
    ease_signal.warm()
    evidence.warm()
    joint.warm()
    popularity.warm()
    allowed_rows.warm()
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
    packed_rows.warm()
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
    catalogue.apply([SimpleNamespace(key=b"0", value=state)])
    profiles.history(0, 2)
    profiles.recent_positives(0, profiles.positive, 2)
    profiles.last_ms(np.zeros(1, np.int32))
    profiles.mark_items(np.zeros(3, np.bool_))
    profiles.seen_mask(0, profiles.positive, np.ones(3, np.bool_))
    _warm_reasons(profiles, covisits, catalogue, index)
    partitions_of(["u"], 2)
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
    sources = SignalSources(covisits={0: covisits}, ease=None)
    why = SlateReasons(
        catalogue=catalogue, index=index, covisits={0: covisits}, sources=sources, actions=["like"],
        action_weights=np.ones(1, np.float32),
    )  # fmt: skip
    why.of(people.stated, drawn, np.arange(3)[None], popularity=np.ones(3, np.float32))
    slate = np.zeros((1, 1), np.int64)
    graph.best_paths(
        catalogue, drawn.positives, slate, actions=["like"], action_weights=np.ones(1, np.float32)
    )


def main() -> None:
    """Compile all that any worker may need."""
    from online_learning.statistics.posterior import LinearPrior
    from streams.learning.policy_set import PolicySet
    from streams.mapping import click_reader
    from streams.metrics import Metrics
    from streams.settings import Settings

    warm()
    click_reader.warm()
    prior = LinearPrior(np.array([0.0, 1.0, 0.0, 0.0]), precision=20.0, feature_space="")
    for name in get_args(Settings.model_fields["policy"].annotation):
        if name != "rl":  # learned elsewhere, and made of the kernels of the others
            PolicySet(Settings.model_validate({"policy": name}), prior, Metrics()).warm()


if __name__ == "__main__":
    main()
