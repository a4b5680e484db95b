"""A lock for a few microseconds or milliseconds that lets nobody wait for more than those before them."""

import threading
from types import TracebackType


class FairLock:
    """A lock that goes to whoever has waited, not to whoever has just let it go and wants it again.

    A thread that takes and frees a `threading.Lock` in a loop leaves it to nobody else.
    """

    __slots__ = ("_held", "_next")

    def __init__(self) -> None:
        self._held = threading.Lock()
        self._next = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.release()
