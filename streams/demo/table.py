"""Display of a running demo: a live table on a terminal, a line now and then elsewhere."""

import asyncio
import time
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.demo.arms import ARMS, Rate, quantiles_ms
from streams.demo.users import Simulation

REFRESH_S = 1.0
LINE_S = 5.0
WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a simulation at one moment.

    events_per_s and slates_per_s are over the last seconds, the latencies over the last slates.
    """

    elapsed_s: float
    events_per_s: float
    slates_per_s: float
    p50_ms: float
    p99_ms: float
    visits: int
    lost: int
    rates: dict[str, Rate]
    dead_letters: int
    model_version: str
    policy: str
    policy_version: int


class Watch:
    """Takes snapshots of a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._began = time.perf_counter()
        self._history: list[tuple[float, int, int]] = [(0.0, simulation.client.sent, 0)]

    def look(self) -> Snapshot:
        """Take a snapshot now."""
        simulation = self._simulation
        elapsed = time.perf_counter() - self._began
        self._history.append((elapsed, simulation.client.sent, len(simulation.latencies_s)))
        while len(self._history) > 2 and self._history[1][0] < elapsed - WINDOW_S:
            self._history.pop(0)
        then, sent, answered = self._history[0]
        span = max(elapsed - then, 1e-9)
        recent = len(simulation.latencies_s) - answered
        latency = quantiles_ms(simulation.latencies_s[-max(recent, 1) :])
        return Snapshot(
            elapsed_s=elapsed,
            events_per_s=(simulation.client.sent - sent) / span,
            slates_per_s=recent / span,
            p50_ms=latency["p50_ms"],
            p99_ms=latency["p99_ms"],
            visits=simulation.asked,
            lost=simulation.lost,
            # Few resamples: the event loop that draws this also measures latencies.
            rates=simulation.visits.rates(seed=0, resamples=100),
            dead_letters=sum(simulation.client.dead_letters.values()),
            model_version=simulation.model_version,
            policy=simulation.policy,
            policy_version=simulation.policy_version,
        )


def live_table(shot: Snapshot, *, seconds: float) -> Group:
    """Draw a snapshot for a terminal."""
    arms = Table(title_justify="left", title="Click-through of the same visits")
    arms.add_column("arm")
    arms.add_column("clicks per item shown", justify="right")
    arms.add_column("95 % interval", justify="right")
    arms.add_column("")
    best = max(rate.value for rate in shot.rates.values()) or 1.0
    for arm in ARMS:
        rate = shot.rates[arm]
        bar = Text("█" * round(30 * rate.value / best), "green" if arm == "policy" else "dim")
        arms.add_row(arm, f"{rate.value:.4f}", f"{rate.low:.4f} .. {rate.high:.4f}", bar)
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("time", f"{min(shot.elapsed_s, seconds):.0f} of {seconds:.0f} s"),
        ("events in", f"{shot.events_per_s:,.0f}/s"),
        ("slates out", f"{shot.slates_per_s:,.1f}/s"),
        ("request to slate", f"p50 {shot.p50_ms:.1f} ms, p99 {shot.p99_ms:.1f} ms"),
        ("visits", f"{shot.visits:,} ({shot.lost} without an answer)"),
        ("dead letters", f"{shot.dead_letters:,}"),
        ("model", shot.model_version),
        ("policy", f"{shot.policy}, {shot.policy_version:,} updates"),
    ):
        facts.add_row(name, value)
    return Group(facts, arms)


def line(shot: Snapshot) -> str:
    """Write a snapshot in one line."""
    arms = "  ".join(f"{arm} {shot.rates[arm].value:.4f}" for arm in ARMS)
    return (
        f"{shot.elapsed_s:5.0f} s  {shot.events_per_s:6,.0f} events/s  {shot.slates_per_s:6.1f} slates/s  "
        f"p50 {shot.p50_ms:.1f} ms  p99 {shot.p99_ms:.1f} ms  click-through: {arms}  "
        f"lost {shot.lost}  dead letters {shot.dead_letters}  model {shot.model_version}  "
        f"policy {shot.policy} {shot.policy_version}"
    )


async def show(simulation: Simulation, console: Console, *, seconds: float) -> None:
    """Show a simulation until cancelled."""
    watch = Watch(simulation)
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_S)
            console.print(line(watch.look()), soft_wrap=True)
    with Live(live_table(watch.look(), seconds=seconds), console=console, auto_refresh=False) as live:
        try:
            while True:
                await asyncio.sleep(REFRESH_S)
                live.update(live_table(watch.look(), seconds=seconds), refresh=True)
        finally:
            live.update(live_table(watch.look(), seconds=seconds), refresh=True)
