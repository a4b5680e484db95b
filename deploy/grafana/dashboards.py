"""Grafana's dashboards as code: `make dashboards` writes them to deploy/grafana/dashboards/.

A panel is what it shows, why one looks at it, its unit and its queries; all the rest is the same for all.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

OUTPUT = Path(__file__).parent / "dashboards"
DATASOURCE = DataSourceRef("prometheus", "slatestream-prometheus")  # its uid in datasource.yml

Query = tuple[str, str]  # PromQL, legend


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes
    ----------
    about : what it tells, for the reader who points at its title
    unit : Grafana's name of it
    levels : value from which on a colour holds, lowest first; only numbers (`stat`) show them
    """

    title: str
    about: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    is_stat: bool = False
    levels: Sequence[tuple[float | None, str]] = ((None, "green"),)


def rate(metric: str, by: str, where: str = "") -> str:
    """PromQL of a counter's rate, summed by some labels."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "le", where: str = "") -> str:
    """PromQL of a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', by, where)})"


def quantiles(histogram: str, where: str, *shares: float) -> list[Query]:
    """Queries for some quantiles of a histogram."""
    return [(quantile(share, histogram, where=where), f"p{100 * share:g}") for share in shares]


def mean(histogram: str, by: str, where: str = "") -> str:
    """PromQL of the mean of a histogram."""
    return f"{rate(f'{histogram}_sum', by, where)} / {rate(f'{histogram}_count', by, where)}"


def ratio(part: str, whole: str, by: str) -> str:
    """PromQL of one counter's share of another."""
    return f"{rate(part, by)} / {rate(whole, by)}"


def of_stage(stage: str) -> str:
    """Matcher of one stage of `slatestream_stage_seconds`."""
    return f'stage="{stage}"'


STAGES = "slatestream_stage_seconds"
BURN = "slatestream:slo_errors:ratio{} / (1 - slatestream:slo_objective)"
RECOMMENDATIONS = 'route="recommendations"'

CLICK_THROUGH = Panel(
    "Click-through",
    "Of the items of slates whose window has ended, how many were responded to, by the policy that chose.",
    "percentunit",
    [(ratio("slatestream_responses_total", "slatestream_impressions_total", "policy"), "{{policy}}")],
)
REQUEST_TO_SLATE = Panel(
    "Request to slate",
    "From a request, on Kafka or HTTP, to its published slate. The service level wants 99 % within 250 ms.",
    "s",
    quantiles(STAGES, of_stage("request_to_publish"), 0.5, 0.9, 0.99),
)
CLICK_TO_FOLD = Panel(
    "Click to fold",
    "From the broker having a click to its being in the state. The service level wants 99 % within 5 s.",
    "s",
    quantiles(STAGES, of_stage("click_to_fold"), 0.5, 0.99),
)
LAG = Panel(
    "Lag in seconds",
    "How long the oldest record that is not processed has been waiting; what is read and not done counts.",
    "s",
    [("max by (topic, partition) (slatestream_lag_seconds)", "{{topic}} {{partition}}")],
)
PARTITIONS = Panel(
    "Partitions",
    "Partitions of each worker; together they are all there are, or some users are served by nobody.",
    "short",
    [("slatestream_assigned_partitions", "{{instance}}")],
)

RELEASE = Panel(
    "Release", "The release of each worker and what runs it; they should be the same.", "short",
    [("slatestream_release_info", "{{instance}}: {{version}} on {{provider}}")], width=12,
)  # fmt: skip
RELEASE_AGE = Panel(
    "Release age", "Since the release in use was written.", "s",
    [("time() - slatestream_release_timestamp_seconds", "{{instance}}")], width=12,
)  # fmt: skip

