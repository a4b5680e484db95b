"""Panels of the release that serves, of its candidates, and of the trainer."""

from deploy.grafana.boards.shared import RELEASE, RELEASE_AGE
from deploy.grafana.panel import Panel, rate

COMPARISON = 'max(slatestream_release_canary_comparison{{figure="{}"}})'
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
        "Share of the canary", "Share of the users whom a release serves that is tried out.", "percentunit",
        [("slatestream_release_canary_share", "{{version}} on {{instance}}")],
    ),
    Panel(
        "Lead of the canary",
        "What one of its slates earns beyond one of the live release, with the always-valid 95 % interval.",
        "short", [(COMPARISON.format(name), name) for name in ("lead", "low", "high")],
    ),
    Panel(
        "Slates of the canary", "Closed slates that are compared; few on either side say nothing.", "short",
        [(COMPARISON.format("canary_slates"), "canary"), (COMPARISON.format("live_slates"), "live release")],
    ),
    Panel(
        "Reward a slate", "What a slate of either has earned while both serve.", "short",
        [(COMPARISON.format("canary"), "canary"), (COMPARISON.format("live"), "live release")],
    ),
    Panel(
        "Requests of the shadow", "Live requests that it was to answer as well: skipped ones found no room.",
        "reqps", [(rate("slatestream_release_shadowed_total", "outcome"), "{{outcome}}")],
    ),
    Panel(
        "Trainings by cause", "What the trainings were due for, since the trainer started.", "short",
        [("sum by (cause) (slatestream_trainer_begun_total)", "{{cause}}")],
    ),
    Panel(
        "Drift since the promotion",
        "Of the live release's scores, where `trainer_drift` asks for it: much has changed from 0.25 on.",
        "short", [("max(slatestream_trainer_score_drift)", "stability index")],
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
