"""A taste that turns into another: what a half-life is worth, and what it costs.

    python -m tests.benchmarks.bandit_drift

A contextual bandit with rewards of 0 and 1: every event, each of 20 candidates has 8 features and is taken
with a probability that is linear in them; at half-time the weights of the features change sign. A policy
learns after every 100 events. What counts is the expected reward of what it chose as a share of that of the
best candidate. A policy has recovered where that share, over 1,000 events, is back at 90 %. Intervals are
95 % over seeds (Student's t). The picture goes to build/bandit_drift.png.
"""

import platform
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from scipy.stats import t as student

from online_learning.policies.registry import Learning, create_policy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.benchmarks.inputs import faults_told

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

DIM, N_CANDIDATES, BATCH, WINDOW, GOAL = 8, 20, 100, 1_000, 0.9
POLICIES = ("thompson", "thompson-logistic", "linucb")


def tastes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights before and after: a constant that stays, and the rest with its sign changed."""
    weights = rng.normal(size=DIM)
    weights[0] = 0.0
    weights *= 0.12 / np.linalg.norm(weights)
    weights[0] = 0.3
    after = -weights
    after[0] = 0.3
    return weights, after


def shares(policy_name: str, half_life: int | None, seed: int, events: int) -> np.ndarray:
    """Expected reward of the choices as a share of the best, by batch: (events // BATCH,)."""
    rng = np.random.default_rng(seed)
    before, after = tastes(rng)
    prior = LinearPrior(np.array([0.3] + [0.0] * (DIM - 1)), precision=10.0)
    policy = create_policy(policy_name, prior, half_life_ms=half_life, exploration=0.3, propensity_samples=1)
    statistics = Learning.of(policy_name, prior, half_life_ms=half_life).empty()
    k = np.ones(BATCH, np.int64)
    found = np.zeros(events // BATCH)
    for number in range(len(found)):
        truth = before if number < len(found) // 2 else after
        features = rng.normal(size=(BATCH, N_CANDIDATES, DIM)).astype(np.float32)
        features[..., 0] = 1.0
        chance = np.clip(features @ truth, 0.01, 0.99)
        seeds = rng.integers(0, 2**63, BATCH).astype(np.uint64)
        luck = rng.random(BATCH)
        candidates = Candidates(chance.astype(np.float32), features, np.ones(chance.shape, bool))
        index = policy.select(candidates, k=k, seeds=seeds).index[:, 0]
        rows = np.arange(BATCH)
        shown, gained = features[rows, index], chance[rows, index]
        times = number * BATCH + rows  # forgetting by count: an event is a unit of time
        taken = luck < gained
        statistics.add_impressions(shown, times_ms=times)
        statistics.add_rewards(shown[taken], np.ones(taken.sum()), times_ms=times[taken])
        if hasattr(statistics, "develop_at"):
            statistics.develop_at(policy.weights)
        policy.update(statistics)
        found[number] = gained.sum() / chance.max(axis=1).sum()
    return found


def recovery(share: np.ndarray) -> float:
    """Events from the change until a window of WINDOW events is at GOAL; infinite if that never happens."""
    after = share[len(share) // 2 :]
    width = WINDOW // BATCH
    moving = np.convolve(after, np.full(width, 1.0 / width), "valid")
    at = np.flatnonzero(moving >= GOAL)
    return float((at[0] + width) * BATCH) if len(at) else np.inf


def interval(values: np.ndarray) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} +- {half:.3f}"


def report(name: str, runs: np.ndarray) -> None:
    middle, width = runs.shape[1] // 2, WINDOW // BATCH
    events = np.array([recovery(run) for run in runs])
    back = int(np.isfinite(events).sum())
    when = f"{np.median(events):,.0f} (latest {events.max():,.0f})" if back == len(runs) else "-"
    print(
        f"{name:>34}   {interval(runs[:, middle - width : middle].mean(axis=1))}   "
        f"{interval(runs[:, middle : middle + 2 * width].mean(axis=1))}   "
        f"{interval(runs[:, -width:].mean(axis=1))}   {back:>2} of {len(runs)}   {when}"
    )


def picture(found: dict[str, np.ndarray], out: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(9, 5))
    width = WINDOW // BATCH
    for name, runs in found.items():
        moving = np.array([np.convolve(run, np.full(width, 1.0 / width), "valid") for run in runs])
        events = (np.arange(moving.shape[1]) + width) * BATCH
        mean = moving.mean(axis=0)
        half = student.ppf(0.975, len(runs) - 1) * moving.std(axis=0, ddof=1) / np.sqrt(len(runs))
        style = "-" if "half-life" in name else "--"
        (line,) = axes.plot(events, mean, style, label=name)
        axes.fill_between(events, mean - half, mean + half, color=line.get_color(), alpha=0.2)
    axes.axhline(GOAL, color="grey", linewidth=0.8)
    axes.set(xlabel="events", ylabel=f"share of the best expected reward, over {WINDOW:,} events")
    axes.legend(fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def main(
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.")] = 20,
    events: Annotated[int, typer.Option(help="Events; the taste changes in the middle.")] = 24_000,
    half_life: Annotated[int, typer.Option(help="Events after which one weighs half.")] = 1_500,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("build/bandit_drift.png"),
) -> None:
    """Compare policies that forget with the same that do not."""
    print(f"{__doc__.splitlines()[0]}\n{events:,} events, seeds 0 to {seeds - 1}; {platform.machine()}")
    print(f"{'':>34}   before           next {2 * WINDOW:,}       last {WINDOW:,}       recovered  events")
    found = {}
    for name in (*POLICIES, "random"):
        for limit in (None, half_life) if name != "random" else (None,):
            label = name if limit is None else f"{name}, half-life {limit:,}"
            found[label] = np.array([shares(name, limit, seed, events) for seed in range(seeds)])
            report(label, found[label])
    picture(found, out)
    print(f"picture: {out}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