OVERVIEW = [
    Panel(
        "Error budget left",
        "Of the errors that the objectives allow in 30 days, the share that is left.",
        "percentunit",
        [("slatestream:slo_error_budget:left30d", "{{slo}}")],
        width=12, is_stat=True, levels=((None, "red"), (0.0, "orange"), (0.25, "green")),
    ),
    Panel(
        "Alerts",
        "Alerts that fire now; deploy/runbook.md says what to do.",
        "short",
        [('count(ALERTS{alertstate="firing"}) or vector(0)', "firing")],
        width=4, is_stat=True, levels=((None, "green"), (1.0, "red")),
    ),
    Panel(
        "Workers",
        "Workers that are scraped, and those of them that are ready.",
        "short",
        [('sum(up{job="slatestream"})', "up"), ("sum(slatestream_ready)", "ready")],
        width=8, is_stat=True, levels=((None, "red"), (1.0, "green")),
    ),
    Panel(
        "Burn rate",
        "How many times faster than allowed errors come. 14.4 over 1 h or 6 over 6 h wakes somebody.",
        "short",
        [(BURN.format("1h"), "{{slo}} 1 h"), (BURN.format("6h"), "{{slo}} 6 h")],
    ),
    Panel(
        "Bad events",
        "Share of events that miss their service level, over 5 minutes.",
        "percentunit",
        [("slatestream:slo_errors:ratio5m", "{{slo}}")],
    ),
    Panel(
        "Slates", "Slates published.", "reqps",
        [(rate("slatestream_slates_total", "policy"), "{{policy}}")],
    ),
    REQUEST_TO_SLATE,
    CLICK_TO_FOLD,
    CLICK_THROUGH,
    Panel(
        "Event loop",
        "How late timers wake: every request waits for whatever holds the loop.",
        "s",
        [
            (quantile(0.99, "slatestream_loop_lag_seconds", "le, instance"), "p99 {{instance}}"),
            (quantile(0.999, "slatestream_loop_lag_seconds", "le, instance"), "p99.9 {{instance}}"),
        ],
    ),
    Panel(
        "Resident memory", "Memory of each worker.", "bytes",
        [('process_resident_memory_bytes{job="slatestream"}', "{{instance}}")],
    ),
    Panel(
        "Processor", "Cores that each worker keeps busy.", "short",
        [('rate(process_cpu_seconds_total{job="slatestream"}[$__rate_interval])', "{{instance}}")],
    ),
    RELEASE,
    RELEASE_AGE,
    Panel(
        "Canary round trip", "From a click of `slatestream canary`, where it runs, to its slate, over Kafka.",
        "s", quantiles("slatestream_canary_round_trip_seconds", "", 0.5, 0.99), width=12,
    ),
    Panel(
        "Canary failures", "Its trips that failed, by the stage that they failed at.", "cps",
        [(rate("slatestream_canary_failures_total", "stage"), "{{stage}}"),
         ("sum(rate(slatestream_canary_trips_total[$__rate_interval]))", "all trips")], width=12,
    ),
]  # fmt: skip

PIPELINE = [
    Panel(
        "Events", "Records by topic and what became of them.", "cps",
        [(rate("slatestream_events_total", "topic, outcome"), "{{topic}} {{outcome}}")], width=16,
    ),
    Panel(
        "Dead letters", "Records that cannot be used, by reason; they are in `dead-letters`.", "cps",
        [(rate("slatestream_dead_letters_total", "topic, reason"), "{{topic}} {{reason}}")],
    ),
    LAG,
    Panel(
        "Lag in records", "Records that are not processed.", "short",
        [("sum by (topic) (slatestream_lag_records)", "{{topic}}")],
    ),
    CLICK_TO_FOLD,
    Panel(
        "Fold", "Decoding and folding of a slice of at most 768 clicks.", "s",
        [(quantile(0.99, STAGES, "le, stage", 'stage=~"decode|fold"'), "p99 {{stage}}"),
         (mean(STAGES, "stage", 'stage=~"decode|fold"'), "mean {{stage}}")],
    ),
    Panel(
        "Batch", "Records of a fetched batch, on average.", "short",
        [(mean("slatestream_batch_records", "topic"), "{{topic}}")],
    ),
    Panel(
        "Flush", "Writing the dirty rows of a partition, until the broker has them.", "s",
        quantiles(STAGES, of_stage("flush"), 0.5, 0.99),
    ),
    Panel(
        "Rows published", "Rows to the changelogs, and feedback.", "cps",
        [(rate("slatestream_events_total", "topic", 'outcome="published"'), "{{topic}}")],
    ),
    Panel("State", "Rows in memory.", "short", [("sum by (kind) (slatestream_state_rows)", "{{kind}}")]),
    Panel(
        "Memory of the state", "What the state's arrays take.", "bytes",
        [("sum by (kind) (slatestream_state_bytes)", "{{kind}}")],
    ),
    Panel(
        "Rows restored", "Rows read back from changelogs, after a start or a rebalance.", "cps",
        [(rate("slatestream_restored_rows_total", "topic"), "{{topic}}")],
    ),
    Panel(
        "Restore", "How long the latest restore of a partition took.", "s",
        [("slatestream_restore_seconds", "{{instance}}")],
    ),
    PARTITIONS,
    Panel(
        "Rows taken back", "Rows whose memory was taken back, as nobody had use for them any more.", "cps",
        [(rate("slatestream_reclaimed_total", "kind"), "{{kind}}")], width=12,
    ),
    Panel(
        "Undescribed items", "Items that clicks name and nobody has described; their number is bounded.",
        "short", [("slatestream_undescribed_items", "{{instance}}")], width=12,
    ),
]  # fmt: skip

