"""`slatestream bench policy`: what each policy takes, beside the scoring graph of the same batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from online_learning.policies.options import SlateRules
from online_learning.policies.policy import Policy
from online_learning.policies.registry import POLICIES, Learning, create_policy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.bench.report import print_table, speaker, write_report
from streams.errors import ConfigurationError
from streams.session.machine import machine
from streams.session.shutdown import clean_exit

ENTITIES, RELATIONS, GENRES = 3_000, 8, 19
LEARNED, REWARDED = 20_000, 2_000  # impressions and rewards that every policy has learned from
MIN_TIMES = 5
RULES = SlateRules(diversity=0.1, cap=2, fresh_share=0.1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one policy and batch; ratio is to the scoring graph of the same batch, in turn with it."""

    policy: str
    batch: int
    policy_ms: float
    graph_ms: float
    ratio: float
    slates_per_s: float
    rewards_per_s: float


class Graph:
    """The graphs of a release with random weights, exported as training exports it, and a batch for it."""

    def __init__(self, folder: Path, *, features: int, items: int) -> None:
        # Only who exports needs these, and they take seconds.
        import torch

        from model_core.network.config import ModelConfig
        from model_core.network.item_encoder import ItemEncoder
        from model_core.network.ranker import Ranker
        from model_core.release.export import export_release
        from model_core.release.folder import RANKER
        from model_core.release.scorer import Graphs

        torch.manual_seed(0)
        config = ModelConfig(feature_dim=features)
        encoder = ItemEncoder(config, items + 1, ENTITIES, RELATIONS)
        self._ranker = Ranker(config, encoder.entities, (0.2, 1.0, 2.0), 0.0)
        self._items = items
        folder = folder / f"graph-{features}"
        if not (folder / RANKER).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            export_release(folder, encoder, self._ranker, n_items=items)
        self._graphs = Graphs(folder, n_candidates=config.n_candidates)

    def batch(self, n: int) -> tuple[Callable[[], Any], Candidates]:
        """Return what scores n random requests, and the candidates that come of it."""
        from model_core.release.export import example_requests

        requests = example_requests(self._ranker, ENTITIES, n, self._items)
        width = self._ranker.config.dim
        vectors = np.random.default_rng(0).standard_normal((self._items, width), np.float32)
        scores = self._graphs.score(requests, vectors)
        candidates = candidates_of(scores.features, scores.scores, scores.valid)
        return lambda: self._graphs.score(requests, vectors), candidates


def candidates_of(
    features: NDArray[np.float32], scores: NDArray[np.float32], valid: NDArray[np.bool_]
) -> Candidates:
    """Return candidates with all that any policy reads; what a graph does not say is random."""
    rng = np.random.default_rng(0)
    n, width = scores.shape
    vectors = rng.standard_normal((n, width, 64), np.float32)
    return Candidates(
        scores=scores,
        features=features,
        valid=valid,
        arms=rng.integers(0, 1_700, (n, width)).astype(np.uint64),
        vectors=vectors / np.linalg.norm(vectors, axis=-1, keepdims=True),
        groups=rng.integers(-1, GENRES, (n, width, 6)).astype(np.int32),
        fresh=rng.random((n, width)) < 0.1,
    )


def learned(name: str, features: int, samples: int) -> tuple[Policy, float]:
    """Return a policy that has learned, and how many rewards a second its statistics take."""
    weights = np.zeros(features)
    weights[1] = 1.0  # the graph's second feature is the probability of a response
    prior = LinearPrior(weights, relative=True)
    policy = create_policy(name, prior, propensity_samples=samples, rules=RULES)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((LEARNED, features)).astype(np.float32)
    arms = rng.integers(0, 1_700, LEARNED).astype(np.uint64)
    statistics = Learning.of(name, prior).empty()
    statistics.add_impressions(rows, arms=arms)
    statistics.add_rewards(rows[:1], np.ones(1), arms=arms[:1])  # compiles
    ones, taken = np.ones(REWARDED), []
    for _ in range(MIN_TIMES):
        begun = time.perf_counter()
        statistics.add_rewards(rows[:REWARDED], ones, arms=arms[:REWARDED])
        taken.append(time.perf_counter() - begun)
    policy.update(statistics)
    return policy, REWARDED / float(np.median(taken))


