"""A report on an experiment as a table and as a picture."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from online_learning.experiments.summary import GUARDRAILS, summarise
from streams.experiments.definition import Experiment
from streams.experiments.log import ExperimentLog
from streams.experiments.report import Report, VariantReport, preference_of

LOOKS = 60
COLOURS = ("#1b7f4b", "#c26a1b", "#2a5da8", "#8a3d8f", "#b8232f", "#0f7c85", "#5b5b00")


def duration(ms: int) -> str:
    """Return a duration in its two largest units."""
    seconds = ms // 1000
    for unit, size, below, smaller in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {below}"
    return f"{seconds} s"


def show(report: Report, console: Console) -> None:
    """Print a report."""
    experiment = report.experiment
    state = "running for" if experiment.running else "stopped; ran for"
    segment = "" if experiment.segment is None else f", users with {experiment.segment}"
    console.print(
        escape(
            f"{experiment.name} ({experiment.kind}), {state} {duration(report.ran_ms)}, share "
            f"{experiment.share:g}{segment}: {report.users:,} users, {report.slates:,} slates"
        ),
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    columns = ("variant", "policy", "users", "slates", "responses", "a closed slate", "reward a user")
    table = Table(title_justify="left")
    for name in (*columns, "to the control", f"always-valid {1 - experiment.alpha:.0%}", *GUARDRAILS):
        table.add_column(name, justify="left" if name in ("variant", "policy") else "right", overflow="fold")
    for one in report.variants:
        table.add_row(*_cells(one))
    console.print(table)
    if report.preference is not None:
        found = report.preference
        control, variant = (one.name for one in experiment.variants)
        console.print(
            escape(
                f"slates that speak for {control}: {found.control:,}, for {variant}: {found.variant:,}, for "
                f"neither: {found.undecided:,}"
            ),
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    if report.sample_ratio_p is not None:
        console.print(f"sample ratio: p = {report.sample_ratio_p:.3g}, always valid", highlight=False)
    for alarm in report.alarms:
        console.print(f"[bold red]alarm[/] {escape(alarm)}", soft_wrap=True, highlight=False)
    console.print(escape(report.verdict), soft_wrap=True, highlight=False)


def _cells(one: VariantReport) -> Iterator[str]:
    rate = one.responses / one.closed if one.closed else 0.0
    yield from (escape(one.name), escape(one.policy), f"{one.users:,}", f"{one.slates:,}")
    yield from (f"{one.responses:,.0f}", f"{rate:.4f}", f"{one.reward_per_user:.4f}")
    if one.delta is None or one.low is None or one.high is None:
        yield from ("", "")
    else:
        finite = np.isfinite(one.low)
        yield f"{one.delta:+.4f}"
        yield f"{one.low:+.4f} .. {one.high:+.4f}" if finite else "unknown"
    for name in GUARDRAILS:
        value = one.guardrails[name]
        text = "-" if np.isnan(value) else f"{value:.4g}"
        yield f"[bold red]{text}[/]" if name in one.broken else text


def as_json(report: Report) -> str:
    """Return a report as JSON; what is not known is null."""
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def plot(experiment: Experiment, log: ExperimentLog, path: Path) -> None:
    """Draw the interval at many looks, from the first slate to the last, as PNG.

    The looks are by slates shown; what a slate earned is taken as it is known by now.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names, looks, bands = trajectory(experiment, log)
    for name, band, colour in zip(names, bands, COLOURS, strict=False):
        known = np.isfinite(band).all(axis=1)
        axes.fill_between(looks[known], band[known, 1], band[known, 2], color=colour, alpha=0.2)
        axes.plot(looks[known], band[known, 0], color=colour, label=name)
    interleaved = experiment.kind == "interleaving"
    axes.axhline(0.5 if interleaved else 0.0, color="#555555", linewidth=1)
    axes.set(
        xlabel="slates",
        ylabel="share of decided slates won" if interleaved else "reward a user, less the control's",
        title=f"{experiment.name}: always-valid {1 - experiment.alpha:.0%} interval",
    )
    axes.grid(alpha=0.3)
    if names:
        axes.legend(loc="best", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def trajectory(experiment: Experiment, log: ExperimentLog) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return what was known at each of some looks.

    Returns
    -------
    names : of the variants that are compared with the control
    looks : (n,) int64, slates shown
    bands : (names, n, 3) float64, estimate and the interval's bounds
    """
    names = [variant.name for variant in experiment.variants[1:]]
    if experiment.kind == "interleaving":
        columns, speaks_for = log.interleaved()
    else:
        columns = log.columns()
    looks = np.unique(np.linspace(0, len(columns.users), LOOKS + 1).astype(np.int64)[1:])
    bands = np.empty((len(names), len(looks), 3))
    for number, look in enumerate(looks.tolist()):
        if experiment.kind == "interleaving":
            found = preference_of(columns.closed[:look], speaks_for[:look], alpha=experiment.alpha)
            bands[0, number] = found.rate, found.low, found.high
            continue
        summary = summarise(
            columns.first(look),
            [variant.name for variant in experiment.variants],
            [variant.weight for variant in experiment.variants],
            alpha=experiment.alpha,
            plan=experiment.plan,
        )
        for row, one in enumerate(summary.variants[1:]):
            assert one.difference is not None
            bands[row, number] = one.difference.estimate, one.difference.low, one.difference.high
    return names, looks, bands
