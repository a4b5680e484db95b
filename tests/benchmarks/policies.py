"""Speed of the policies, the statistics and the attribution on one core.

Run `OMP_NUM_THREADS=1 python -m tests.benchmarks.policies` from the repository's root.
"""

import time
from collections.abc import Callable

import numpy as np

from online_learning.attribution.pending_slates import PendingSlates
from online_learning.attribution.rewards import Shaping
from online_learning.policies.registry import POLICIES, create_policy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates

BATCH, N_CANDIDATES, K, DIM = 32, 200, 10, 32


def best_seconds(work: Callable[[], object], *, repeats: int = 7, budget_s: float = 0.2) -> float:
    """Return the seconds of one call, the best of several runs: the machine may be shared."""
    work()
    start = time.perf_counter()
    work()
    calls = max(1, int(budget_s / (time.perf_counter() - start)))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def policies(rng: np.random.Generator) -> None:
    features = rng.normal(scale=0.2, size=(BATCH, N_CANDIDATES, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    scores = rng.random((BATCH, N_CANDIDATES), dtype=np.float32)
    arms = np.tile(np.arange(N_CANDIDATES, dtype=np.uint64), (BATCH, 1))
    candidates = Candidates(scores, features, np.ones(scores.shape, bool), arms)
    k, seeds = np.full(BATCH, K), np.arange(BATCH, dtype=np.uint64)
    prior = LinearPrior(np.eye(DIM)[1])
    shown = create_policy("softmax", prior).select(candidates, k=k, seeds=seeds).index
    for name in POLICIES:
        if name == "rl":  # it is read from a release
            continue
        policy = create_policy(name, prior)
        seconds = best_seconds(lambda policy=policy: policy.select(candidates, k=k, seeds=seeds))
        shadow = best_seconds(lambda policy=policy: policy.propensities(candidates, shown, seeds=seeds))
        print(
            f"{name:>17}: {BATCH / seconds:>10,.0f} slates/s  {seconds / BATCH * 1e6:>6.0f} us each; "
            f"propensities of another's slate {shadow / BATCH * 1e6:>6.0f} us"
        )
    policy = create_policy("thompson", prior)
    statistics = LinearStatistics(DIM)
    statistics.add_impressions(features.reshape(-1, DIM))
    print(f"{'update':>12}: {best_seconds(lambda: policy.update(statistics)) * 1e6:,.0f} us")


def statistics(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(20_000, DIM)).astype(np.float32)
    rewards = np.ones(len(rows))
    sums = LinearStatistics(DIM)
    for name, work in (
        ("impressions", lambda: sums.add_impressions(rows)),
        ("rewards", lambda: sums.add_rewards(rows, rewards)),
    ):
        print(f"{name:>12}: {len(rows) / best_seconds(work):>10,.0f} rows/s")


def attribution() -> None:
    n_users, features = 20_000, np.zeros((K, DIM), np.float32)
    items = tuple(f"item-{i}" for i in range(K))

    def serve() -> PendingSlates:
        pending = PendingSlates(window_ms=1_000_000, shaping=Shaping({"click": 1.0}))
        for user in range(n_users):
            pending.add(f"request-{user}", f"user-{user}", items, features, user)
        return pending

    events = [(f"user-{i}", items[j], "click", 30_000, None) for j in range(3) for i in range(n_users)]
    adding, attributing, closing = [], [], []
    for _ in range(3):
        start = time.perf_counter()
        pending = serve()
        adding.append(time.perf_counter() - start)
        start = time.perf_counter()
        for event in events:
            pending.attribute(*event)
        attributing.append(time.perf_counter() - start)
        start = time.perf_counter()
        pending.close(10_000_000)
        closing.append(time.perf_counter() - start)
    print(f"{'add':>12}: {n_users / min(adding):>10,.0f} slates/s")
    print(f"{'attribute':>12}: {len(events) / min(attributing):>10,.0f} rewards/s")
    print(f"{'close':>12}: {n_users / min(closing):>10,.0f} slates/s")
    column = [f"user-{i}" for i in range(0, 40 * n_users, 20)]
    pending = serve()
    seconds = best_seconds(lambda: [row for row, user in enumerate(column) if user in pending.users])
    print(f"{'filter':>12}: {len(column) / seconds:>10,.0f} events/s")


if __name__ == "__main__":
    print(f"batches of {BATCH}, {N_CANDIDATES} candidates, slates of {K}, {DIM} features")
    generator = np.random.default_rng(0)
    policies(generator)
    statistics(generator)
    attribution()