def in_turn(first: Callable[[], Any], second: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Run both in turn for so many seconds; return the median seconds of each.

    What else the machine does then meets both alike.
    """
    for work in (first, second):
        work()  # compiled, and in the cache
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[1]) < MIN_TIMES:
        for work, taken in zip((first, second), times, strict=True):
            begun = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begun)
    return float(np.median(times[0])), float(np.median(times[1]))


def measure(
    policy: Policy, rewards_per_s: float, score: Callable[[], Any], candidates: Candidates, k: int, s: float
) -> Figures:
    """Measure a policy against the graph on one batch, for s seconds."""
    n = len(candidates.scores)
    sizes, seeds = np.full(n, k), np.arange(1, n + 1, dtype=np.uint64)

    def select() -> None:
        seeds[:] += np.uint64(n)
        policy.select(candidates, k=sizes, seeds=seeds)

    graph_s, policy_s = in_turn(score, select, s)
    return Figures(
        policy.name, n, 1e3 * policy_s, 1e3 * graph_s, policy_s / graph_s, n / policy_s, rewards_per_s
    )


def policy_command(
    policies: Annotated[str, typer.Option(help="Names, comma-separated; unset, all.")] = ",".join(POLICIES),
    batches: Annotated[str, typer.Option(help="Requests in a batch, comma-separated.")] = "1,8,32",
    features: Annotated[int, typer.Option(min=6, max=512, help="Features of a candidate.")] = 36,
    k: Annotated[int, typer.Option(min=1, max=200, help="Positions of a slate.")] = 10,
    samples: Annotated[int, typer.Option(min=1, help="Draws of Thompson's propensities.")] = 256,
    items: Annotated[int, typer.Option(min=200, max=10**7, help="Items of the catalogue.")] = 1_700,
    seconds: Annotated[float, typer.Option(min=0, help="Of each policy and batch.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder for policy.json and the graph.")] = Path("build/bench"),
) -> None:
    """Measure each policy's slates and rewards a second, and its time as a share of the scoring graph's.

    The graph is the ranker's own with random weights and 200 candidates; graph and policy run in turn, on
    one thread. Every policy has learned from 20,000 random impressions; diverse-softmax has all its rules.

    slatestream bench policy
    """
    console = Console()
    say = speaker(console)
    names = [name.strip() for name in policies.split(",")]
    if not set(names) <= set(POLICIES):
        raise ConfigurationError(f"--policies must be among {', '.join(POLICIES)}, got {policies!r}")
    sizes = _sizes(batches)
    with clean_exit(console):
        say(machine())
        graph = Graph(out, features=features, items=items)
        found: list[Figures] = []
        made = {size: graph.batch(size) for size in sizes}
        for name in names:
            policy, rewards_per_s = learned(name, features, samples)
            for score, candidates in made.values():
                found.append(measure(policy, rewards_per_s, score, candidates, k, seconds))
        title = f"{k} of 200 candidates with {features} features, {samples} samples, {items:,} items scored"
        columns = ("policy", "batch", "policy ms", "graph ms", "ratio", "slates/s", "rewards/s")
        print_table(console, title, columns, [tuple(asdict(one).values()) for one in found])
        options = {"features": features, "k": k, "samples": samples, "items": items}
        write_report(out / "policy.json", {**options, "policies": [asdict(one) for one in found]}, say)


def _sizes(batches: str) -> Sequence[int]:
    parts = [part.strip() for part in batches.split(",")]
    if not all(part.isdigit() and int(part) >= 1 for part in parts):
        raise ConfigurationError(
            f"--batches must be whole numbers from 1 on, comma-separated, got {batches!r}"
        )
    return [int(part) for part in parts]
