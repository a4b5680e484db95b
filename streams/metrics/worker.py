"""All metrics of a worker: counters, gauges and histograms, observed per batch.

Every label value is one of a fixed set (`streams.metrics.tables`), so the number of series does not grow with
users, items or what a sender writes. A series is there from the start where its zero says something, and
else from its first number on. The hot path adds numbers only. Units are seconds, bytes and plain counts.
`deploy/metrics.md` lists them all.
"""

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, Gauge, ProcessCollector, generate_latest

from streams.metrics.intake import Intake
from streams.metrics.learning import Learning
from streams.metrics.registry import bound, check
from streams.metrics.releases import Releases
from streams.metrics.serving import Serving
from streams.metrics.tables import LEVELS, LOGGERS, LOOP_LAG, NEVER_OFFERED, RECLAIMED, RESTORED


class Metrics(Releases, Learning, Serving, Intake):
    """All the metrics of one process, on a registry of its own; here are those of the process and its state.

    Topics are named without the deployment's prefix. A topic, outcome or stage that is not in the tables is
    a mistake of the caller and raises ValueError; reasons, fallbacks, policies and reward outcomes that are
    not in theirs are counted as "other", because they may come from outside.

    Parameters
    ----------
    process
        Also export the process's memory, processor time and open files (`process_*`).

    Attributes
    ----------
    described : every metric but those of the process
    """

    def __init__(self, *, process: bool = True) -> None:
        super().__init__()
        if process:
            ProcessCollector(registry=self.registry)
        self.ready = self.gauge("ready", "1 when restored and caught up.")
        self.assigned_partitions = self.gauge("assigned_partitions", "Partitions of this worker.")
        self._restored = bound(
            self.counter("restored_rows", "Changelog rows read back.", ("topic",)),
            *((topic,) for topic in RESTORED),
        )
        self.restore_seconds = self.gauge("restore_seconds", "Duration of the latest restore.")
        self._loop_lag = self.histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer.", (), LOOP_LAG
        )
        self._state_rows = self.gauge("state_rows", "Rows held in memory.", ("kind",))
        self._state_bytes = self.gauge("state_bytes", "Memory of the state's arrays.", ("kind",))
        self._logged = bound(
            self.counter("log_messages", "Warnings and errors logged.", ("source", "level")),
            *((source, level) for source in LOGGERS for level in LEVELS),
        )
        self.users_held = self.gauge("users_held", "Users in quarantine in the owned partitions.")
        self.users_suspect = self.gauge(
            "users_suspect", "Users not in quarantine whose suspicion is 1 or more; see deploy/trust.md."
        )
        self.erasures_waiting = self.gauge(
            "erasures_waiting",
            "Erased users of whom something is still in what policies have learned; see `erase_share_hours`.",
        )
        self.known_items = self.gauge(
            "known_items", "Described items that the release that serves knows by their id."
        )
        self.undescribed_items = self.gauge(
            "undescribed_items", "Items known that nobody has described, or that were deleted."
        )
        never_offered = self.gauge(
            "items_never_offered",
            "Items that nobody can be offered: they require what is no item (unknown), themselves, be it "
            "through others (circle), or such an item (behind).",
            ("why",),
        )
        self._never_offered = {why: never_offered.labels(why) for why in NEVER_OFFERED}
        self.blocked_items_refused = self.counter(
            "blocked_items_refused", "Blocked items that nobody has described, for which there was no room."
        )
        reclaimed = self.counter("reclaimed", "Rows whose memory was taken back.", ("kind",))
        self._reclaimed = {name: reclaimed.labels(name) for name in RECLAIMED}

    def count_logged(self, logger: str, level: str) -> None:
        """Add a warning or an error, by the package that logged it."""
        source = logger.partition(".")[0]
        self._logged[source if source in LOGGERS else "other", level].inc()

    def count_reclaimed(self, kind: str, rows: int) -> None:
        """Add rows of one kind of `RECLAIMED` whose memory was taken back."""
        self._reclaimed[kind].inc(rows)

    def set_never_offered(self, items: Mapping[str, int]) -> None:
        """Set how many items can be offered to nobody, by why: one of `NEVER_OFFERED`."""
        for why, gauge in self._never_offered.items():
            gauge.set(items.get(why, 0))

    def count_restored(self, topic: str, rows: int) -> None:
        """Add changelog rows that a restore has read."""
        check(topic, RESTORED)
        self._restored[(topic,)].inc(rows)

    def observe_loop_lag(self, seconds: float) -> None:
        """Record by how much the event loop was late."""
        self._loop_lag.observe(seconds)

    def set_state(self, kind: str, *, rows: int, nbytes: int) -> None:
        """Set the size of one kind of state, e.g. "users", "items", "neighbours", "slates"."""
        self._state_rows.labels(kind).set(rows)
        self._state_bytes.labels(kind).set(nbytes)

    def watch(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Let a gauge read its value at scrape time instead of being set."""
        gauge.set_function(read)

    def render(self) -> tuple[bytes, str]:
        """Body and content type of a `/metrics` answer."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
