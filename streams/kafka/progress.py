"""Progress of folding a partition, and those who wait for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import xxhash


class Waiter(NamedTuple):
    """Waits for the records before `position`: for those with its key, or all if that is None."""

    position: int
    key: bytes | None
    future: "asyncio.Future[None]"

    def in_vain(self, read: int, holds: Callable[[bytes], bool]) -> bool:
        """Return whether all that is before its position has been read and none of it is of its key.

        Parameters
        ----------
        read : the next offset to be read of the partition
        holds : whether anything of a key has been read and is not folded
        """
        return self.key is not None and self.position <= read and not holds(self.key)

    def hastens(self, read: int) -> bool:
        """Return whether it waits for what has been read up to that offset, or for records of any key."""
        return self.key is None or self.position <= read


class Progress:
    """The next offset to fold of one partition; requests wait here for the clicks before them.

    Attributes
    ----------
    position : everything before it has been folded
    keyed : whether keys say whose records are; if not, who waits for those of a key waits for all
    hurry : called with each who begins to wait
    """

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.keyed = True
        self.hurry: Callable[[Waiter], object] = lambda waiter: None
        self._waiters: dict[asyncio.Future[None], Waiter] = {}

    def advance(self, position: int) -> None:
        """Everything before `position` has been folded."""
        self.position = max(self.position, position)
        self._release(lambda waiter: waiter.position <= self.position)

    def spare(self, read: int, holds: Callable[[bytes], bool]) -> None:
        """Release those who wait in vain: see `Waiter.in_vain`."""
        self._release(lambda waiter: waiter.in_vain(read, holds))

    def _release(self, who: Callable[[Waiter], bool]) -> None:
        for waiter in self._waiters.values():
            if not waiter.future.done() and who(waiter):
                waiter.future.set_result(None)

    def awaited(self, read: int) -> bool:
        """Return whether somebody waits who hastens: see `Waiter.hastens`."""
        return any(waiter.hastens(read) for waiter in self._waiters.values() if not waiter.future.done())

    async def reached(self, position: int, timeout_s: float, *, key: bytes | None = None) -> bool:
        """Wait until everything before `position` has been folded; False when the time is up.

        Parameters
        ----------
        key : only records with this key matter; None if all do
        """
        if position <= self.position:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = self._waiters[future] = Waiter(position, key if self.keyed else None, future)
        self.hurry(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            del self._waiters[future]
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
        """Keep the ids remembered so far until `release`: those added meanwhile are older."""
        self._held = True

    def release(self) -> None:
        """Let ids that are added from now on be the newest again."""
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
