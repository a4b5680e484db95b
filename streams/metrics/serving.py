"""Metrics of the slates that a worker makes, and of HTTP."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.metrics.registry import Addable, Registered, observe_all, unknown
from streams.metrics.tables import ANSWER, BATCH, BUDGET_STATES, FALLBACKS, ROUTES, STAGES, policy_label

MAX_SERIES = 64  # of slates, whose labels are not looked up again


class _Stages(Collector):
    """One histogram whose stages have buckets of their own."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._parts = {
            stage: Histogram(name, text, ("stage",), registry=None, buckets=buckets)
            for stage, buckets in STAGES.items()
        }
        self.by_stage = {stage: part.labels(stage) for stage, part in self._parts.items()}

    def describe(self) -> Iterator[Metric]:
        """Tell its name, by which a part of the registry is read."""
        yield Metric(self._name, self._text, "histogram")

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus reads."""
        whole = Metric(self._name, self._text, "histogram")
        for part in self._parts.values():
            for metric in part.collect():
                whole.samples += metric.samples
        yield whole


class Serving(Registered):
    """Slates, the stages of their making, and HTTP requests."""

    def __init__(self) -> None:
        super().__init__()
        self._slates = self.counter(
            "slates", "Slates published; fallback is why one is not the model's.", ("policy", "fallback")
        )
        self._series: dict[tuple[str, str | None], Addable] = {}  # those that were counted before
        self.slates_unlearned = self.counter(
            "slates_unlearned", "Slates that policies learn nothing of: beyond learned_slates_per_hour."
        )
        self.trials = self.counter("trials", "Items shown on trial: new ones, whatever the policy.")
        about = "Time of one pass of a stage."
        stages = _Stages("slatestream_stage_seconds", about)
        self.describe("stage_seconds", "histogram", ("stage",), about)
        self.registry.register(stages)
        self._stage = stages.by_stage
        self._score_rows = self.histogram("score_batch_requests", "Requests scored together.", (), BATCH)
        self.waiting_requests = self.gauge("waiting_requests", "Requests taken and not yet answered.")
        self.own_clicks_missed = self.counter(
            "own_clicks_missed",
            "Requests that went on without the clicks before them, as read_your_writes_ms had passed.",
        )
        budgets = self.gauge(
            "budget_items",
            "Items with a budget for a day: in every request (open), in some (paced), spent, or in none as "
            "their budget is no number (bad).",
            ("state",),
        )
        self._budget_items = {state: budgets.labels(state) for state in BUDGET_STATES}
        self._budget_spent = self.gauge("budget_spent_ratio", "Share of today's budgets that is spent.")
        self._budget_overspent = self.gauge(
            "budget_overspent_ratio", "What was spent today beyond items' budgets, as a share of all of them."
        )
        self._budget_elapsed = self.gauge(
            "budget_elapsed_ratio", "Share of the budgets' day that is over; 0 where items have none."
        )
        http = self.counter("http_requests", "HTTP requests answered.", ("route", "status"))
        self._http = {
            (route, status): http.labels(route, str(status))
            for route, statuses in ROUTES.items()
            for status in statuses
        }
        self._other_http = http
        seconds = self.histogram(
            "http_request_seconds", "Time to answer an HTTP request.", ("route",), ANSWER
        )
        self._http_seconds = {route: seconds.labels(route) for route in ROUTES}

    def count_slates(self, policy: str, fallback: str | None = None, n: int = 1) -> None:
        """Add n published slates; fallback is `Recommendation.fallback`."""
        series = self._series.get((policy, fallback))
        if series is None:
            why = "none" if fallback is None else fallback if fallback in FALLBACKS else "other"
            series = self._slates.labels(policy_label(policy), why)
            if len(self._series) < MAX_SERIES:
                self._series[policy, fallback] = series
        series.inc(n)

    def set_budgets(
        self, *, items: Mapping[str, int], spent: float, overspent: float, elapsed: float
    ) -> None:
        """Set how items' budgets stand; items are by state, one of `BUDGET_STATES`."""
        for state, gauge in self._budget_items.items():
            gauge.set(items.get(state, 0))
        self._budget_spent.set(spent)
        self._budget_overspent.set(overspent)
        self._budget_elapsed.set(elapsed)

    def count_http(self, route: str, status: int, seconds: float) -> None:
        """Add an answered HTTP request; a route that is not one of `ROUTES` is "other"."""
        name = route if route in ROUTES else "other"
        series = self._http.get((name, status)) or self._other_http.labels(name, str(status))
        series.inc()
        self._http_seconds[name].observe(seconds)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the duration of one pass of a stage of `STAGES`."""
        child = self._stage.get(stage)
        if child is None:
            raise unknown("stage", stage, STAGES)
        observe_all(child, (seconds,))

    def observe_stages(self, stage: str, seconds: Iterable[float]) -> None:
        """Record several passes of one stage, e.g. the latency of each request of a batch."""
        child = self._stage.get(stage)
        if child is None:
            raise unknown("stage", stage, STAGES)
        observe_all(child, seconds)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Time the body of a `with` as one pass of a stage; a body that raises is timed too."""
        start = perf_counter()
        try:
            yield
        finally:
            self.observe_stage(stage, perf_counter() - start)

    def observe_score_batch(self, requests: int) -> None:
        """Record how many requests one call of the scorer took."""
        self._score_rows.observe(requests)
