"""Evidence of whole batches, against the summands of each signal."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.cold_start import ItemMapping
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.evidence import strongest
from model_core.signals.parts import PartsReader
from model_core.signals.reader import Reader
from streams.durability.digest import fold_batch
from streams.events import Click
from streams.items.ease_signal import EaseSignal
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.people import gather
from streams.state.profiles import Profiles
from streams.why.signal_sources import SignalSources
from streams.why.slate_reasons import SlateReasons

KNOWN, NEW = 12, 6
NAMES = [f"i{number}" for number in range(KNOWN + NEW)]
EVERYTHING = np.ones(2, np.bool_)
POSITIVE = np.array([False, True])
NOW = 1_700_000_000_000


def reader() -> Reader:
    return Reader(SignalConfig(), history_length=1, n_affinities=1, n_entities=1, codes=np.zeros(2, np.int64))


def ease_signal(rng: np.random.Generator, index: ItemIndex) -> EaseSignal:
    weights = rng.standard_normal((KNOWN, KNOWN)).astype(np.float32)
    there = rng.random((KNOWN, KNOWN)) < 0.7
    sizes = there.sum(1)
    ease = Ease(
        np.concatenate(([0], np.cumsum(sizes))), np.nonzero(there)[1].astype(np.int32), weights[there]
    )
    mapping = ItemMapping(np.zeros((1, 0), np.float32), {}, {}, np.zeros((0, KNOWN), np.float32))
    signal = EaseSignal(ease, mapping, NAMES[:KNOWN], index, keep=4)
    for place in range(KNOWN):  # as `describe` keeps them
        chosen = rng.permutation(np.arange(KNOWN, KNOWN + NEW))[: rng.integers(0, 5)]
        signal._rows.size[place] = len(chosen)
        signal._rows.new_rows[place, : len(chosen)] = chosen
        signal._rows.new_weights[place, : len(chosen)] = rng.standard_normal(len(chosen))
    return signal


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_evidence_is_the_largest_summand_of_each_signal_and_its_share(seed: int, n_parts: int) -> None:
    rng, index = np.random.default_rng(seed), ItemIndex()
    index.rows_of(NAMES)
    covisits = {p: CoVisitation(neighbours=32, window=4) for p in range(n_parts)}
    profiles = [
        Profiles(p, history_limit=32, actions=["view", "like"], positive=["like"]) for p in range(n_parts)
    ]
    for offset in range(60):
        part = int(rng.integers(n_parts))
        event = Click(
            event_id=f"e{offset}", user_id=f"u{rng.integers(3)}", item_id=str(rng.choice(NAMES)),
            action=str(rng.choice(["view", "like"])), timestamp_ms=NOW - 1000 * (60 - offset),
        )  # fmt: skip
        fold_batch(profiles[part], covisits[part], index, [(offset, event)])
    sources = SignalSources(covisits=covisits, ease=ease_signal(rng, index))
    reasons = SlateReasons(
        catalogue=Catalogue(index), index=index, actions=["view", "like"],
        action_weights=np.ones(2, np.float32),
    )  # fmt: skip
    users = [(profiles[int(rng.integers(n_parts))], row) for row in (0, -1, 1)]
    users = [(where, row if row < where.n_users else -1) for where, row in users]
    people = gather(users, depth=200, counts_as_seen=EVERYTHING, positive=POSITIVE)
    drawn = reader().draw(people.pasts, np.full(3, NOW), described=np.ones(len(NAMES), np.bool_))
    slates = np.stack([rng.permutation(len(NAMES))[:7] for _ in users])
    slates[2, 5:] = -1
    told = reasons.of(
        people.stated, drawn, slates, parts=PartsReader().read(list(covisits.values())),
        liked=sources.liked(drawn), popularity=np.zeros(len(NAMES)),
    )  # fmt: skip

    for user, slate in enumerate(slates):
        here = slate[slate >= 0]
        for signal, parts in (("covisits", sources.covisits), ("ease", sources.ease)):
            rows, summands = parts(drawn, user, here)
            place, share = strongest(summands)
            for k in range(len(here)):
                found = [one for one in told[user][k].evidence if one.signal == signal]
                assert len(found) == (place[k] >= 0)
                for one in found:
                    at = rows.tolist().index(index.row_of(one.item_id))
                    assert summands[at, k] == summands[:, k].max()
                    assert abs(one.share - share[k]) < 1e-4
        assert all(why.evidence == [] for why in told[user][len(here) :])
