"""Watches the other workers' processes: what a dead one owned need not wait until its session is over.

A process that ends, however it ends, closes its sockets, and its machine refuses whoever connects after it.
That is known within milliseconds, while the group waits for `session_timeout_ms`. So each worker keeps a
connection to the HTTP port of every other that has said what it owns, and takes one that is dead out of the
group. A machine that is gone, or cut off, refuses nobody: there the session decides.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

log = logging.getLogger(__name__)

MEMBER_PREFIX = b"member\0"
SETTLE_S = 0.05  # rows of before are read together with what has replaced them
CONNECT_S = 3.0
AGAIN_S = 5.0
AT_ONCE_S = 0.01  # doubled each time that a connection ends within BRIEF_S
BRIEF_S = 1.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PORTS = {"http": 80, "https": 443}


class Neighbour(msgspec.Struct, frozen=True, array_like=True):
    """The owner of a partition, as announced in a row of `policy-state`.

    Attributes
    ----------
    url : where it is reached
    machine : what its network is, so that an address there is the same as here
    member_id : its name in the group
    """

    url: str
    machine: str
    member_id: str


encode_neighbour = msgspec.msgpack.Encoder().encode
decode_neighbour = msgspec.msgpack.Decoder(Neighbour).decode


def member_key(partition: int) -> bytes:
    """Key of the row that says who owns a partition."""
    return MEMBER_PREFIX + partition.to_bytes(2, "big")


def this_machine() -> str:
    """Return what processes have in common that see the same network: a container's is not its machine's."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {BOOT_ID.read_text().strip()}"
    return socket.gethostname()


class Neighbours:
    """Notices that a worker's process has ended.

    It is dead when nobody listens where it listened: when it was reached before, or is on this machine.

    Parameters
    ----------
    expel : takes a member out of the group
    """

    def __init__(self, expel: Callable[[str], Awaitable[None]], *, machine: str | None = None) -> None:
        self._expel = expel
        self._machine = machine or this_machine()
        self._mine: set[str] = set()
        self._owners: dict[int, Neighbour] = {}
        self._watched: dict[Neighbour, asyncio.Task[None]] = {}

    def me(self, url: str, member_id: str) -> bytes:
        """Return what this worker is to say of itself for each partition that it owns."""
        self._mine.add(member_id)
        return encode_neighbour(Neighbour(url, self._machine, member_id))

    def met(self, partition: int, value: bytes | None, *, here: str | None) -> None:
        """Take in a row.

        Parameters
        ----------
        here : where this worker is reached: another one of that address on this machine is one of before
        """
        self._owners.pop(partition, None)
        if value:
            with contextlib.suppress(msgspec.MsgspecError):  # a newer version's
                self._owners[partition] = decode_neighbour(value)
        wanted = {one for one in self._owners.values() if one.member_id not in self._mine}
        for gone in self._watched.keys() - wanted:
            self._watched.pop(gone).cancel()
        for new in wanted - self._watched.keys():
            self._watched[new] = asyncio.create_task(self._watch(new, here))

    async def stop(self) -> None:
        """Watch nobody any more."""
        tasks = list(self._watched.values())
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, one: Neighbour, here: str | None) -> None:
        await asyncio.sleep(SETTLE_S)
        at_hand = one.machine == self._machine
        if not (at_hand and one.url == here):
            await self._ended(one.url, reached=at_hand)
        log.warning("the worker at %s has died: others take over what it owned", one.url)
        await self._expel(one.member_id)

    @staticmethod
    async def _ended(url: str, *, reached: bool) -> None:
        """Return when nobody listens any more where somebody was `reached`."""
        at = urlsplit(url)
        port = at.port or PORTS.get(at.scheme, 0)
        pause_s = AT_ONCE_S
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_connection(at.hostname, port)
            except ConnectionRefusedError:
                if reached:
                    return
                await asyncio.sleep(AGAIN_S)
            except (OSError, TimeoutError):
                await asyncio.sleep(AGAIN_S)
            else:
                reached, began = True, time.monotonic()
                try:
                    with contextlib.suppress(OSError):
                        while await reader.read(1024):
                            pass
                finally:
                    writer.close()
                # It may have been idle for too long, or a proxy has nobody behind it.
                brief = time.monotonic() - began < BRIEF_S
                pause_s = min(2 * pause_s, AGAIN_S) if brief else AT_ONCE_S
                await asyncio.sleep(pause_s)
