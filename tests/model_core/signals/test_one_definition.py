"""What a worker gives its release has the bits of what training computes from the same events."""

import asyncio
import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_core.data.batches import PER_USER, ScoreBatch, dense_eligible, dense_signals
from model_core.data.datasets import Dataset, Interactions, Item, User
from model_core.data.item_text import item_text
from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import start_replay
from model_core.inputs.corpus import Corpus, make_corpus
from model_core.inputs.replay import item_features
from model_core.release.scorer import Scorer
from model_core.signals.config import SignalConfig
from model_core.signals.reader import Reader
from model_core.signals.sample_signals import Log, UserEvents, ease_before
from model_core.training.samples import Windows, collect_samples
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import topic_name
from streams.state.item_index import keys_of
from streams.state.item_rows import encode_item_state
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, Texts
from tests.streams.conftest import Memory

BEGAN, DAY = 1_600_000_000_000, 86_400_000
ACTIONS = {"dislike": -1.0, **WEIGHTS}  # in another order than the release's, and one that it has not
CODES = {"dislike": 0, "view": 1, "like": 2}
USERS = [User(f"u{n}", {}, ["k1", "elsewhere"] if n == 1 else []) for n in range(4)]
NEVER = ["nothing 0", "i3", "nothing 1"]  # which nobody describes; the release knows one of them
KINDS = ("k0", "k1", "k0", "elsewhere")
ITEMS = [
    Item(name, f"Item {name}", {"kind": [KINDS[at % 4]], "of": [KINDS[at % 3]]})
    for at, name in enumerate([*(f"i{n}" for n in range(N_ITEMS)), *(f"new {n}" for n in range(6))])
    if name not in NEVER
]

NEW = np.array([item.item_id.startswith("new") for item in ITEMS])

Event = tuple[str, str, str, int]


def stream(seed: int, size: int) -> list[Event]:
    """User, item, action and time of events in time order; times are often the same, items recur."""
    rng = np.random.default_rng(seed)
    names = [*(item.item_id for item in ITEMS), *NEVER * 3]
    favourites = rng.choice(len(names), 12)
    times = BEGAN + np.cumsum(rng.choice([0, 0, 1, 977, 40_000, 3 * DAY], size))
    return [
        (
            USERS[min(int(rng.exponential(1.0)), 3)].user_id,
            names[rng.choice(favourites) if rng.random() < 0.4 else rng.integers(len(names))],
            str(rng.choice(list(ACTIONS), p=[0.2, 0.3, 0.5])),
            int(time_ms),
        )
        for time_ms in times
    ]


def corpus_of(scorer: Scorer) -> Corpus:
    """The catalogue by the release's names; texts are as exact as a worker keeps them."""
    release, few = scorer.release, np.array(["u0", "u1"])
    interactions = Interactions(
        few, np.array([ITEMS[0].item_id] * 2), np.ones(2, np.float32), np.zeros(2, np.int64)
    )
    names = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    made = make_corpus(
        Dataset("told", interactions, ITEMS, []),
        ["like"] * 2,
        WEIGHTS,
        Texts(),
        CONFIG.n_neighbours,
        known=names,
    )
    stated = np.zeros((len(USERS), made.stated.shape[1]), np.int64)
    stated[1, 0] = release.entity_rows["k1"]
    return replace(made, text=made.text.astype(np.float16).astype(np.float32), stated=stated)


def log_of(events: list[Event], corpus: Corpus) -> Log:
    rows = {name: row - 1 for name, row in corpus.vocabulary.item_rows.items()}
    rows |= {name: len(rows) + at for at, name in enumerate(NEVER)}
    users, items, actions, times = ([event[k] for event in events] for k in range(4))
    return Log(
        np.array([int(user[1:]) for user in users], np.int32),
        np.array([rows[item] for item in items], np.int32),
        np.array([CODES[action] for action in actions], np.int64),
        np.array([ACTIONS[action] >= 1 for action in actions], np.bool_),
        np.array(times, np.int64),
        len(USERS),
        len(ITEMS),
    )


