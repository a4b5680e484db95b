"""Makes what a serving benchmark needs: a release of random weights, a catalogue, and users with histories.

The graphs are the real ones, exported as training exports them, and only their weights are random: how long
a request takes depends on shapes, not on what was learned. The release knows `KNOWN` items by name, with EASE
weights; the rest of a catalogue is placed by its text and attributes, as are items newer than a training.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset, Interactions, Item
from model_core.inputs.corpus import Corpus, make_corpus
from model_core.network.config import ModelConfig
from model_core.release.folder import read_release
from streams.kafka.partitioner import partitions_of
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.settings import DEFAULT_ACTIONS, Settings
from streams.state.item_rows import encode_item_state

KNOWN = 1_700
TEXT_DIM = 384
GENRES = 40
TEXTS = 4_096
CHUNK = 10_000

Rows = Iterator[tuple[str, bytes]]


def item_attributes(number: int) -> dict[str, list[str]]:
    """Attributes of item `number`: three edges of the knowledge graph, shared with many others."""
    return {
        "genre": [f"genre-{number % GENRES}", f"genre-{number * 7 % GENRES}"],
        "maker": [f"maker-{number % 997}"],
    }


class RandomTexts:
    """Vectors instead of texts, for a release whose items come with theirs."""

    name, fingerprint, dim = "none", "random", TEXT_DIM

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors of random direction: (n, dim) float32."""
        vectors = self._rng.standard_normal((len(texts), self.dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def random_release(
    folder: Path, *, known: int = KNOWN, seed: int = 0, config: ModelConfig | None = None
) -> Path:
    """Write a release, if missing, that knows i0 to i<known - 1>: random weights, a real text encoder.

    Its sizes are those of `config`, by default those that a training has by default. One that this version
    cannot read is made anew.
    """
    if _is_usable(folder):
        return folder
    # A worker's process never needs these, and they take seconds.
    import torch

    from model_core.inputs.replay import item_features
    from model_core.network.config import TrainConfig
    from model_core.network.ensemble import served_as_one
    from model_core.network.model import Model
    from model_core.release.export import export_release
    from model_core.release.folder import EASE, MAPPING, whole_folder, write_manifest
    from model_core.signals.config import SignalConfig
    from model_core.signals.sample_signals import fit_log, map_log
    from streams.items.text_encoder import named_encoder

    config, signals, weights = config or ModelConfig(), SignalConfig(), dict(DEFAULT_ACTIONS)
    corpus = _random_corpus(known, seed, weights, config.n_neighbours)
    torch.manual_seed(seed)
    one = replace(config, ensemble=1)
    model = served_as_one(
        [Model(corpus, one, TrainConfig(), tuple(weights.values())) for _ in range(config.ensemble)]
    )
    with whole_folder(folder) as partial:
        features = item_features(corpus)
        fit_log(corpus.log, signals, features).save(partial / EASE)
        map_log(corpus.log, signals, features).save(partial / MAPPING)
        encoder = named_encoder("minilm")
        encoder.copy_to(partial)
        export_release(partial, model.encoder, model.ranker, n_items=known)
        write_manifest(
            partial,
            config=config,
            actions=weights,
            text_encoder=(encoder.name, encoder.fingerprint),
            vocabulary=corpus.vocabulary,
            signals=signals,
            metrics={},
            training={"random": True, "interactions": 0},
        )
    return folder


def _random_corpus(known: int, seed: int, weights: dict[str, float], n_neighbours: int) -> Corpus:
    """Forty likes a user, as many users as items; most likes are of few items."""
    rng, n = np.random.default_rng(seed), 40 * known
    interactions = Interactions(
        np.array([f"u{u}" for u in rng.integers(known, size=n)]),
        np.array([f"i{i}" for i in (known * rng.random(n) ** 3).astype(int)]),
        np.full(n, 5.0, np.float32),
        1_700_000_000_000 + 60_000 * np.arange(n, dtype=np.int64),
    )
    items = [Item(f"i{i}", f"Item {i}", item_attributes(i)) for i in range(known)]
    data = Dataset("random", interactions, items, [])
    return make_corpus(data, ["like"] * n, weights, RandomTexts(seed), n_neighbours)


def _is_usable(folder: Path) -> bool:
    try:
        return read_release(folder).carries_text_encoder
    except ValueError:
        return False


def catalogue_rows(items: int, partitions: int, *, seed: int = 0) -> Rows:
    """Key and item-state value of items i0, i1, ..., as the worker would have made them from content."""
    texts = RandomTexts(seed).encode([""] * min(items, TEXTS))
    for start in range(0, items, CHUNK):
        names = [f"i{number}" for number in range(start, min(items, start + CHUNK))]
        where = partitions_of(names, partitions).tolist()
        for number, (name, partition) in enumerate(zip(names, where, strict=True), start):
            yield (
                name,
                encode_item_state(
                    content_id=name,
                    title=f"Item {number}",
                    text=texts[number % len(texts)],
                    image=None,
                    audio=None,
                    attributes=item_attributes(number),
                    triples=[],
                    available=True,
                    published_ms=None,
                    expires_ms=None,
                    partition=partition,
                    offset=number,
                ),
            )


def history_rows(users: int, items: int, *, each: int = 20, seed: int = 0) -> Rows:
    """Key and value of clicks: `each` likes of users u0, u1, ..., of popular items more than of others."""
    rng = np.random.default_rng(seed)
    start_ms = int(time.time() * 1000) - 60_000 * each
    for turn in range(each):
        liked = (items * rng.random(users) ** 3).astype(np.int64).tolist()
        for user, item in enumerate(liked):
            yield (
                f"u{user}",
                b'{"event_id":"h%d-%d-%d","user_id":"u%d","item_id":"i%d","action":"like","timestamp_ms":%d}'
                % (seed, turn, user, user, item, start_ms + 60_000 * turn),
            )


def publish_all(
    settings: Settings, name: str, rows: Rows, *, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Publish keyed rows to the topic called `name`; return how many there were."""
    return asyncio.run(_publish_all(settings, name, rows, progress))


async def _publish_all(settings: Settings, name: str, rows: Rows, progress: Callable[[int], None]) -> int:
    publisher = Publisher(settings)
    await publisher.start()
    try:
        return await publish_rows(settings, publisher, name, rows, progress=progress)
    finally:
        await publisher.stop()
