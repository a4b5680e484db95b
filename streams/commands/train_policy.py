"""`slatestream train --task policy`: a policy learned from `feedback`, released like a model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from streams.commands.stages import show_stages
from streams.errors import SlatestreamError
from streams.settings import Settings

if TYPE_CHECKING:
    from online_learning.rl.learner import Learner
    from online_learning.rl.steps import Steps
    from streams.commands.feedback_log import FeedbackLog
    from streams.ope.estimates import Verdict

_PANEL = "Task policy"
FeedbackFile = Annotated[
    Path | None,
    typer.Option("--feedback", help="File with a `feedback` record a line.", rich_help_panel=_PANEL),
]
Algorithm = Annotated[
    Literal["reinforce", "ppo", "dqn", "sarsa"],
    typer.Option(help="How the policy is learned.", rich_help_panel=_PANEL),
]
SessionGap = Annotated[
    float,
    typer.Option(min=0.001, help="Minutes without a slate that end a session.", rich_help_panel=_PANEL),
]
HeldOut = Annotated[
    float,
    typer.Option(
        min=0.05, max=0.5, help="Latest share of the slates, to measure on.", rich_help_panel=_PANEL
    ),
]

MIN_SLATES = 50
"""Slates below which nothing is learned."""
BATCH = 64
"""Slates of a gradient step: a log is small, and has to do for many of them."""
METRICS, PICTURE = "metrics.json", "learning-curve.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """Options of a policy's training."""

    file: Path | None
    out: Path
    algorithm: str
    epochs: int
    seed: int
    device: str
    gap_minutes: float
    held_out: float


def train_policy(options: PolicyOptions, settings: Settings) -> None:
    """Learn from logged slates, measure on the latest of them, and write a policy release.

    Only what was shown has features in the log, so only that is compared: nothing is learned of an item from
    values that the log does not hold.

    Raises
    ------
    SlatestreamError
        If the log or an option will not do; the message says why.
    """
    try:
        _train(options, settings, Console(stderr=True))
    except ValueError as error:
        raise SlatestreamError(f"train --task policy: {error}") from error


def _train(options: PolicyOptions, settings: Settings, console: Console) -> None:
    import torch

    from online_learning.policies.policy_release import PolicyRelease
    from online_learning.rl.learners import create_learner
    from streams.commands.feedback_log import read_feedback

    torch.set_num_threads(1)  # networks this small are slower with more

    gap_ms = max(1, int(60_000 * options.gap_minutes))
    with show_stages(console) as stages:
        with stages.stage("Reading feedback"):
            log = read_feedback(settings, options.file)
        if len(log) < MIN_SLATES:
            raise ValueError(f"feedback must hold at least {MIN_SLATES} slates of one model, got {len(log)}")
        split = int((1.0 - options.held_out) * len(log))
        learned_from = log.steps(slice(0, split), gap_ms=gap_ms)
        later = log.steps(slice(split, len(log)), gap_ms=gap_ms)
        learner = create_learner(
            options.algorithm,
            log.features.shape[2],
            seed=options.seed,
            device=options.device,
            passes=1,
            batch_size=BATCH,
        )
        history: list[dict[str, float]] = []
        for epoch in range(options.epochs):
            losses = learner.learn(learned_from)
            history.append({**losses, "held_out": _value(learner, later)})
            stages.report("train", (epoch + 1) / options.epochs)
    verdicts = _judge(learner, log, later, split, options.seed)
    training = {
        "slates": [split, len(log) - split],
        "sessions": int((learned_from.following < 0).sum()),
        "session_gap_ms": gap_ms,
        "seed": options.seed,
        "epochs": history,
        "logging_policies": sorted(set(log.policies.tolist())),
        "left_out": log.left_out,
        "held_out": [_as_json(verdict) for verdict in verdicts],
    }
    release = PolicyRelease(
        learner.policy().scorer, learner.temperature, options.algorithm, log.model_version, training
    )
    version = release.write(options.out)
    (options.out / METRICS).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
    _plot(options.out / PICTURE, history, float(later.totals.mean()))
    _show(log, training, verdicts, console)
    console.print(
        f"Policy {version} of model {log.model_version} in {options.out}; serve it with "
        f"SLATESTREAM_POLICY=rl SLATESTREAM_POLICY_RELEASE={options.out}",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def _value(learner: "Learner", later: "Steps") -> float:
    """Return the self-normalised estimate of a slate's reward, each position weighted by itself."""
    weights = learner.propensities(later, temperature=learner.temperature)
    weights = np.divide(weights, later.propensities, out=np.zeros_like(weights), where=later.shown)
    earned = (weights * np.where(later.shown, later.rewards, 0.0)).sum(axis=0)
    share = later.shown.mean(axis=0)
    return float((share * earned / np.maximum(weights.sum(axis=0), 1e-12)).sum())


def _judge(learner: "Learner", log: "FeedbackLog", later: "Steps", split: int, seed: int) -> "list[Verdict]":
    from streams.ope.estimates import Sampling, judge
    from streams.ope.log import Columns

    target = np.where(later.shown, learner.propensities(later, temperature=learner.temperature), 1.0)
    columns = Columns(
        rewards=np.where(later.shown, later.rewards, 0.0).astype(np.float64),
        shown=later.shown,
        propensities=np.where(later.shown, later.propensities, 1.0).astype(np.float64),
        candidates={"rl": target},
        users=log.users[split:],
        policies=log.policies[split:],
        estimated=np.ones(len(later), np.bool_),
    )
    return judge(columns, sampling=Sampling(seed=seed))


def _as_json(verdict: "Verdict") -> dict[str, Any]:
    value = verdict.estimate
    return {
        "policy": verdict.policy,
        "estimator": verdict.estimator,
        "value": None if value is None else value.value,
        "low": None if value is None else value.low,
        "high": None if value is None else value.high,
        "effective_size": verdict.effective_size,
        "refused": verdict.reason,
    }


def _show(log: "FeedbackLog", training: dict[str, Any], verdicts: "list[Verdict]", console: Console) -> None:
    learned, held_out = training["slates"]
    table = Table(title=f"Reward of a slate, on the latest {held_out:,} slates", title_justify="left")
    for column in ("policy", "estimate", "95 %", "effective slates"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for verdict in verdicts:
        value = verdict.estimate
        name = "as served" if verdict.policy != "rl" else "learned"
        size = "-" if verdict.effective_size is None else f"{verdict.effective_size:,.0f}"
        if value is None:
            table.add_row(name, "refused", verdict.reason or "", size)
        else:
            table.add_row(name, f"{value.value:.4f}", f"{value.low:.4f} .. {value.high:.4f}", size)
    console.print(table)
    console.print(
        f"Learned from {learned:,} slates in {training['sessions']:,} sessions, logged by "
        f"{', '.join(training['logging_policies'])}; left out: {log.left_out or 'none'}. The estimate of the "
        "learned policy is approximate: what was not shown is guessed from what was.",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def _plot(path: Path, history: list[dict[str, float]], served: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    for name in history[0]:
        if name != "held_out":
            left.plot(epochs, [epoch[name] for epoch in history], "o-", markersize=3, label=name)
    right.plot(
        epochs, [epoch["held_out"] for epoch in history], "o-", markersize=3, color="#1b7f4b", label="learned"
    )
    right.axhline(served, color="#999999", linestyle="--", label="as served")
    left.set(title="Learning", xlabel="epoch")
    right.set(title="Reward of a held-out slate (estimate)", xlabel="epoch")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path)
