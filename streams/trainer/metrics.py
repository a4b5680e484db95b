"""Metrics of `slatestream trainer`."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.metrics import Described

OUTCOMES = ("promoted", "shadow", "canary", "rejected", "failed", "void")
"""Outcomes of a training; `void`: another release was promoted meanwhile."""
CAUSES = ("events", "minutes", "drift")

DESCRIBED = tuple(
    Described(f"slatestream_trainer_{name}", kind, labels, text)
    for name, kind, labels, text in (
        ("leads", "gauge", (), "1 for the trainer that trains; others wait."),
        (
            "waiting_events",
            "gauge",
            (),
            "Clicks and rewarded slates since the last training; 0 while what it made waits for its turn.",
        ),
        ("runs_total", "counter", ("outcome",), "Trainings, by outcome."),
        ("begun_total", "counter", ("cause",), "Trainings that were started, by cause."),
        (
            "score_drift",
            "gauge",
            (),
            "Stability index of the live release's latest scores against its first, with `trainer_drift`.",
        ),
        ("run_seconds", "gauge", (), "How long the last training took, gates included."),
        ("promoted_timestamp_seconds", "gauge", (), "Unix time of the last promotion by this trainer."),
    )
)


class Told:
    """The metrics of a trainer, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        leads, waiting, runs, begun, drift, seconds, promoted = DESCRIBED
        self.leads = Gauge(leads.name, leads.text, registry=self.registry)
        self.waiting = Gauge(waiting.name, waiting.text, registry=self.registry)
        self.runs = Counter(runs.name, runs.text, runs.labels, registry=self.registry)
        for outcome in OUTCOMES:
            self.runs.labels(outcome)
        self.begun = Counter(begun.name, begun.text, begun.labels, registry=self.registry)
        for cause in CAUSES:
            self.begun.labels(cause)
        self.drift = Gauge(drift.name, drift.text, registry=self.registry)
        self.drift.set(math.nan)
        self.seconds = Gauge(seconds.name, seconds.text, registry=self.registry)
        self.promoted = Gauge(promoted.name, promoted.text, registry=self.registry)
