"""Long-term reward: deep reinforcement learning beside myopic bandits, on users who tire of what they see.

Users have tastes fitted on ML-100K and come by three times. A genre shown often loses its appeal, and a slate
that the user has had enough of makes them leave: clicks now cost clicks later. Every learner sees the same
nine features, in which the state of satiation is among them, and learns from the same number of users, from
nothing. Then all are measured, without learning further, on users of the same draw.

python -m tests.benchmarks.rl_satiation [--seeds 10] [--without-satiation]
"""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats import sem, ttest_rel, wilcoxon
from scipy.stats import t as student

from online_learning.rl.learners import LEARNERS
from online_learning.rl.race import OPTIMUM, Race
from online_learning.simulator.config import SimulatorConfig
from streams.commands.reward_plot import plot_rewards
from streams.commands.tastes import fit_tastes
from streams.session.machine import machine
from tests.benchmarks.inputs import DataFolder, faults_told, read_data

SATIATION = SimulatorConfig(sessions=3)
CONTROL = replace(SATIATION, satiation=0.0, boredom=0.0)
GRID = (0.0, 0.1, 0.3, 1.0)
"""Exploration of the bandits, chosen for each on the tuning seed."""
TUNING_SEED, TUNING_ROUNDS = 1_000, 5
BANDITS = ("thompson", "linucb", "greedy")
FLOORS = ("random", "popularity")


def run_seed(race: Race, explorations: dict[str, float], *, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the curves, and what was measured on n users, by name."""
    curves: dict[str, Any] = {}
    measured = {OPTIMUM: race.optimum(n)}
    for name in (*LEARNERS, *BANDITS, *FLOORS):
        raced = race.learn(name, exploration=explorations.get(name, 0.0), device="cpu")
        curves[name] = raced.curve
        measured[name] = race.measure(raced.policy, n)
    return curves, {name: played.figures() for name, played in measured.items()}


def tune(race: Race, *, n: int) -> dict[str, float]:
    """Return each bandit's exploration of most reward, of what it learned."""
    best = {}
    for name in ("thompson", "linucb"):
        rewards = [race.measure(race.learn(name, exploration=setting).policy, n).reward for setting in GRID]
        best[name] = GRID[int(np.argmax(rewards))]
    return best


def table(results: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table: reward with its interval over seeds, and paired tests against two rivals."""
    column = {name: np.array([seed[name]["reward"] for seed in results]) for name in results[0]}
    best = max(BANDITS, key=lambda name: column[name].mean())
    lines = [
        "| policy | clicks a user | 95 % | slates a user | regret a slate "
        f"| to {best} | p | to {OPTIMUM} | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(column, key=lambda name: -column[name].mean()):
        values = column[name]
        half = student.ppf(0.975, len(values) - 1) * sem(values)
        other = {part: np.mean([seed[name][part] for seed in results]) for part in ("slates", "regret")}
        rivals = [_against(values, column[rival]) for rival in (best, OPTIMUM)]
        lines.append(
            f"| {name} | {values.mean():.2f} | ± {half:.2f} | {other['slates']:.1f} "
            f"| {other['regret']:.3f} | {' | '.join(rivals)} |"
        )  # fmt: skip
    return lines


def _against(values: np.ndarray, rival: np.ndarray) -> str:
    if np.array_equal(values, rival):
        return "| "
    p = ttest_rel(values, rival).pvalue
    rank = wilcoxon(values, rival).pvalue
    return f"{values.mean() / rival.mean() - 1:+.1%} | {p:.1g} (rank {rank:.1g})"


def _kept(path: Path, protocol: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier run of the same protocol has measured: a run goes on where it was stopped."""
    if path.is_file() and (kept := json.loads(path.read_text()))["protocol"] == protocol:
        return kept
    return {"protocol": protocol, "exploration": {}, "curves": [], "results": []}


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Independent runs.")] = 10,
    users: Annotated[int, typer.Option(min=1, help="Users of a round of learning.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of learning.")] = 25,
    measured: Annotated[int, typer.Option(min=1, help="Users that all are measured on.")] = 300,
    without_satiation: Annotated[
        bool, typer.Option("--without-satiation", help="A control: clicks now cost nothing later.")
    ] = False,
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and all figures.")] = Path("build"),
) -> None:
    """Measure long-term reward of learners and bandits in the simulator."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    tastes = fit_tastes(read_data(data), seed=0)
    config = CONTROL if without_satiation else SATIATION
    stem = out / ("rl_control" if without_satiation else "rl_satiation")
    out.mkdir(parents=True, exist_ok=True)
    protocol = {"users": users, "rounds": rounds, "measured": measured, "config": asdict(config)}
    kept = _kept(stem.with_suffix(".json"), protocol)
    if not kept["exploration"]:
        race = Race(tastes=tastes, config=config, seed=TUNING_SEED, users=users, rounds=TUNING_ROUNDS)
        kept["exploration"] = tune(race, n=measured)
    print(f"{config}\nexploration of the bandits, of {GRID}: {kept['exploration']}; {machine()}", flush=True)
    runs, results = kept["curves"], kept["results"]
    for seed in range(len(runs), seeds):
        race = Race(tastes=tastes, config=config, seed=seed, users=users, rounds=rounds)
        curves, measurements = run_seed(race, kept["exploration"], n=measured)
        runs.append(curves)
        results.append(measurements)
        rewards = ", ".join(f"{name} {of['reward']:.2f}" for name, of in measurements.items())
        print(f"seed {seed}, {time.perf_counter() - began:.0f} s: {rewards}", flush=True)
        stem.with_suffix(".json").write_text(json.dumps(kept))
    runs, results = runs[:seeds], results[:seeds]
    together = {name: np.array([run[name] for run in runs]) for name in runs[0]}
    ends = {name: float(np.mean([run[name]["reward"] for run in results])) for name in results[0]}
    plot_rewards(stem.with_suffix(".png"), together, ends, users=users)
    print("\n".join(table(results)))
    print(
        f"picture in {stem}.png; {seeds} seeds, {users * rounds} users learned from, {measured} measured on"
    )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
