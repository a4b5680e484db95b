"""Tells the log when a worker becomes ready, and what it waits for until then."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 5.0, 60.0


def lacking(readiness: Mapping[str, Any]) -> list[str]:
    """Name what keeps a worker from being ready, of what `/readyz` says."""
    missing = [name for name, said in readiness.items() if said is (name == "stopping")]
    restored, owned = readiness.get("partitions_restored", 0), readiness.get("partitions", 0)
    return missing + ([f"{restored} of {owned} partitions restored"] if restored < owned else [])


class ReadyLog:
    """Says it once when the worker is ready, and ever less often what keeps it from that.

    Parameters
    ----------
    readiness : what `/readyz` says
    pending : how many items are yet to be encoded
    now : seconds of a clock that never goes back
    """

    def __init__(
        self,
        is_ready: Callable[[], bool],
        readiness: Callable[[], Mapping[str, Any]],
        pending: Callable[[], int],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_ready = is_ready
        self._readiness = readiness
        self._pending = pending
        self._now = now
        self._ready = False
        self._pause_s = FIRST_S
        self._tell_at = now() + FIRST_S

    async def look(self) -> None:
        """Say what there is to say; to be called every second or so."""
        readiness = self._readiness()
        if readiness["stopping"]:
            return
        if self._is_ready():
            if not self._ready:
                log.info("ready, with %d partitions", readiness["partitions"])
            self._ready, self._pause_s = True, FIRST_S
            self._tell_at = self._now() + FIRST_S
        elif self._now() >= self._tell_at:
            self._ready = False
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
            self._tell_at = self._now() + self._pause_s
            log.info("not ready yet: %s", ", ".join(self._missing(readiness)))

    def _missing(self, readiness: Mapping[str, Any]) -> list[str]:
        missing = lacking(readiness)
        if pending := self._pending():
            missing.append(f"{pending:,} items to encode")
        return missing
