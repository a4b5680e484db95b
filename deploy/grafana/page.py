"""One page with what every panel shows, for whoever has no Grafana at hand.

    python -m deploy.grafana.page http://127.0.0.1:9090 panels.html

asks a Prometheus for each panel's queries and draws the answers with the console's own charts. The page needs
nothing else: no server, no network.
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panel import Panel
from streams.console.rendering import commands, ink
from streams.metrics.tables import POLICIES

MINUTES = 15
POINTS = 300
RATE_INTERVAL = "30s"
# As wide as in Grafana, whose rows have 24 columns, where there is room.
GRID = (
    "@media (min-width: 1000px) { main { max-width: 1600px } .charts.board { grid-template-columns: "
    "repeat(24, minmax(0, 1fr)) } .panel { grid-column: span var(--span) } } .panel dt { flex: 1 1 auto }"
)
STATIC = files("streams.console") / "static"


@dataclass(frozen=True, slots=True)
class Line:
    """A series: what it is called, and its values at the page's times, None where there is none."""

    label: str
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Times:
    """The moments that are drawn, in Unix seconds."""

    start: float
    step: float
    count: int = POINTS + 1

    @classmethod
    def until(cls, end: float, *, minutes: float) -> "Times":
        """Return the last minutes."""
        return cls(end - 60 * minutes, 60 * minutes / POINTS)

    def list(self) -> list[float]:
        """Return each of them."""
        return [self.start + self.step * place for place in range(self.count)]


def legend(template: str, labels: dict[str, str]) -> str:
    """Fill in a legend as Grafana does.

    >>> legend("p99 {{stage}}", {"stage": "fold"})
    'p99 fold'
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def asked(prometheus: str, query: str, times: Times, *, rate_interval: str = RATE_INTERVAL) -> list[Any]:
    """Return what Prometheus answers to a query over a range."""
    parameters = {
        "query": query.replace("$__rate_interval", rate_interval),
        "start": f"{times.start:.3f}",
        "end": f"{times.start + times.step * (times.count - 1):.3f}",
        "step": f"{times.step:.3f}",
    }
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return list(json.loads(answer.read())["data"]["result"])


def lines_of(
    prometheus: str, panel: Panel, times: Times, *, rate_interval: str = RATE_INTERVAL
) -> list[Line]:
    """Return the series of a panel."""
    lines = []
    for query, template in panel.queries:
        for series in asked(prometheus, query, times, rate_interval=rate_interval):
            values: list[float | None] = [None] * times.count
            for at, value in series["values"]:
                place = round((float(at) - times.start) / times.step)
                values[place] = None if value in ("NaN", "+Inf", "-Inf") else float(value)
            lines.append(Line(legend(template, series["metric"]), values))
    return lines


def colour(label: str) -> str | None:
    """Return the colour that a policy has in the console, where a legend begins with one; else None.

    >>> colour("greedy snrips low"), colour("p99 fold")
    ('--ink-2', None)
    """
    name = label.partition(" ")[0]
    return f"--{ink(name)}" if name in POLICIES else None


def _figure(panel: Panel, lines: Sequence[Line]) -> str:
    unit = "name" if panel.shows == "names" else panel.unit
    data = {"unit": unit, "lines": [[line.label, line.values, colour(line.label)] for line in lines]}
    kind = "chart" if panel.shows == "lines" else "stat"
    shown = (
        f'<div data-{kind}="{escape(json.dumps(data))}" role="img" aria-label="{escape(panel.title)}"></div>'
        if any(value is not None for line in lines for value in line.values)
        else '<p class="note">no data</p>'
    )
    return (
        f'<figure class="chart panel" style="--span: {panel.width}">'
        f"<figcaption>{escape(panel.title)}</figcaption>"
        f'<p class="hint">{commands(panel.about)}</p>{shown}</figure>'
    )


def page(prometheus: str, *, minutes: float = MINUTES, rate_interval: str = RATE_INTERVAL) -> str:
    """Return the page as HTML."""
    times = Times.until(time.time(), minutes=minutes)
    boards = []
    for title, panels in DASHBOARDS.values():
        figures = [
            _figure(panel, lines_of(prometheus, panel, times, rate_interval=rate_interval))
            for panel in panels
        ]
        boards.append(
            f'<section><h2>{escape(title)}</h2><div class="charts board">{"".join(figures)}</div></section>'
        )
    vendor = STATIC / "vendor"
    styles = [(STATIC / "console.css").read_text(), (vendor / "uplot-1.6.32.min.css").read_text()]
    scripts = [(vendor / "uplot-1.6.32.min.js").read_text(), (Path(__file__).parent / "page.js").read_text()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Panels · slatestream</title>'
        f"<style>{''.join(styles)}{GRID}</style></head><body><main><h1>Panels</h1>"
        f'<p class="lead">The last {60 * minutes:g} s of {escape(prometheus)}; times are in UTC.</p>'
        f"{''.join(boards)}</main>"
        f'<script type="application/json" id="times">{json.dumps(times.list())}</script>'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>"
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(sys.argv[1].rstrip("/")), encoding="utf-8")
