"""How far a partition has been folded, and who waits for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import xxhash


class Progress:
    """The next offset to fold of one partition; requests wait here for the clicks before them."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.hurry: Callable[[], object] = lambda: None  # called when somebody begins to wait
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def advance(self, position: int) -> None:
        """Everything before `position` has been folded."""
        self.position = max(self.position, position)
        if self._waiters:
            waiting = []
            for wanted, future in self._waiters:
                if future.done():
                    continue
                if wanted <= self.position:
                    future.set_result(None)
                else:
                    waiting.append((wanted, future))
            self._waiters = waiting

    @property
    def awaited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    async def reached(self, position: int, timeout_s: float) -> bool:
        """Wait until everything before `position` has been folded; False when the time is up."""
        if position <= self.position:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((position, future))
        self.hurry()
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiters = [one for one in self._waiters if not one[1].done()]
        return True


class RecentIds:
    """The last `limit` ids seen: a request whose id is among them has been taken already.

    They are remembered by hashes of 64 bits, so that long ids take no more memory than short ones, each with
    the offset of what it was answered with.
    """

    BYTES = 210  # that one takes, about

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self._ids: OrderedDict[int, int] = OrderedDict()  # -1: not answered yet
        self._held = False

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, identifier: str, offset: int = -1) -> bool:
        """Remember an id; return False if it is among the remembered ones.

        Parameters
        ----------
        offset : of its answer, -1 while there is none
        """
        hashed = xxhash.xxh3_64_intdigest(identifier.encode())
        if hashed in self._ids:
            return False
        self._ids[hashed] = offset
        if self._held:
            self._ids.move_to_end(hashed, last=False)
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True

    def hold(self) -> None:
        """What is remembered is newer than what is added from now on, until `release`: it is kept."""
        self._held = True

    def release(self) -> None:
        """What is added from now on is the newest again."""
        self._held = False

    def forget(self, identifier: str) -> None:
        """Take an id back that could not be answered."""
        self._ids.pop(xxhash.xxh3_64_intdigest(identifier.encode()), None)

    def answer(self, identifier: str, offset: int) -> None:
        """Remember where the answer to a remembered id is."""
        hashed = xxhash.xxh3_64_intdigest(identifier.encode())
        if hashed in self._ids:
            self._ids[hashed] = offset

    def offset(self, identifier: str) -> int | None:
        """Return where the answer is; None if there is none, or the id is not remembered."""
        found = self._ids.get(xxhash.xxh3_64_intdigest(identifier.encode()), -1)
        return None if found < 0 else found

    def __contains__(self, identifier: str) -> bool:
        return xxhash.xxh3_64_intdigest(identifier.encode()) in self._ids
