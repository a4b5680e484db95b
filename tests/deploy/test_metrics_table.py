"""The table of metrics is in step with the code, and what others name is in it."""

import re
from pathlib import Path

from deploy.grafana.dashboards import DASHBOARDS
from deploy.metrics import OUTPUT, document
from streams.metrics import Metrics
from streams.ope.live import DESCRIBED
from tests.deploy.live import RULES, selectors

TABLE = OUTPUT.read_text()
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_what_is_committed_is_what_the_code_makes() -> None:
    assert document() == TABLE, "run `make dashboards`"


def test_every_metric_that_is_scraped_is_in_the_table() -> None:
    body, _ = Metrics().render()
    scraped = set(re.findall(r"^# TYPE (\S+)", body.decode(), re.MULTILINE))
    assert len(scraped) > 40
    assert [name for name in scraped | {one.name for one in DESCRIBED} if f"| `{name}` |" not in TABLE] == []


def test_rules_dashboards_and_the_runbook_name_only_metrics_of_the_table() -> None:
    texts = [path.read_text() for path in (*RULES.glob("*.yml"), DEPLOY / "runbook.md")]
    texts += [query for _, panels in DASHBOARDS.values() for panel in panels for query, _ in panel.queries]
    named = {
        re.sub(r"_(bucket|count|sum)$", "", name.partition("{")[0])
        for text in texts
        for name in selectors(text)
        if name.startswith("slatestream_") and ":" not in name
    }
    assert len(named) > 40
    assert [name for name in sorted(named) if f"| `{name}` |" not in TABLE] == []
