from typing import Any

from streams.kafka.state_writers import StateWriters
from streams.settings import Settings


class Waking:
    """A log whose cluster names no broker at the first two starts of a writer, as aiokafka says it."""

    def __init__(self) -> None:
        self.starts = 0

    def publisher(self, **_: Any) -> "Waking":
        return self

    async def start(self) -> None:
        self.starts += 1
        assert self.starts > 2, "Did we not perform bootstrap?"


async def test_a_cluster_that_names_no_broker_yet_is_asked_again() -> None:
    log = Waking()
    writers = StateWriters(Settings(), log, {}, failed=lambda topic: None)  # type: ignore[arg-type]

    await writers.open(0)

    assert log.starts == 3
