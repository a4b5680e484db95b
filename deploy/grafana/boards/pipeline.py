"""From the topics into the state, and back to the changelogs."""

from deploy.grafana.boards.shared import CLICK_TO_FOLD, LAG, PARTITIONS
from deploy.grafana.panel import STAGES, Panel, mean, of_stage, quantile, quantiles, rate

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