@dataclass(frozen=True)
class Given:
    """What the worker's release was given for each user, one request a batch; rows are the corpus's."""

    batches: list[ScoreBatch]
    times_ms: list[int]


def worker_gives(scorer: Scorer, events: list[Event], seed: int, **settings: Any) -> Given:
    """Tell a worker of the items and the events, ask for each user, and note what its release is given."""
    rng, kept = np.random.default_rng(seed), []
    recording = copy.copy(scorer)

    def score(batch: ScoreBatch, items: NDArray[np.float32]) -> Any:
        kept.append(batch)
        return scorer.score(batch, items)

    recording.score = score  # type: ignore[method-assign]
    memory = Memory.of(actions=ACTIONS, **settings)
    times = [int(events[-1][3] + rng.choice([0, 5_000, -40_000, 50 * DAY])) for _ in USERS]

    async def run() -> None:
        async with memory.worker(recording) as worker:
            for user in USERS:
                memory.events.user(user.user_id, preferences=user.preferences)
            for user_id, item_id, action, time_ms in events[: len(events) // 2]:
                memory.events.click(user_id, item_id, action, timestamp_ms=time_ms)
            await worker.deliver("users", "clicks", most=7)
            describe(memory)  # after half of the clicks
            for user_id, item_id, action, time_ms in events[len(events) // 2 :]:
                memory.events.click(user_id, item_id, action, timestamp_ms=time_ms)
            await worker.deliver("clicks", most=50)
            for user, time_ms in zip(USERS, times, strict=True):
                memory.events.request(user.user_id, timestamp_ms=time_ms)
                await worker.deliver()
            assert not memory.events.dead_letters()
            rows.append(worker.parts.shared.index.rows_of([item.item_id for item in ITEMS]))

    rows: list[NDArray[np.int32]] = []
    asyncio.run(run())
    return Given([by_corpus(batch, rows[0]) for batch in kept], times)


def describe(memory: Memory) -> None:
    """Write the items as content would have been written, with the texts' vectors."""
    texts = Texts().encode([item_text(item.title, item.text, item.attributes) for item in ITEMS])
    for text, item in zip(texts, ITEMS, strict=True):
        value = encode_item_state(
            content_id=item.item_id, title=item.title, text=text, image=None, audio=None,
            attributes=item.attributes, triples=[], available=True, published_ms=None, expires_ms=None,
            partition=0, offset=0,
        )  # fmt: skip
        partition = partition_of(item.item_id, memory.settings.partitions)
        topic = topic_name(memory.settings, "item-state")
        memory.log.append(topic, partition, [(item.item_id.encode(), value)])


def by_corpus(batch: ScoreBatch, rows: NDArray[np.int32]) -> ScoreBatch:
    """The same batch with the corpus's rows for the worker's."""
    place = np.full(len(batch.popularity) + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    signals, eligible = dense_signals(batch)[:, :, rows], dense_eligible(batch)[:, rows]
    return replace(
        batch,
        history=place[batch.history],
        popularity=batch.popularity[rows],
        signals=signals,
        eligible=eligible,
    )


def training_gives(
    corpus: Corpus, log: Log, user: int, now_ms: int, config: SignalConfig
) -> tuple[NDArray[np.float16], NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]:
    """Signals, what is met, entities and weights before one more event of a user, by `collect_samples`."""
    more = {"users": user, "items": 0, "actions": 2, "positive": True, "times_ms": now_ms}
    log = replace(
        log, **{name: np.append(getattr(log, name), value).astype(getattr(log, name).dtype)
                for name, value in more.items()}
    )  # fmt: skip
    last = np.array([[len(log) - 1]])
    windows = Windows(np.full((1, 0), -1), last, last, np.arange(len(ITEMS), dtype=np.int32)[None])
    samples = collect_samples(
        log,
        windows,
        corpus.edges,
        corpus.stated,
        item_features(corpus),
        CONFIG,
        replace(config, ease_refits=1),
    )
    return samples.signals[0, :, 1:], samples.seen[0, 1:], samples.entities[0], samples.weights[0]


@pytest.mark.parametrize("size", [3, 40, 260])
@pytest.mark.parametrize(
    ("read", "settings"),
    [
        ({}, {"history_limit": 1024, "partitions": 2}),
        (
            {
                "depth": 33,
                "affinity_positives": 7,
                "affinity_half_life_ms": DAY,
                "popularity_half_life_ms": DAY,
            },
            {"history_limit": 48, "partitions": 2},
        ),
        (
            {"depth": 17, "neighbours": 16, "read_window": 4, "window": 15, "pair_back": 0.0},
            {"history_limit": 32, "partitions": 1},
        ),
    ],
)
def test_a_worker_gives_its_release_the_bits_that_training_computes(
    scorer: Scorer, size: int, read: dict[str, Any], settings: dict[str, Any]
) -> None:
    config = replace(scorer.release.signals, **read)
    served = copy.copy(scorer)
    served.release = replace(scorer.release, signals=config, text_encoder="none")
    events = stream(size, size)
    given = worker_gives(served, events, size, **settings)
    corpus = corpus_of(served)
    log = log_of(events, corpus)
    keys = keys_of([*corpus.vocabulary.item_rows, *NEVER])
    replay, _ = start_replay(served, replace(corpus, log=log), keys=keys)
    replay.advance(len(log))
    reader = Reader(config, 1, 1, 1, np.arange(3))
    described, everything = np.ones(len(ITEMS), np.bool_), np.arange(len(ITEMS), dtype=np.int32)[None]
    for user, (batch, now_ms) in enumerate(zip(given.batches, given.times_ms, strict=True)):
        who, now = np.array([user], np.int32), np.array([now_ms])
        wanted = replay.requests(who, now)
        for name in PER_USER:
            np.testing.assert_array_equal(getattr(batch, name), getattr(wanted, name), name)
        for name in (*PER_USER, "popularity"):
            assert getattr(batch, name).dtype == getattr(wanted, name).dtype
        # What decays is summed over partitions, and an event after the request has not begun to.
        near = 0.0 if config.horizon < 0 else 1e-3
        np.testing.assert_allclose(batch.popularity, wanted.popularity, rtol=near)
        np.testing.assert_array_equal(batch.popularity > 0, wanted.popularity > 0)
        given_signals, wanted_signals = batch.signals, dense_signals(wanted)
        np.testing.assert_array_equal(given_signals[:, 0], wanted_signals[:, 0])
        np.testing.assert_array_equal(given_signals[:, 2, ~NEW], wanted_signals[:, 2, ~NEW])
        # EASE's weights on new items are a matrix product, whose last bit depends on how many there are.
        np.testing.assert_allclose(given_signals[:, 2, NEW], wanted_signals[:, 2, NEW], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(batch.eligible, dense_eligible(wanted))

        signals, met, entities, weights = training_gives(corpus, log, user, now_ms, config)
        if (
            config.neighbours == 256 or size < 40
        ):  # training numbers items, so its counters give way otherwise
            np.testing.assert_array_equal(signals[0], batch.signals[0, 0].astype(np.float16))
        np.testing.assert_allclose(signals[1], batch.signals[0, 1].astype(np.float16), rtol=near)
        np.testing.assert_array_equal(met, ~batch.eligible[0])
        np.testing.assert_array_equal(entities, batch.user_entities[0])
        np.testing.assert_array_equal(weights, batch.user_entity_weights[0])
        drawn = reader.draw(
            UserEvents(log, config.depth).before(who, np.array([len(log)])), now, described=described
        )
        eased = ease_before(who, drawn, everything, replay.ease)
        np.testing.assert_array_equal(eased, wanted_signals[:, 2])
    assert size < 40 or any(
        (batch.history >= 0).all() and batch.signals[:, 2].any() for batch in given.batches
    )
