"""A clock that stands still until it is moved."""


class HandClock:
    """A `streams.clock.Clock`.

    Parameters
    ----------
    at_ms : Unix milliseconds at which it begins
    """

    def __init__(self, at_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = at_ms
        self._monotonic_ms = 0

    def move(self, ms: int) -> None:
        """Let `ms` milliseconds pass."""
        if ms < 0:
            raise ValueError(f"ms must be at least 0, got {ms}")
        self.now_ms += ms
        self._monotonic_ms += ms

    def time(self) -> float:
        """Return Unix seconds."""
        return self.now_ms / 1000

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._monotonic_ms / 1000
