"""Summary of a demo: figures, and whether they are what the demo promises."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from streams.demo.arms import ARMS, quantiles_ms
from streams.demo.off_policy import agrees, print_off_policy
from streams.demo.users import Simulation

RANDOM_FACTOR = 1.5
STRETCHES = {"whole": (0.0, 1.0), "first_third": (0.0, 1 / 3), "last_third": (2 / 3, 1.0)}


@dataclass(frozen=True, slots=True)
class Check:
    """A promise and whether it was kept."""

    name: str
    passed: bool
    detail: str


def summarise(simulation: Simulation) -> dict[str, Any]:
    """Return the figures of a simulation as plain values.

    Click-through is clicks per item shown. Users run out of items that they like, so every arm's falls
    with time: what learning does shows in the policy's ratio to popularity, first third against last.
    """
    rates = {
        name: simulation.visits.rates(seed=simulation.traffic.seed, first=first, last=last)
        for name, (first, last) in STRETCHES.items()
    }
    return {
        "traffic": asdict(simulation.traffic),
        "visits": {
            "asked": simulation.asked,
            "answered": len(simulation.visits),
            "lost": simulation.lost,
            "users": len(set(simulation.visits.users)),
        },
        "click_through": {
            name: {arm: asdict(rate) for arm, rate in stretch.items()} for name, stretch in rates.items()
        },
        "policy_to_random": _ratio(rates["whole"]["policy"].value, rates["whole"]["random"].value),
        "policy_to_popularity": {
            name: _ratio(stretch["policy"].value, stretch["popularity"].value)
            for name, stretch in rates.items()
        },
        "latency": quantiles_ms(simulation.latencies_s),
        "slates": {
            "short": simulation.short,
            "items_repeated": simulation.repeated,
            "fallbacks": simulation.fallbacks,
        },
        "dead_letters": simulation.client.dead_letters,
        "model_version": simulation.model_version,
        "policy": simulation.policy,
        "policy_version": simulation.policy_version,
    }


def _ratio(value: float, base: float) -> float | None:
    return value / base if base else None


def checks(summary: dict[str, Any]) -> list[Check]:
    """Compare a summary with what the demo promises."""
    visits = summary["visits"]
    rate = {arm: summary["click_through"]["whole"][arm]["value"] for arm in ARMS}
    promises = [
        Check(
            "every request answered",
            visits["asked"] > 0 and visits["answered"] == visits["asked"],
            f"{visits['answered']:,} of {visits['asked']:,}",
        ),
        Check(
            f"policy at least {RANDOM_FACTOR} times random",
            rate["policy"] >= RANDOM_FACTOR * rate["random"] and rate["policy"] > 0,
            f"{rate['policy']:.4f} against {rate['random']:.4f}",
        ),
        Check(
            "policy above popularity",
            rate["policy"] > rate["popularity"],
            f"{rate['policy']:.4f} against {rate['popularity']:.4f}",
        ),
    ]
    if "off_policy" in summary:
        name = "off-policy estimate of the live policy covers the clicks a slate"
        promises.append(Check(name, *agrees(summary["off_policy"])))
    return promises


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Print the figures that a person wants to see at the end."""
    table = Table(title="Clicks per item shown, same visits", title_justify="left")
    for column in ("arm", "whole run", "95 % interval", "first third", "last third"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    through = summary["click_through"]
    for arm in ARMS:
        whole = through["whole"][arm]
        table.add_row(
            arm,
            f"{whole['value']:.4f}",
            f"{whole['low']:.4f} .. {whole['high']:.4f}",
            f"{through['first_third'][arm]['value']:.4f}",
            f"{through['last_third'][arm]['value']:.4f}",
        )
    ratios = [f"{ratio:.2f}" if ratio else "-" for ratio in summary["policy_to_popularity"].values()]
    table.add_row("policy / popularity", ratios[0], "", *ratios[1:])
    console.print(table)
    if "off_policy" in summary:
        print_off_policy(console, summary["off_policy"])
    latency = summary["latency"]
    console.print(
        f"request to slate: p50 {latency['p50_ms']:.1f} ms, p99 {latency['p99_ms']:.1f} ms; "
        f"model {summary['model_version']}; policy {summary['policy']}, {summary['policy_version']} updates; "
        f"dead letters {sum(summary['dead_letters'].values())}",
        soft_wrap=True,
    )
    for check in checks(summary):
        mark = "[green]ok[/]    " if check.passed else "[red]failed[/]"
        console.print(f"{mark} {check.name}: {check.detail}", soft_wrap=True)
