"""The clock that waits and timestamps go by; tests pass one that they move by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in seconds."""

    def time(self) -> float:
        """Return Unix time."""
        ...

    def monotonic(self) -> float:
        """Return a time that never goes back, counted from wherever."""
        ...


SYSTEM_CLOCK: Clock = time
