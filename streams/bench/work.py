"""A load generator's task and its result."""

import msgspec


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Task of a load generator.

    users are u0 to u<users - 1>, all alike likely. drain_s is how long after the last request answers are
    waited for; a request without one by then is unanswered.
    """

    kind: str  # "kafka", "http", "clicks" or "hop"
    rate: float
    seconds: float
    users: int
    items: int = 0
    k: int = 10
    seed: int = 0
    drain_s: float = 10.0
    client: dict[str, str] = {}  # librdkafka's options
    to: str = ""  # topic that takes the requests or the clicks
    back: str = ""  # topic of the answers
    partitions: int = 1
    host: str = ""
    port: int = 0

    @property
    def count(self) -> int:
        """Number of requests or events sent."""
        return max(1, round(self.rate * self.seconds))


class Outcome(msgspec.Struct, frozen=True):
    """Result of a task. latencies holds every request, unanswered ones with the time they waited.

    late_ms is how much later than due the generator itself sent 99 % of what it sent: where it is not small,
    the machine could not make the load.
    """

    sent: int
    answered: int
    unanswered: int
    refused: int
    fallbacks: int
    seconds: float
    late_ms: float
    latencies: str | None = None

    @property
    def per_second(self) -> float:
        """Answers a second, from the start to the last of them."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0