PARTS = 'stage=~"wait|queue|gather|prepare|score|policy|shadow|explain|publish"'
SERVING = [
    REQUEST_TO_SLATE,
    Panel(
        "Where a request's time goes", "Mean of each stage; gather to explain are of a batch, off the loop.",
        "s", [(mean(STAGES, "stage", PARTS), "{{stage}}")], width=16,
    ),
    Panel(
        "Requests", "Requests for slates by what became of them, over Kafka and HTTP.", "reqps",
        [(rate("slatestream_events_total", "outcome", 'topic="requests"'), "{{outcome}}")],
    ),
    Panel(
        "Fallbacks", "Share of slates that are not the model's, by why; none is the model's own.",
        "percentunit",
        [(f"{rate('slatestream_slates_total', 'fallback')} / ignoring (fallback) group_left "
          "sum(rate(slatestream_slates_total[$__rate_interval]))", "{{fallback}}")],
    ),
    Panel(
        "Own clicks missed", "Requests that went on without the clicks before them.", "reqps",
        [(rate("slatestream_own_clicks_missed_total", "instance"), "{{instance}}")],
    ),
    Panel(
        "Answers by status", "HTTP requests for slates; 307 leads to the worker that owns the user.", "reqps",
        [(rate("slatestream_http_requests_total", "status", RECOMMENDATIONS), "{{status}}")],
    ),
    Panel(
        "HTTP by route", "HTTP requests of all kinds.", "reqps",
        [(rate("slatestream_http_requests_total", "route"), "{{route}}")],
    ),
    Panel(
        "HTTP duration", "Time to answer, 99 of 100 requests.", "s",
        [(quantile(0.99, "slatestream_http_request_seconds", "le, route"), "p99 {{route}}")],
    ),
    Panel(
        "In flight", "Requests taken and not yet answered; `max_in_flight` is the bound.", "short",
        [("slatestream_waiting_requests", "{{instance}}")],
    ),
    Panel(
        "Scored together", "Requests that one call of the scorer takes.", "short",
        [(mean("slatestream_score_batch_requests", "instance"), "mean {{instance}}")],
    ),
    Panel(
        "Score and policy", "Of a batch, 99 of 100.", "s",
        [(quantile(0.99, STAGES, "le, stage", 'stage=~"score|policy"'), "p99 {{stage}}")],
    ),
    Panel(
        "Newest event at slate",
        "How old a user's newest event is when they are given a slate; strangers are not counted. Old: users "
        "come back after long, or their clicks do not arrive.",
        "s",
        quantiles(STAGES, of_stage("click_to_slate"), 0.1, 0.5, 0.9), width=24,
    ),
]  # fmt: skip

