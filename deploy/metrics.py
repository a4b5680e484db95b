"""The table of all metrics, from the code: `make dashboards` writes deploy/metrics.md."""

from collections.abc import Iterable
from pathlib import Path

from streams.canary.trips import DESCRIBED as CANARY
from streams.canary.trips import STAGES as TRIP_STAGES
from streams.metrics import REASON_LABELS, Described, Metrics, tables
from streams.ope.live import DESCRIBED as OPE
from streams.trainer.metrics import CAUSES, OUTCOMES
from streams.trainer.metrics import DESCRIBED as TRAINER

OUTPUT = Path(__file__).parent / "metrics.md"


def table(metrics: Iterable[Described]) -> list[str]:
    """Rows of a Markdown table."""
    rows = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    for one in metrics:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {one.text} |")
    return rows


def listed(values: Iterable[object]) -> str:
    """Values as a Markdown list in one line."""
    return ", ".join(f"`{value}`" for value in values)


def seconds(bounds: Iterable[float]) -> str:
    """Upper bounds of buckets in one line."""
    return ", ".join(f"{bound:g}" for bound in bounds)


def document() -> str:
    """Return the whole page."""
    worker = Metrics()
    own = {one.name.removesuffix("_total") for one in worker.described}
    process = [
        Described(
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            (),
            family.documentation,
        )
        for family in worker.registry.collect()
        if family.name not in own
    ]
    lines = [
        "# Metrics", "",
        "Written by `make dashboards` from the code. A worker answers `/metrics` on its HTTP port (6066),",
        "`slatestream ope` on 6067, `slatestream canary` on 6069, `slatestream trainer` on 6071. No label",
        "has users or items as values.", "",
        "## Worker", "", *table(worker.described), "",
        "## Process", "", *table(process), "",
        "## Off-policy evaluation", "", *table(OPE), "",
        "## Canary", "", *table(CANARY), "",
        "## Trainer", "", *table(TRAINER), "",
        "## Values of labels", "",
        "| label | values |", "|---|---|",
        *(f"| `outcome` of `events_total`, `topic=\"{topic}\"` | {listed(values)} |"
          for topic, values in tables.EVENTS.items()),
        f"| `reason` of `dead_letters_total` | {listed(REASON_LABELS)} |",
        f"| `fallback` | {listed(tables.FALLBACKS)} |",
        f"| `policy` | {listed(tables.POLICIES)} |",
        f"| `outcome` of `rewards_total` | {listed(tables.REWARD_OUTCOMES)} |",
        f"| `band` | {listed(f'{band:g}' for band in tables.SCORE_BANDS)} |",
        f"| `position` | `0` to `{tables.POSITIONS - 1}` |",
        *(f"| `status` of `http_requests_total`, `route=\"{route}\"` | {listed(statuses)} |"
          for route, statuses in tables.ROUTES.items()),
        f"| `stage` of `canary_failures_total` | {listed(TRIP_STAGES)} |",
        f"| `outcome` of `release_canaries_total` | {listed(tables.CANARY_OUTCOMES)} |",
        f"| `outcome` of `release_shadowed_total` | {listed(tables.SHADOW_OUTCOMES)} |",
        f"| `outcome` of `trainer_runs_total` | {listed(OUTCOMES)} |",
        f"| `cause` of `trainer_begun_total` | {listed(CAUSES)} |",
        f"| `state` | {listed(tables.BUDGET_STATES)} |",
        f"| `why` of `items_never_offered` | {listed(tables.NEVER_OFFERED)} |",
        f"| `source` | {listed(tables.LOGGERS)} |",
        f"| `level` | {listed(tables.LEVELS)} |", "",
        "## Buckets of stage_seconds", "",
        "| stage | upper bounds in seconds |", "|---|---|",
        *(f"| `{stage}` | {seconds(bounds)} |" for stage, bounds in tables.STAGES.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    OUTPUT.write_text(document())
