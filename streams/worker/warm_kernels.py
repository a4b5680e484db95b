"""Compile every kernel of the state, or load it from the cache, before the first event waits for it."""

from types import SimpleNamespace

import numpy as np

from model_core.signals import co_visitation, evidence
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.ease import Ease
from streams.durability.digest import fold_batch
from streams.durability.profile_rows import Restore, take_profiles
from streams.durability.rows import take_covisits
from streams.events import Click
from streams.kafka.partitioner import partition_of
from streams.state import profile_kernels
from streams.state.catalogue import Catalogue, encode_item_state
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.why import graph_paths as graph


def warm() -> None:
    """Run each kernel once on a few events, with the types that the worker uses."""
    co_visitation.warm()
    evidence.warm()
    liked = np.zeros(1, np.int32)
    Ease(np.array([0, 1], np.int64), liked, np.ones(1, np.float32)).scores([liked])
    index, profiles = ItemIndex(), Profiles(0, history_limit=32, actions=["like"], positive=["like"])
    covisits, catalogue = CoVisitation(neighbours=32, window=2), Catalogue(index)
    log = [
        (k, Click(event_id=f"{k}", user_id="u", item_id=f"{k}", action="like", timestamp_ms=10**12))
        for k in range(3)
    ]
    fold_batch(profiles, covisits, index, log)
    take_covisits(covisits, index, 0)
    restore = Restore(Profiles(0, history_limit=32, actions=["like"], positive=["like"]), index)
    restore.add(take_profiles(profiles, index).rows)
    restore.finish()
    profile_kernels.mark_chunks(profiles.rings, np.zeros(1, np.int32))
    state = encode_item_state(
        content_id="0", title="0", text=None, image=None, audio=None, attributes={"genre": ["x"]}, triples=[],
        available=True, published_ms=None, expires_ms=None, partition=0, offset=0,
    )  # fmt: skip
    catalogue.apply([SimpleNamespace(key=b"0", value=state)])
    profiles.recent_positives(0, profiles.positive, 2)
    profiles.seen_mask(0, profiles.positive, np.ones(3, np.bool_))
    graph.affinities(catalogue, profiles, 0, now_ms=10**12, top=2)
    graph.reasons(
        catalogue, index, profiles, 0, np.arange(3), now_ms=10**12, actions=["like"],
        action_weights=np.ones(1, np.float32), covisits=[covisits],
    )  # fmt: skip
    partition_of("u", 2)
    profiles.erase("u")
