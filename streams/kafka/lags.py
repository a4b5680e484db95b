"""Lag of a worker behind its input topics, in records and in seconds."""

from collections import deque

KEPT = 1_000


class Waiting:
    """For how long the oldest record of a partition that is not yet processed has been waiting.

    It goes by where the partition was seen to end now and then, and so asks nothing of the records: a record
    has been waiting at least since the first look that found it there.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # when the partition first ended there

    def seconds(self, now: float, *, processed: int, end: int) -> float:
        """Take in a look at the partition; return the seconds, 0 when nothing waits.

        Parameters
        ----------
        now : seconds of a clock that never goes back
        processed : the next offset to process
        end : the next offset to be written
        """
        seen = self._seen
        while seen and seen[0][1] <= processed:
            seen.popleft()
        if end > processed and (not seen or end > seen[-1][1]):
            seen.append((now, end))
            if len(seen) > KEPT:
                self._seen = seen = deque(list(seen)[::2])
        return now - seen[0][0] if seen else 0.0
