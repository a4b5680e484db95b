"""Report of an evaluation: as a table, as JSON, and in words where it was refused."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.ope.estimates import LEVEL, LIVE, Sampling, Value, Verdict, judge, measured, remedy
from streams.ope.log import Columns, Reward, SlateLog

UNITS = {"responses": "responses a slate", "weights": "reward a slate, in action weights"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of records by what became of them.

    Attributes
    ----------
    repeated : that took the place of an earlier one of the same request
    without_propensities : slates that can be measured and say nothing of other policies
    estimated : slates whose propensities are estimates
    first_malformed : why the first malformed record was
    """

    read: int
    repeated: int
    malformed: dict[str, int]
    first_malformed: str | None
    slates: int
    users: int
    without_propensities: int
    estimated: int


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation of some slates.

    Attributes
    ----------
    measured : slates and reward of a slate as served, under `LIVE` and of each policy that served
    """

    reward: Reward
    positions: int
    counts: Counts
    measured: dict[str, tuple[int, Value]]
    verdicts: list[Verdict]

    def live(self) -> Value | None:
        """Reward of a slate as it was measured; None without slates."""
        return self.measured[LIVE][1] if LIVE in self.measured else None


def count(log: SlateLog, columns: Columns) -> Counts:
    """Return what became of the records that a log has read."""
    return Counts(
        read=log.read,
        repeated=log.repeated,
        malformed=dict(log.malformed),
        first_malformed=log.first_malformed,
        slates=len(columns),
        users=len(set(columns.users.tolist())),
        without_propensities=columns.without_propensities,
        estimated=int(columns.estimated.sum()),
    )


def evaluate_columns(
    columns: Columns,
    counts: Counts,
    reward: Reward,
    estimators: Sequence[str],
    sampling: Sampling,
    positions: int | None,
) -> Report:
    """Return the report on the slates' first `positions`, None for all."""
    if positions is not None:
        columns = columns.first(positions)
    return Report(
        reward,
        columns.rewards.shape[1],
        counts,
        measured(columns, sampling),
        judge(columns, estimators, sampling),
    )


def table(report: Report) -> Group:
    """Draw a report."""
    what = Table(title=f"Off-policy evaluation: {UNITS[report.reward]}", title_justify="left")
    what.add_column("policy", overflow="fold")
    what.add_column("by")
    for name in ("slates", "effective", "value", "95 % interval"):
        what.add_column(name, justify="right", no_wrap=True)
    for name, (slates, value) in report.measured.items():
        if name == LIVE or len(report.measured) > 2:
            label = "live" if name == LIVE else f"served by {name}"
            what.add_row(escape(label), "measured", f"{slates:,}", "", *_cells(value), style="bold")
    what.add_section()
    for one in report.verdicts:
        size = "" if one.effective_size is None else f"{one.effective_size:,.0f}"
        cells = _cells(one.estimate) if one.estimate is not None else ("refused", one.refused)
        what.add_row(escape(one.policy), one.estimator, f"{one.slates:,}", size, *cells)
    return Group(what, *(Text(line) for line in notes(report)))


def _cells(value: Value) -> tuple[str, str]:
    return f"{value.value:.4f}", f"{value.low:.4f} .. {value.high:.4f}"


def notes(report: Report) -> list[str]:
    """Say what the figures rest on, why estimates were refused, and what can be done instead."""
    counts = report.counts
    lines = [
        f"{counts.slates:,} slates of {counts.users:,} users, up to {report.positions} positions; "
        "intervals draw users"
    ]
    for one in report.verdicts:
        if one.refused:
            lines.append(f"refused {one.policy} by {one.estimator}: {one.reason}; instead: {remedy(one)}")
    if counts.slates and all(one.policy == LIVE for one in report.verdicts):
        lines.append(
            "no candidate is in the log: set `candidate_policies` for the worker, and it logs with each "
            "slate how probable that would be under each of them"
        )
    if counts.without_propensities:
        lines.append(f"{counts.without_propensities:,} slates carry no propensities: only measured")
    if counts.estimated:
        lines.append(
            f"{counts.estimated:,} slates were served with estimated propensities: their weights carry the "
            "noise of the samples, and over many positions some bias"
        )
    if bad := sum(counts.malformed.values()):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(counts.malformed.items()))
        lines.append(
            f"{bad:,} of {counts.read:,} records left out ({reasons}); first: {counts.first_malformed}"
        )
    return lines


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print(table(report), highlight=False)


def as_json(report: Report, sampling: Sampling) -> dict[str, Any]:
    """Return a report and how its intervals were drawn as plain values."""
    return {
        "reward": report.reward,
        "unit": UNITS[report.reward],
        "positions": report.positions,
        "records": asdict(report.counts),
        "bootstrap": {"resamples": sampling.resamples, "seed": sampling.seed, "level": LEVEL, "by": "user"},
        "measured": {
            name: {"slates": slates} | asdict(value) for name, (slates, value) in report.measured.items()
        },
        "verdicts": [
            asdict(one) | {"instead": remedy(one) if one.refused else ""} for one in report.verdicts
        ],
    }
