"""Panels that more than one dashboard shows."""

from deploy.grafana.panel import STAGES, Panel, of_stage, quantiles, ratio

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
    [("slatestream_release_info", "{{instance}}: {{version}} on {{provider}}")], width=12, shows="names",
)  # fmt: skip
RELEASE_AGE = Panel(
    "Release age", "Since the release in use was written.", "s",
    [("time() - slatestream_release_timestamp_seconds", "{{instance}}")], width=12,
)  # fmt: skip
