"""Tells of items that nobody can ever be offered, because of what they require."""

import asyncio
import logging
from collections import Counter

from streams.metrics import Metrics
from streams.state.shared import SharedState

MOST_NAMED = 3

log = logging.getLogger(__name__)


class DeadEnds:
    """Counts such items when the catalogue has changed, and logs it when there begin to be any."""

    def __init__(self, shared: SharedState, metrics: Metrics) -> None:
        self._shared = shared
        self._metrics = metrics
        self._looked_at = 0
        self._told = False

    async def look(self) -> None:
        """Count them in a thread; O(all requirements), and nothing where no item has changed."""
        prerequisites = self._shared.prerequisites
        if self._looked_at == (times := prerequisites.changed_times):
            return
        found = await asyncio.to_thread(prerequisites.dead_ends)
        self._looked_at = times
        self._metrics.set_never_offered(Counter(found.values()))
        if found and not self._told:
            rows = sorted(found, key=lambda row: (found[row] == "behind", row))[:MOST_NAMED]
            log.warning(
                "%d items can never be offered because of what they require, such as %s; see "
                "`slatestream explain`",
                len(found), ", ".join(f"{self._shared.index.ids[row]!r} ({found[row]})" for row in rows),
            )  # fmt: skip
        self._told = bool(found)
