"""Rewards of several policies while they learn, in one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import sem
from scipy.stats import t as student

from online_learning.rl.learners import LEARNERS
from online_learning.rl.race import OPTIMUM

COLOURS = {
    "reinforce": "#1b7f4b", "ppo": "#1f5fa8", "dqn": "#8b3fa8", "sarsa": "#c2401b", "thompson": "#777777",
    "linucb": "#b08968", "greedy": "#444444", "random": "#bbbbbb", "popularity": "#c9a227",
    OPTIMUM: "#000000",
}  # fmt: skip


def plot_rewards(
    path: Path, curves: Mapping[str, NDArray[Any]], ends: Mapping[str, float], *, users: int
) -> None:
    """Draw curves, of learners with 95 % intervals over runs, and as diamonds what was measured at the end.

    Parameters
    ----------
    curves : by policy, (runs, rounds) float, mean reward of a user while learning; one run has no interval
    ends : by policy, mean reward of what was learned; that of the myopic optimum is drawn as a line
    users : of a round
    """
    figure = Figure(figsize=(9.0, 5.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, runs in curves.items():
        seen, mean = users * np.arange(1, runs.shape[1] + 1), runs.mean(axis=0)
        colour, style = COLOURS.get(name, "#999999"), "-" if name in LEARNERS else "--"
        axes.plot(seen, mean, style, color=colour, linewidth=1.4, label=name)
        if len(runs) > 1 and name in LEARNERS:
            half = student.ppf(0.975, len(runs) - 1) * sem(runs, axis=0)
            axes.fill_between(seen, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        if name in ends:
            axes.plot(1.03 * seen[-1], ends[name], "D", color=colour, markersize=7)
    if OPTIMUM in ends:
        axes.axhline(ends[OPTIMUM], color=COLOURS[OPTIMUM], linewidth=1, label=f"{OPTIMUM} (knows the truth)")
    axes.set(
        title="Clicks a user over all sessions, while learning; diamonds: measured afterwards, not exploring",
        xlabel="users learned from",
        ylabel="clicks a user",
    )
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    figure.savefig(path)
