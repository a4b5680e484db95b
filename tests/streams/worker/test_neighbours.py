"""Workers watch each other's processes, here servers that listen and then do not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from streams.worker.neighbours import AT_ONCE_S, Neighbour, Neighbours, encode_neighbour, this_machine
from streams.worker.process import free_port


class Worker:
    """Listens as a worker's HTTP port does; `hang_up` ends the connections that there are."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.ever = 0
        self.port = 0

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _taken(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        self.ever += 1

    def hang_up(self) -> None:
        while self.connections:
            self.connections.pop().close()

    def die(self) -> None:
        self._server.close()
        self.hang_up()

    def row(self, member: str, *, machine: str = "another") -> bytes:
        return encode_neighbour(Neighbour(f"http://127.0.0.1:{self.port}", machine, member))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Neighbours, list[str]]]:
    expelled: list[str] = []

    async def expel(member_id: str) -> None:
        expelled.append(member_id)

    neighbours = Neighbours(expel)
    try:
        yield neighbours, expelled
    finally:
        await neighbours.stop()


async def test_a_worker_is_expelled_once_nobody_listens_where_it_did_and_not_when_it_only_hangs_up() -> None:
    worker = Worker()
    await worker.listen()
    async with watching() as (neighbours, expelled):
        neighbours.met(0, worker.row("a"), here=None)
        neighbours.met(1, worker.row("a"), here=None)
        await until(lambda: worker.ever == 1)
        worker.hang_up()
        await until(lambda: worker.ever == 2)
        assert not expelled
        worker.die()
        await until(lambda: expelled == ["a"])


async def test_who_takes_connections_only_to_end_them_is_asked_ever_less_often() -> None:
    worker = Worker()
    await worker.listen()
    async with watching() as (neighbours, expelled):
        began = time.monotonic()
        neighbours.met(0, worker.row("a"), here=None)
        for connection in range(1, 7):
            await until(lambda ever=connection: worker.ever == ever)  # type: ignore[misc]
            worker.hang_up()
        # Five pauses, each twice as long as the one before it.
        assert time.monotonic() - began >= AT_ONCE_S * (2 + 4 + 8 + 16 + 32)
        assert not expelled
        worker.die()


async def test_who_was_never_reached_on_another_machine_is_left_to_its_session() -> None:
    nobody = Worker()
    nobody.port = free_port()
    async with watching() as (neighbours, expelled):
        neighbours.met(0, nobody.row("elsewhere"), here=None)
        neighbours.met(1, nobody.row("here", machine=this_machine()), here=None)
        await until(lambda: bool(expelled))
        assert expelled == ["here"]


async def test_another_worker_of_this_address_on_this_machine_is_one_of_before_and_this_one_is_not() -> None:
    mine = Worker()
    await mine.listen()
    here = f"http://127.0.0.1:{mine.port}"
    async with watching() as (neighbours, expelled):
        neighbours.met(0, neighbours.me(here, "now"), here=here)
        neighbours.met(1, mine.row("before", machine=this_machine()), here=here)
        await until(lambda: bool(expelled))
        assert expelled == ["before"]
        mine.die()


async def test_who_owns_nothing_any_more_is_not_watched() -> None:
    left, owner = Worker(), Worker()
    await left.listen()
    await owner.listen()
    async with watching() as (neighbours, expelled):
        neighbours.met(0, left.row("left"), here=None)
        await until(lambda: left.ever == 1)
        neighbours.met(0, owner.row("owner"), here=None)
        neighbours.met(1, b"of a newer version", here=None)
        neighbours.met(2, None, here=None)
        await until(lambda: owner.ever == 1)
        left.die()
        owner.die()
        await until(lambda: bool(expelled))
        assert expelled == ["owner"]
