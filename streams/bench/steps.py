"""The steps of a benchmark: each is announced as it begins, with the time that is left."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Steps:
    """Steps of expected lengths; what is left is scaled by how long the steps so far have taken.

    Parameters
    ----------
    seconds
        Expected seconds of each step, in order.
    """

    def __init__(
        self, seconds: list[float], say: Callable[[str], None], *, clock: Clock = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._say = say
        self._clock = clock
        self._began: float | None = None
        self._done = 0

    def begin(self, what: str) -> None:
        """Say that the next step begins."""
        now = self._clock()
        if self._began is None:
            self._began = now
        left = sum(self._seconds[self._done :]) * self._pace(now - self._began)
        self._done += 1
        self._say(f"[{self._done}/{len(self._seconds)}] {what} (about {duration(left)} left)")

    def _pace(self, passed: float) -> float:
        expected = sum(self._seconds[: self._done])
        return passed / expected if expected > 0 else 1.0


def duration(seconds: float) -> str:
    """Write seconds as people do.

    >>> duration(42.4), duration(75), duration(3725)
    ('42 s', '1 min 15 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
