"""Whether this worker may still speak for its partitions."""

import time
from collections.abc import Callable


class Lease:
    """A member of a group is sure of its partitions as long as the group has answered within its session.

    A process that was frozen, or cut off, wakes with what it held then, while another member may have taken
    over: before anything is published for a partition, the lease must be valid. It counts from the asking,
    for an answer may have been waiting for a process that slept. It may be renewed in one thread and read in
    another.

    Parameters
    ----------
    seconds : the group's session timeout
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._renewed = -float("inf")

    def now(self) -> float:
        """Time of an asking, for `renew`."""
        return self._clock()

    def renew(self, asked: float) -> None:
        """Note that the group has answered what it was asked then."""
        self._renewed = max(self._renewed, asked)

    def end(self) -> None:
        """Note that the group does not know this member any more."""
        self._renewed = -float("inf")

    @property
    def valid(self) -> bool:
        """Whether the group has answered within the session."""
        return self._clock() - self._renewed < self._seconds