BY_POLICY = "{{policy}} {{estimator}}"
LEARNING = [
    CLICK_THROUGH,
    Panel(
        "Click-through by position", "The same by position; later positions are looked at less.",
        "percentunit",
        [(ratio("slatestream_position_responses_total", "slatestream_position_impressions_total", "position"),
          "{{position}}")],
    ),
    Panel(
        "Rewards", "Rewarding events by how they met their slate.", "cps",
        [(rate("slatestream_rewards_total", "outcome"), "{{outcome}}")],
    ),
    Panel(
        "Off-policy estimates",
        "Responses a slate that policies would earn, with 95 % intervals, and what the live one earned.",
        "short",
        [("slatestream_ope_value", BY_POLICY), ("slatestream_ope_low", f"{BY_POLICY} low"),
         ("slatestream_ope_high", f"{BY_POLICY} high"),
         ('slatestream_ope_measured{policy="live"}', "measured")],
        width=16,
    ),
    Panel(
        "Evidence", "Slates of equal weight that would be as certain: some hundreds at least.", "short",
        [("slatestream_ope_effective_slates", BY_POLICY), ("slatestream_ope_slates", "slates judged")],
    ),
    Panel(
        "Rare propensities",
        "Share of items that were shown with a probability below 0.01: each weighs over a hundredfold.",
        "percentunit",
        [(ratio("slatestream_rare_impressions_total", "slatestream_impressions_total", "policy"),
          "{{policy}}")],
    ),
    Panel(
        "Experiments: responses a slate", "By variant; `slatestream experiment status` has the intervals.",
        "short",
        [(ratio("slatestream_experiment_responses_total", "slatestream_experiment_slates_total",
                "experiment, variant"), "{{experiment}} {{variant}}")],
    ),
    Panel(
        "Experiments: slates", "Slates by variant.", "reqps",
        [(rate("slatestream_experiment_slates_total", "experiment, variant"), "{{experiment}} {{variant}}")],
    ),
    Panel(
        "Experiments running", "Experiments that a worker takes part in, and definitions that it refused.",
        "short",
        [("slatestream_experiments_running", "running {{instance}}"),
         ("slatestream_experiments_refused_total", "refused {{instance}}")],
    ),
    Panel(
        "Policy version", "Updates that the policy in use has adopted; flat means that nothing is learned.",
        "short", [("slatestream_policy_version", "{{instance}}")],
    ),
    Panel(
        "Learn", "Adopting the merged statistics, in a thread.", "s",
        quantiles(STAGES, of_stage("learn"), 0.5, 0.99),
    ),
    Panel(
        "Pending slates", "Slates whose window has not ended, and those given up for want of room.", "short",
        [("slatestream_pending_slates", "open {{instance}}"),
         ("slatestream_pending_slates_given_up", "given up {{instance}}")],
    ),
    Panel(
        "Memory of pending slates", "About; `pending_slates_bytes` is the bound for each partition.", "bytes",
        [("slatestream_pending_slates_bytes", "{{instance}}")],
    ),
    Panel(
        "Examination", "How often a position is taken to be looked at, to the first's 1.", "short",
        [("avg by (position) (slatestream_position_examination)", "{{position}}")],
    ),
    Panel(
        "Drift of scores",
        "Population stability index of an hour's scores against the week's: from 0.25 on much has changed.",
        "short",
        [("slatestream:score_drift:psi", "stability index")],
    ),
    Panel(
        "Scores", "Share of impressions by the band of their score; the name is the band's upper end.",
        "percentunit",
        [(f"{rate('slatestream_score_impressions_total', 'band')} / on () group_left () "
          "sum(rate(slatestream_score_impressions_total[$__rate_interval]))", "{{band}}")],
    ),
    Panel(
        "Responses to predicted",
        "Responses to what the scores foretell: 1 where they are calibrated. A move tells of drift.",
        "short",
        [("sum(rate(slatestream_score_responses_total[$__rate_interval])) / "
          "sum(rate(slatestream_predicted_responses_total[$__rate_interval]))", "responses to predicted")],
    ),
    Panel(
        "Click-through by score", "By the band of the score: it should rise with it.", "percentunit",
        [(ratio("slatestream_score_responses_total", "slatestream_score_impressions_total", "band"),
          "{{band}}")],
        width=24,
    ),
    Panel(
        "Estimates refused", "Where the log cannot bear an estimate, and why.", "short",
        [("slatestream_ope_refused", f"{BY_POLICY}: {{{{reason}}}}")],
    ),
    Panel(
        "Feedback", "Slates fed back once their window has ended.", "cps",
        [(rate("slatestream_events_total", "topic", 'topic="feedback"'), "{{topic}}")], width=16,
    ),
]  # fmt: skip

