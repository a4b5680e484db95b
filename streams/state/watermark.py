"""A partition's watermark: the event time before which no click is to be expected."""

# How long a click may be on its way to the broker when all that are there have been folded.
IDLE_MS = 10_000


class Watermark:
    """Follows the newest click, never ahead of the broker's clock.

    Where all clicks have been folded it goes on without one: with the requests that were answered (`see`)
    and, `IDLE_MS` behind, with the time that passes (`pass_time`). Else slates that nobody clicks on would
    never close, and nobody would learn that they earned nothing.

    Attributes
    ----------
    ms : the watermark, event time
    """

    def __init__(self) -> None:
        self.ms = 0
        self._newest_ms = 0
        self._idle_since: float | None = None

    def advance(self, ms: int) -> None:
        """Move to a time unless it is there already or beyond."""
        self.ms = max(self.ms, ms)

    def see(self, event_ms: int, broker_ms: int) -> None:
        """Note the time of an event, and of its record on the broker."""
        newest = min(event_ms, broker_ms)
        if newest > self._newest_ms:
            self._newest_ms, self._idle_since = newest, None

    def pass_time(self, now_s: float, *, idle: bool) -> None:
        """Move on without a click; to be called again and again.

        Parameters
        ----------
        now_s : of a clock that never goes back
        idle : every click that the broker is known to have has been folded
        """
        if not idle or self._idle_since is None:
            self._newest_ms = max(self._newest_ms, self.ms)
            self._idle_since = now_s
        if idle:
            passed = int(1000 * (now_s - self._idle_since)) - IDLE_MS
            self.advance(self._newest_ms + max(0, passed))
