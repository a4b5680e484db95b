"""Whether all is well: service levels, what is served, and what it takes."""

from deploy.grafana.boards.shared import CLICK_THROUGH, CLICK_TO_FOLD, RELEASE, RELEASE_AGE, REQUEST_TO_SLATE
from deploy.grafana.panel import Panel, quantile, quantiles, rate

BURN = "slatestream:slo_errors:ratio{} / (1 - slatestream:slo_objective)"

OVERVIEW = [
    Panel(
        "Error budget left",
        "Of the errors that the objectives allow in 30 days, the share that is left.",
        "percentunit",
        [("slatestream:slo_error_budget:left30d", "{{slo}}")],
        width=12, shows="numbers", levels=((None, "red"), (0.0, "orange"), (0.25, "green")),
    ),
    Panel(
        "Alerts",
        "Alerts that fire now; deploy/runbook.md says what to do.",
        "short",
        [('count(ALERTS{alertstate="firing"}) or vector(0)', "firing")],
        width=4, shows="numbers", levels=((None, "green"), (1.0, "red")),
    ),
    Panel(
        "Workers",
        "Workers that are scraped, and those of them that are ready.",
        "short",
        [('sum(up{job="slatestream"})', "up"), ("sum(slatestream_ready)", "ready")],
        width=8, shows="numbers", levels=((None, "red"), (1.0, "green")),
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