KAFKA = [
    Panel(
        "Broker reachable", "1 while the consumer group has answered within its session timeout.", "short",
        [("slatestream_broker_reachable", "{{instance}}")],
    ),
    Panel(
        "Messages logged", "Warnings and errors by the package that logs them: Kafka's clients retry unseen.",
        "cps",
        [(rate("slatestream_log_messages_total", "source, level"), "{{source}} {{level}}")], width=16,
    ),
    Panel(
        "Records read", "Records of fetched batches.", "cps",
        [(rate("slatestream_batch_records_sum", "topic"), "{{topic}}")],
    ),
    Panel(
        "Records published", "Slates, feedback and rows of changelogs.", "cps",
        [(rate("slatestream_events_total", "topic", 'outcome="published"'), "{{topic}}")],
    ),
    Panel(
        "Publish", "From handing a slate to the producer to the broker's confirmation.", "s",
        quantiles(STAGES, of_stage("publish"), 0.5, 0.99),
    ),
    Panel(
        "Wrong partition", "Records whose key belongs elsewhere: the producer's partitioner is another.",
        "cps",
        [(rate("slatestream_wrong_partition_total", "topic"), "{{topic}}")],
    ),
    Panel(
        "Key mismatch", "Records whose key is not their user_id.", "cps",
        [(rate("slatestream_key_mismatch_total", "topic"), "{{topic}}")],
    ),
    LAG,
    PARTITIONS,
    Panel(
        "Produce errors", "Times that the broker did not take rows; what can be tried again is.", "cps",
        [(rate("slatestream_produce_errors_total", "topic"), "{{topic}}")],
    ),
    Panel(
        "Mapping lag", "How long the oldest record of a repartitioned topic waits to be copied to ours.", "s",
        [("max by (topic) (slatestream_mapping_lag_seconds)", "for {{topic}}"),
         ("sum by (topic) (slatestream_mapping_lag_records)", "records for {{topic}}")],
    ),
]  # fmt: skip

RELEASES = [
    RELEASE,
    RELEASE_AGE,
    Panel(
        "Changes of the release", "Times that a worker took another release while it ran, or refused one.",
        "short",
        [("slatestream_release_swaps_total", "taken {{instance}}"),
         ("slatestream_releases_refused_total", "refused {{instance}}")],
    ),
    Panel(
        "Canaries", "What became of releases that served a share of the users, since the workers started.",
        "short", [("sum by (outcome) (slatestream_release_canaries_total)", "{{outcome}}")],
    ),
    Panel(
        "Trainings", "What came of the trainings of `slatestream trainer`, where it runs, since it started.",
        "short", [("sum by (outcome) (slatestream_trainer_runs_total)", "{{outcome}}")],
    ),
    Panel(
        "Events to train on", "Clicks and rewarded slates since the last training.", "short",
        [("max(slatestream_trainer_waiting_events)", "waiting")],
    ),
    Panel(
        "Duration of the last training", "With the gates.", "s",
        [("max(slatestream_trainer_run_seconds)", "seconds")],
    ),
    Panel(
        "Trainer that leads", "1 for the one that trains; others wait for their turn.", "short",
        [("slatestream_trainer_leads", "{{instance}}")],
    ),
]  # fmt: skip

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
    if panel.is_stat:
        shown = (
            stat.Panel()
            .graph_mode(model.BigValueGraphMode.AREA)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .height(5)
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
