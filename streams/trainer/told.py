"""What `slatestream trainer` tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.metrics import Described

OUTCOMES = ("promoted", "canary", "rejected", "failed", "void")
"""What came of a training: `void` where something else was promoted meanwhile."""

DESCRIBED = tuple(
    Described(f"slatestream_trainer_{name}", kind, labels, text)
    for name, kind, labels, text in (
        ("leads", "gauge", (), "1 for the trainer that trains; others wait."),
        (
            "waiting_events",
            "gauge",
            (),
            "Clicks and rewarded slates since the last training; 0 while a canary serves.",
        ),
        ("runs_total", "counter", ("outcome",), "Trainings, by what came of them."),
        ("run_seconds", "gauge", (), "How long the last training took, gates included."),
        ("promoted_timestamp_seconds", "gauge", (), "Unix time of the last promotion by this trainer."),
    )
)


class Told:
    """The metrics of a trainer, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        leads, waiting, runs, seconds, promoted = DESCRIBED
        self.leads = Gauge(leads.name, leads.text, registry=self.registry)
        self.waiting = Gauge(waiting.name, waiting.text, registry=self.registry)
        self.runs = Counter(runs.name, runs.text, runs.labels, registry=self.registry)
        for outcome in OUTCOMES:
            self.runs.labels(outcome)
        self.seconds = Gauge(seconds.name, seconds.text, registry=self.registry)
        self.promoted = Gauge(promoted.name, promoted.text, registry=self.registry)
