"""A picture of an evaluation: each policy's value with its interval, beside what was measured."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from streams.ope.report import UNITS, Report

COLOURS = ("#1b7f4b", "#c26a1b", "#2a5da8", "#8a3d8f", "#777777", "#b8232f", "#0f7c85", "#5b5b00")


def plot_report(report: Report, path: Path) -> None:
    """Draw a report as PNG; what was refused is written where its value would be."""
    rows = [(one.policy, one.estimator, one) for one in report.verdicts]
    figure = Figure(figsize=(8.0, 1.6 + 0.36 * max(len(rows), 1)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    live = report.live()
    if live is not None:
        axes.axvspan(live.low, live.high, color="#dddddd", label="live, measured")
        axes.axvline(live.value, color="#555555", linewidth=1)
    estimators = list(dict.fromkeys(estimator for _, estimator, _ in rows))
    for height, (_, estimator, one) in enumerate(rows):
        colour = COLOURS[estimators.index(estimator) % len(COLOURS)]
        if one.estimate is None:
            at = 0.0 if live is None else live.value
            axes.annotate(f" refused: {one.refused}", (at, height), color=colour, va="center", fontsize=8)
            continue
        low, high = one.estimate.low, one.estimate.high
        axes.plot([low, high], [height, height], color=colour, linewidth=2)
        axes.plot(one.estimate.value, height, "o", color=colour)
    axes.set_yticks(
        range(len(rows)), [f"{policy} · {estimator}" for policy, estimator, _ in rows], fontsize=8
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(
        xlabel=f"{UNITS[report.reward]}, 95 % intervals by user",
        title=f"Off-policy evaluation of {report.counts.slates:,} slates",
    )
    axes.grid(axis="x", alpha=0.3)
    if live is not None:
        axes.legend(loc="best", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
