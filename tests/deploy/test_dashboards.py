"""What Grafana is given: in step with its source, whole, and named as the runbook names it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboards import DASHBOARDS, OUTPUT, as_grafana, rows
from deploy.grafana.panel import Panel

ROOT = Path(__file__).resolve().parents[2]


def committed(name: str) -> dict[str, Any]:
    return json.loads((OUTPUT / f"{name}.json").read_text())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_is_committed_is_what_the_source_makes(name: str) -> None:
    assert (OUTPUT / f"{name}.json").read_text() == as_grafana(name), "run `make dashboards`"


def test_no_dashboard_is_left_over() -> None:
    assert {path.stem for path in OUTPUT.glob("*.json")} == DASHBOARDS.keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_goes_to_the_datasource_that_is_provisioned(name: str) -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasource.yml").read_text())["datasources"]
    for panel in committed(name)["panels"]:
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": source["type"], "uid": source["uid"]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_side_by_side_and_say_what_they_are_for(name: str) -> None:
    panels = committed(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"].endswith(".")
        assert all(target["legendFormat"] for target in panel["targets"])


def test_a_row_of_panels_that_does_not_fit_is_refused() -> None:
    panel = Panel("Wide", "About.", "s", [], width=16)
    with pytest.raises(ValueError, match="'Wide' must end its row at column 24, got 32"):
        rows([panel, panel])


def test_the_panels_that_the_runbook_leads_to_are_there() -> None:
    titles = {title: [panel.title.lower() for panel in panels] for title, panels in DASHBOARDS.values()}
    text = " ".join((ROOT / "deploy" / "runbook.md").read_text().split())
    named = re.findall(r"\*(Overview|Pipeline|Serving|Learning|Releases|Kafka): ([^*]+)\*", text)
    assert len(named) > 20
    assert [(board, panel) for board, panel in named if panel.lower() not in titles[board]] == []


def test_the_dashboards_are_mounted_where_grafana_looks_for_them() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/provider.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/overview.json"
