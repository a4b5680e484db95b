"""Off-policy estimates of the demo's log, beside what the simulated users counted."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streams.demo.arms import Visits
from streams.ope.command import read_topic
from streams.ope.estimates import DEFAULT_ESTIMATORS, LIVE, Sampling
from streams.ope.log import SlateLog
from streams.ope.report import as_json, count, evaluate_columns
from streams.settings import Settings

# Short, so that slates close and are fed back while the demo runs: its users click at once or not at all.
ATTRIBUTION_WINDOW_MS = 5_000
CANDIDATES = ("thompson", "greedy", "epsilon-greedy:epsilon=0.1", "random")
"""The first is the policy that serves: its slates are weighed by samples other than those logged."""


async def evaluate_log(settings: Settings, visits: Visits, *, seed: int) -> dict[str, Any]:
    """Return what `feedback` says of every candidate, and the clicks a slate that the users counted.

    The last slates are not in it: their attribution window is still open.
    """
    log = SlateLog(frozenset(settings.positive_actions))
    await read_topic(settings, log.add)
    columns = log.columns()
    sampling = Sampling(seed=seed)
    report = evaluate_columns(columns, count(log, columns), "responses", DEFAULT_ESTIMATORS, sampling, None)
    counted = float(np.mean([clicks[0] for clicks in visits.clicks])) if len(visits) else 0.0
    return as_json(report, sampling) | {"counted": counted}


def agrees(found: dict[str, Any]) -> tuple[bool, str]:
    """Return whether the estimates of the live policy cover what was counted, and all in words.

    Its slates as they were logged must; weighed anew as a candidate's they must too, unless that is refused,
    as after a few seconds, when there is no estimate that could be wrong.
    """
    passed, parts = True, []
    verdicts = {one["policy"]: one for one in found["verdicts"]}
    for policy, how in ((LIVE, "as logged"), (CANDIDATES[0], "weighed anew")):
        one = verdicts.get(policy)
        if one is None or one["estimate"] is None:
            parts.append(f"refused {how} ({one['refused'] if one else 'no_slates'})")
            continue
        value, low, high = (one["estimate"][name] for name in ("value", "low", "high"))
        passed &= low <= found["counted"] <= high
        parts.append(f"{value:.3f} [{low:.3f}, {high:.3f}] {how}")
    return passed, f"{', '.join(parts)}; counted {found['counted']:.3f}"


def print_off_policy(console: Console, found: dict[str, Any]) -> None:
    """Print what every candidate would have earned, from the live policy's log."""
    table = Table(title="Off-policy: clicks a slate of other policies, by the log", title_justify="left")
    for column in ("policy", "estimate", "95 % interval"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for one in found["verdicts"]:
        cells = ("refused", one["refused"])
        if (estimate := one["estimate"]) is not None:
            cells = f"{estimate['value']:.3f}", f"{estimate['low']:.3f} .. {estimate['high']:.3f}"
        else:
            table.caption = "refused: the live policy shows too little of what that one would"
        table.add_row(one["policy"], *cells)
    console.print(table)
