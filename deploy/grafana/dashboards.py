"""Grafana's dashboards as code: `make dashboards` writes them to deploy/grafana/dashboards/.

Their panels are in deploy/grafana/boards/; how a panel looks is the same for all.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as model
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)

from deploy.grafana.boards.kafka import KAFKA
from deploy.grafana.boards.learning import LEARNING
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.pipeline import PIPELINE
from deploy.grafana.boards.releases import RELEASES
from deploy.grafana.boards.serving import SERVING
from deploy.grafana.panel import Panel

OUTPUT = Path(__file__).parent / "dashboards"
DATASOURCE = DataSourceRef("prometheus", "slatestream-prometheus")  # its uid in datasource.yml

TEXT = {"numbers": model.BigValueTextMode.AUTO, "names": model.BigValueTextMode.NAME}

DASHBOARDS = {
    "overview": ("Overview", OVERVIEW),
    "pipeline": ("Pipeline", PIPELINE),
    "serving": ("Serving", SERVING),
    "learning": ("Learning", LEARNING),
    "releases": ("Releases", RELEASES),
    "kafka": ("Kafka", KAFKA),
}
"""Title and panels by the end of a dashboard's uid."""


def rows(panels: Iterable[Panel]) -> None:
    """Refuse panels that leave holes: Grafana's grid has 24 columns."""
    used = 0
    for panel in panels:
        if used + panel.width > 24:
            raise ValueError(f"{panel.title!r} must end its row at column 24, got {used + panel.width}")
        used = (used + panel.width) % 24


def as_grafana(name: str) -> str:
    """JSON of a dashboard."""
    title, panels = DASHBOARDS[name]
    rows(panels)
    built = (
        dashboard.Dashboard(f"slatestream: {title}")
        .uid(f"slatestream-{name}")
        .tags(["slatestream"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("slatestream")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["slatestream"])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for number, panel in enumerate(panels, start=1):
        built.with_panel(_panel(panel, number))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _panel(panel: Panel, number: int) -> stat.Panel | timeseries.Panel:
    shown: stat.Panel | timeseries.Panel
    if panel.shows != "lines":
        shown = (
            stat.Panel()
            .graph_mode(model.BigValueGraphMode.AREA)
            .text_mode(TEXT[panel.shows])
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .height(5 if panel.shows == "numbers" else 8)
        )
    else:
        shown = (
            timeseries.Panel()
            .legend(
                common.VizLegendOptions()
                .display_mode(model.LegendDisplayMode.LIST)
                .placement(model.LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(model.TooltipDisplayMode.MULTI))
            .fill_opacity(8)
            .line_width(1)
            .axis_soft_min(0)
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
            .height(8)
        )
    shown.id(number).title(panel.title).description(panel.about).unit(panel.unit).span(panel.width)
    shown.datasource(DATASOURCE).thresholds(
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value, colour) for value, colour in panel.levels])
    )
    for letter, (query, legend) in zip("ABCDEF", panel.queries, strict=False):
        shown.with_target(
            prometheus.Dataquery().expr(query).legend_format(legend).ref_id(letter).datasource(DATASOURCE)
        )
    return shown


def write(folder: Path = OUTPUT) -> None:
    """Write every dashboard."""
    for name in DASHBOARDS:
        (folder / f"{name}.json").write_text(as_grafana(name))


if __name__ == "__main__":
    write()
