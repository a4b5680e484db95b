"""GOBRec's protocol on ML-100K: ours beside gobrec and mab2rec, the same contexts in the same run.

    python -m tests.benchmarks.bandit_speed --peer-python /path/to/venv/bin/python

The environment of the peers: `uv venv PEERS`, then `uv pip install --python PEERS/bin/python gobrec mab2rec
'pandas<3'`. All run in one thread; seconds are of the processor, which a busy machine leaves as they are.
Interactions in order of time; a model per item (disjoint) is fitted to the first half,
and then, for each of ten windows, recommends ten items for every interaction's context and learns from the
window. A context is its user's age, gender and occupation (24 features), a reward the rating; the items are
those rated so far. A hit is a recommendation of the item that the interaction is about.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from online_learning.statistics.arm_posterior import infer_disjoint
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import MOST_VARIANCE, LinearPrior, infer
from streams.demo.dataset import fetch
from tests.benchmarks.inputs import DataFolder, faults_told
from tests.benchmarks.policies import best_seconds

PEER = Path(__file__).with_name("bandit_speed_peer.py")
WINDOWS, TOP, SEED = 10, 10, 42
RIDGE, UCB_ALPHA, TS_ALPHA = 1.0, 1.0, 0.1  # GOBRec's settings
ALGORITHMS = ("linucb", "lints")

Log = tuple[np.ndarray, np.ndarray, np.ndarray]  # contexts (n, 24), item ids (n,), ratings (n,)


def read_log(data: Path) -> Log:
    """Return the interactions in order of time; ties by user and item."""
    users = np.loadtxt(data / "ml-100k.user", dtype=str, delimiter="\t", skiprows=1)
    columns = [users[:, 1].astype(float)[:, None] / 100.0]
    columns += [users[:, at][:, None] == np.unique(users[:, at])[None] for at in (2, 3)]
    features = np.concatenate(columns, axis=1).astype(np.float64)
    row_of = {int(user): row for row, user in enumerate(users[:, 0])}
    log = np.loadtxt(data / "ml-100k.inter", delimiter="\t", skiprows=1)
    log = log[np.lexsort((log[:, 1], log[:, 0], log[:, 3]))]
    contexts = features[[row_of[int(user)] for user in log[:, 0]]]
    return contexts, log[:, 1].astype(np.int64), log[:, 2]


def windows(n: int) -> list[slice]:
    """The warm-up half, then the ten windows."""
    edges = [0, *(n // 2 + (n - n // 2) * part // WINDOWS for part in range(WINDOWS + 1))]
    return [slice(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]


def ours(log: Log, algorithm: str) -> tuple[np.ndarray, float, float]:
    """Return the recommendations, the seconds of learning and those of recommending."""
    contexts, items, ratings = log
    statistics = ArmStatistics(contexts.shape[1])
    precision = RIDGE / MOST_VARIANCE**2  # so that it is RIDGE of weights where the noise's is 1
    prior = LinearPrior(np.zeros(contexts.shape[1]), precision=precision, noise_variance=1.0)
    rng, learning, recommending, slates = np.random.default_rng(SEED), 0.0, 0.0, []
    posterior = None
    for part in windows(len(items)):
        if posterior is not None:
            start = time.process_time()
            if algorithm == "linucb":
                slates.append(posterior.top_ucb(contexts[part], k=TOP, exploration=UCB_ALPHA))
            else:
                slates.append(posterior.top_thompson(contexts[part], k=TOP, exploration=TS_ALPHA, rng=rng))
            recommending += time.process_time() - start
        start = time.process_time()
        arms = items[part].astype(np.uint64)
        statistics.add_impressions(contexts[part], arms=arms)
        statistics.add_rewards(contexts[part], ratings[part], arms=arms)
        posterior = infer_disjoint(prior, statistics)
        learning += time.process_time() - start
    return np.concatenate(slates).astype(np.int64), learning, recommending


def peers(python: str, log: Log, repeats: int, batch: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "log.npz", Path(folder) / "out.npz"
        contexts, items, ratings = log
        edges = [(part.start, part.stop) for part in windows(len(items))]
        np.savez(given, contexts=contexts, items=items, ratings=ratings, edges=edges)
        settings = [TOP, SEED, RIDGE, UCB_ALPHA, TS_ALPHA, repeats, batch]
        command = [python, str(PEER), str(given), str(out), *map(str, settings)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the peers failed: {' '.join(command)}\n{done.stderr[-2000:]}")
        with np.load(out) as results:
            return dict(results)


def quality(slates: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hit and NDCG of every recommendation, (n,) each."""
    found = slates == items[len(items) - len(slates) :, None]
    return found.any(axis=1).astype(float), (found / np.log2(np.arange(2, TOP + 2))).sum(axis=1)


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval by windows' means: interactions that follow each other are not independent."""
    means = np.array([part.mean() for part in np.array_split(values, WINDOWS)])
    half = 2.26 * means.std(ddof=1) / np.sqrt(WINDOWS)  # Student's t, 9 degrees of freedom
    return f"{values.mean():.4f} +- {half:.4f}"


