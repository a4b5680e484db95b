"""Panels of requests to the broker and of its answers."""

from deploy.grafana.boards.shared import LAG, PARTITIONS
from deploy.grafana.panel import STAGES, Panel, of_stage, quantiles, rate

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
