"""Cumulative regret on simulated contextual bandits: our policies beside mab2rec, obp and river.

    python -m tests.benchmarks.bandit_regret --peer-python /path/to/venv/bin/python

The environment of the peers is that of `ope_obp.py` with `mab2rec` and `river` installed in addition. 1,000
rounds in batches of 20, ten actions, five normal features and a constant, rewards of 0 and 1 whose
probability is linear or logistic in the features, with weights of each action's own. Ours and the peers see
the same contexts and the same luck. Each learner's exploration is the best of its grid on 20 seeds that
are not used again, but for river's, which is as it comes. Intervals are 95 % over seeds (Student's t).
"""

import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import t as student

from online_learning.policies.registry import Learning, create_policy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.benchmarks.bandit_worlds import DIM, N_ACTIONS, WORLDS, measure
from tests.benchmarks.inputs import faults_told

PEER = Path(__file__).with_name("bandit_regret_peer.py")

# With precision 4 and noise variance 1/4, half of this is the peers' alpha: theirs is 0.05, 0.1, 0.3, 1.
STANDARD = (0.1, 0.2, 0.6, 2.0)

# What is tuned, as the peers' exploration is, and over what.
GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "thompson": ("exploration", STANDARD),
    "thompson-disjoint": ("exploration", STANDARD),
    "thompson-logistic": ("exploration", (0.1, 0.3, 0.5, 1.0)),
    "linucb": ("exploration", STANDARD),
    "linucb-disjoint": ("exploration", STANDARD),
    "linucb-hybrid": ("exploration", STANDARD),
    "softmax": ("temperature", (0.01, 0.02, 0.05, 0.1)),
    "epsilon-greedy": ("epsilon", (0.01, 0.02, 0.05, 0.1)),
    "greedy": ("epsilon", (0.0,)),
    "random": ("epsilon", (0.0,)),
}

# Ours beside those of the peers that are meant to be the same.
KINDS = {
    "ours linucb-disjoint": ("mab2rec LinUCB", "obp LinUCB", "river LinUCBDisjoint"),
    "ours thompson-disjoint": ("mab2rec LinTS", "obp LinTS"),
    "ours thompson-logistic": ("obp LogisticTS",),
    "ours epsilon-greedy": ("mab2rec LinGreedy",),
}


class Learner:
    """A policy, given an action's own features: all of them, or the common ones and which action it is."""

    def __init__(self, name: str, setting: float, seed: int) -> None:
        self.per_arm = Learning.of(name, LinearPrior(np.zeros(1))).kind == "arms"
        weights = np.zeros((1 if self.per_arm else N_ACTIONS, 1 + DIM))
        if name == "thompson-logistic":
            weights[:, 0] = 0.5  # log-odds of 0; the others start at a reward of 0, as the peers do
        # precision x noise variance is the peers' ridge parameter, 1
        prior = LinearPrior(weights.ravel(), precision=1.0 if name == "thompson-logistic" else 4.0)
        self.policy = create_policy(name, prior, propensity_samples=1, **{GRIDS[name][0]: setting})
        self.statistics = Learning.of(name, prior).empty()
        self.rng = np.random.default_rng([seed, 7])

    def choose(self, contexts: np.ndarray) -> np.ndarray:
        n = len(contexts)
        # In any order, so that equal candidates are not always taken in the same one.
        actions = self.rng.permuted(np.tile(np.arange(N_ACTIONS), (n, 1)), axis=1)
        features = self.features(np.repeat(contexts, N_ACTIONS, axis=0), actions.ravel())
        features = features.reshape(n, N_ACTIONS, -1).astype(np.float32)
        shape = (n, N_ACTIONS)
        candidates = Candidates(
            np.zeros(shape, np.float32), features, np.ones(shape, bool), actions.astype(np.uint64)
        )
        seeds = self.rng.integers(0, 2**63, n).astype(np.uint64)
        index = self.policy.select(candidates, k=np.ones(n, np.int64), seeds=seeds).index[:, 0]
        return actions[np.arange(n), index]

    def learn(self, contexts: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        features, arms = self.features(contexts, actions), actions.astype(np.uint64)
        self.statistics.add_impressions(features, arms=arms)
        self.statistics.add_rewards(features, rewards, arms=arms)
        if hasattr(self.statistics, "develop_at"):
            self.statistics.develop_at(self.policy.weights)
        self.policy.update(self.statistics)

    def features(self, contexts: np.ndarray, actions: np.ndarray) -> np.ndarray:
        if self.per_arm:
            return contexts
        return (np.eye(N_ACTIONS)[actions][:, :, None] * contexts[:, None]).reshape(len(contexts), -1)


def peers(python: str, seeds: int) -> "subprocess.Popen[str]":
    out = Path(tempfile.mkdtemp()) / "peers.npz"
    command = [python, str(PEER), str(out), str(seeds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def peers_found(process: "subprocess.Popen[str]") -> dict[str, np.ndarray]:
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the peers failed: {process.args}\n{errors[-2000:]}")
    with np.load(process.args[2]) as results:  # type: ignore[index]
        return dict(results)


def interval(values: np.ndarray) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():6.1f} +- {half:4.1f}"


def table(world: str, runs: dict[str, tuple[float, np.ndarray]]) -> None:
    print(f"\n{world} rewards: regret after 250, 500 and 1,000 rounds, best first")
    for name, (setting, lost) in sorted(runs.items(), key=lambda item: item[1][1][:, -1].mean()):
        at = [lost[:, lost.shape[1] * part // 4 - 1] for part in (1, 2, 4)]
        print(f"{name:>24} ({setting:4.2f})   " + "   ".join(interval(values) for values in at))


def verdicts(world: str, runs: dict[str, tuple[float, np.ndarray]]) -> None:
    """Print the regret of ours less that of the best peer, seed by seed: of each kind, and of all."""
    ends = {name: lost[:, -1] for name, (_, lost) in runs.items()}

    def best(names: Iterable[str]) -> str:
        return min(names, key=lambda name: ends[name].mean())

    of_all = best(name for name in ends if name.startswith("ours"))
    pairs = [(own, best(others)) for own, others in KINDS.items()]
    for own, other in [*pairs, (of_all, best(name for name in ends if not name.startswith("ours")))]:
        print(f"{world}: {own} minus {other}: {interval(ends[own] - ends[other])}")


def main(
    peer_python: Annotated[
        str | None, typer.Option(help="Python of an environment with mab2rec, obp and river.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 20,
) -> None:
    """Measure the regret of every policy, and of the peers' at the same time."""
    print(f"{__doc__.splitlines()[0]}\nseeds 0 to {seeds - 1}; {platform.machine()}", flush=True)
    process = None if peer_python is None else peers(peer_python, seeds)
    found: dict[str, dict[str, tuple[float, np.ndarray]]] = {world: {} for world in WORLDS}
    for name, (_, grid) in GRIDS.items():
        measured = measure(lambda setting, seed, name=name: Learner(name, setting, seed), grid, seeds)
        for world, result in measured.items():
            found[world][f"ours {name}"] = result
    if process is not None:
        results = peers_found(process)
        for key in (key for key in results if key.endswith("/regret")):
            world, name, _ = key.split("/")
            found[world][name] = (float(results[f"{world}/{name}/setting"]), results[key])
    for world, runs in found.items():
        table(world, runs)
    if process is None:
        print("skipped: mab2rec, obp and river, for want of --peer-python")
        return
    print()
    for world, runs in found.items():
        verdicts(world, runs)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