def popularity(log: Log) -> np.ndarray:
    """The items rated most often so far: the floor."""
    _, items, _ = log
    parts = windows(len(items))
    slates = []
    for part in parts[1:]:
        counts = np.bincount(items[: part.start])
        slates.append(np.tile(np.argsort(-counts, kind="stable")[:TOP], (part.stop - part.start, 1)))
    return np.concatenate(slates)


def updates(dim: int = 32) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50_000, dim)).astype(np.float32)
    rewards = np.ones(len(rows))
    prior = LinearPrior(np.zeros(dim))
    print(f"\nshared posterior of {dim} dimensions, one core:")
    for name, half_life in (("", None), (", with a half-life", 86_400_000)):
        sums = LinearStatistics(dim, half_life_ms=half_life)
        times = np.arange(len(rows)) * 1_000

        def both(sums: LinearStatistics = sums, times: np.ndarray = times) -> None:
            sums.add_impressions(rows, times_ms=times)
            sums.add_rewards(rows, rewards, times_ms=times)

        def rewarded(sums: LinearStatistics = sums, times: np.ndarray = times) -> None:
            sums.add_rewards(rows, rewards, times_ms=times)

        for what, work in (("impression and reward", both), ("reward", rewarded)):
            print(f"  {what}{name}: {len(rows) / best_seconds(work, repeats=3):,.0f} a second")
    print(f"  posterior from the sums: {best_seconds(lambda: infer(prior, sums)) * 1e6:,.0f} us")


def row(name: str, learning: float, recommending: float, slates: np.ndarray, items: np.ndarray) -> None:
    hit, ndcg = quality(slates, items)
    print(
        f"{name:>18} {learning:>9.3f} {recommending:>12.3f} {learning + recommending:>9.3f}   "
        f"{interval(hit)}   {interval(ndcg)}"
    )


def compare(log: Log, found: dict[str, np.ndarray], repeats: int) -> list[tuple[str, str, float, float]]:
    """Print the table; return (algorithm, peer, speed-up, share of equal recommendations)."""
    print(f"{'':>18} {'learn s':>9} {'recommend s':>12} {'total s':>9}   hit@10            NDCG@10")
    row("popularity", 0.0, 0.0, popularity(log), log[1])
    gains = []
    for algorithm in ALGORITHMS:
        runs = [ours(log, algorithm) for _ in range(repeats)]
        slates, learning, recommending = min(runs, key=lambda run: run[1] + run[2])
        row(f"ours {algorithm}", learning, recommending, slates, log[1])
        for peer in ("gobrec", "mab2rec"):
            name = f"{peer}/{algorithm}"
            if f"{name}/slates" in found:
                seconds, theirs = found[f"{name}/seconds"], found[f"{name}/slates"]
                row(f"{peer} {algorithm}", seconds[0], seconds[1], theirs, log[1])
                gain = float(seconds.sum()) / (learning + recommending)
                gains.append((algorithm, peer, gain, float((theirs == slates).mean())))
    return gains


def main(
    data: DataFolder = None,
    peer_python: Annotated[
        str | None, typer.Option(help="Python of an environment with gobrec and mab2rec.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of ours and of gobrec; the quickest counts.")] = 3,
    batch: Annotated[int, typer.Option(help="Contexts a call, for gobrec.")] = 1_000,
) -> None:
    """Measure seconds and quality of LinUCB and LinTS, and the rate of updates."""
    log = read_log(fetch(data))
    warm = (log[0][:200], log[1][:200], log[2][:200])
    for algorithm in ALGORITHMS:
        ours(warm, algorithm)  # compiles, once per machine
    print(f"{__doc__.splitlines()[0]}\n{len(log[1]):,} interactions; seed {SEED}; {platform.processor()}")
    found = {} if peer_python is None else peers(peer_python, log, repeats, batch)
    for algorithm, peer, gain, equal in compare(log, found, repeats):
        print(f"{algorithm}: {gain:.1f} times as fast as {peer}; {equal:.1%} of the recommendations equal")
    if not found:
        print("skipped: gobrec and mab2rec, for want of --peer-python")
    updates()


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read when numpy is loaded: only a new process can set it
        one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.benchmarks.bandit_speed", *sys.argv[1:]],
            os.environ | one_core,
        )
    with faults_told():
        typer.run(main)
