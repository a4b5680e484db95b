"""Panels of rewards, off-policy estimates, experiments and score drift."""

from deploy.grafana.boards.shared import CLICK_THROUGH
from deploy.grafana.panel import STAGES, Panel, of_stage, quantiles, rate, ratio

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
        "Examination", "Examination probability of a position, relative to the first's.", "short",
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
        "Largest weight",
        "How much more probable a slate is under a policy than as served, at most: a large one rules.",
        "short", [("slatestream_ope_largest_weight", BY_POLICY)],
    ),
    Panel(
        "Feedback", "Slates fed back once their window has ended.", "cps",
        [(rate("slatestream_events_total", "topic", 'topic="feedback"'), "{{topic}}")],
    ),
]  # fmt: skip
