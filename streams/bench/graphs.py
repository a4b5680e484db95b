"""A release's graphs alone: random requests on a random catalogue, without topics, policy or event loop."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import ScoreBatch, SparseRows
from model_core.release.scorer import Scorer

SHARE_OF_SIGNALS = 0.02
SEEN = 20
WRITTEN = 16
"""Items whose vectors change between two calls, which a GPU has to be sent."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Milliseconds of one call of the scorer, by the clock and of the processor: medians."""

    ms: float
    cpu_ms: float


def random_items(n: int, dim: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return item vectors of random direction: (n, dim) float32."""
    vectors = np.random.default_rng(seed).standard_normal((n, dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def random_requests(scorer: Scorer, requests: int, items: int, *, seed: int = 0) -> ScoreBatch:
    """Requests of users with full histories, to whom signals speak for two items in a hundred."""
    release, rng = scorer.release, np.random.default_rng(seed)
    shape = (requests, release.history_length)
    spoken_for = max(1, round(SHARE_OF_SIGNALS * items))
    signals = SparseRows.of([rng.integers(0, items, spoken_for) for _ in range(requests)])
    return ScoreBatch(
        history=rng.integers(0, items, shape),
        history_actions=rng.integers(1, len(release.actions) + 1, shape),
        history_age_s=np.sort(rng.random(shape, np.float32) * 1e6, axis=1)[:, ::-1].copy(),
        user_entities=rng.integers(0, len(release.entity_rows) + 1, (requests, release.n_affinities)),
        user_entity_weights=rng.random((requests, release.n_affinities), np.float32),
        popularity=np.log1p(rng.integers(0, 1_000, items)).astype(np.float32),
        signals=signals,
        signal_values=rng.random((len(signals.rows), release.n_signals - 1), np.float32),
        eligible=np.ones(items, np.bool_),
        excluded=SparseRows.of([rng.integers(0, items, SEEN) for _ in range(requests)]),
    )


def time_scorer(scorer: Scorer, requests: int, items: int, *, seconds: float, seed: int = 0) -> Pass:
    """Score one batch again and again for some seconds, at least three times after a first one.

    Its histories are new each time, as those of users are who have done something since, and some items have
    been written.
    """
    vectors = random_items(items, scorer.release.dim, seed=seed)
    batch = random_requests(scorer, requests, items, seed=seed)
    scorer.score(batch, vectors)
    written = np.random.default_rng(seed).integers(0, items, WRITTEN)
    clock: list[float] = []
    cpu: list[float] = []
    end = time.perf_counter() + seconds
    while len(clock) < 3 or time.perf_counter() < end:
        scorer.forget_histories()
        scorer.items_written(written)
        began, used = time.perf_counter(), time.process_time()
        scorer.score(batch, vectors)
        clock.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return Pass(statistics.median(clock) * 1000, statistics.median(cpu) * 1000)
