"""From a request to its slate: what becomes of it, and where its time goes."""

from deploy.grafana.boards.shared import REQUEST_TO_SLATE
from deploy.grafana.panel import STAGES, Panel, mean, of_stage, quantile, quantiles, rate

RECOMMENDATIONS = 'route="recommendations"'
PARTS = 'stage=~"read|wait|queue|gather|prepare|score|policy|shadow|explain|publish"'
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
