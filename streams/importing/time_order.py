"""Records in the order of their times, however many there are: sorted by parts that wait on the disk."""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path

import msgspec

from streams.importing.records import Record

PART = 100_000
BLOCK = 500

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class TimeOrder:
    """Takes records in any order and gives them back by time; those of one time keep their order.

    At most `part` records are held in memory; more go to a temporary folder, which `close` removes.
    """

    def __init__(self, *, part: int = PART) -> None:
        self._part = part
        self._held: list[Record] = []
        self._parts: list[Path] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, record: Record) -> None:
        """Take a record."""
        self._held.append(record)
        if len(self._held) >= self._part:
            self._put_away()

    def ordered(self) -> Iterator[Record]:
        """Yield all that were taken, by time."""
        self._held.sort(key=itemgetter(0))
        parts: list[Iterable[Record]] = [_read(path) for path in self._parts]
        return heapq.merge(*parts, self._held, key=itemgetter(0))

    def close(self) -> None:
        """Remove what is on the disk."""
        if self._folder is not None:
            self._folder.cleanup()

    def _put_away(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="slatestream-import-")
        path = Path(self._folder.name) / f"{len(self._parts)}.part"
        self._held.sort(key=itemgetter(0))
        with path.open("wb") as file:
            rest = iter(self._held)
            while block := list(islice(rest, BLOCK)):
                packed = _encode(block)
                file.write(len(packed).to_bytes(4, "little") + packed)
        self._parts.append(path)
        self._held = []


def _read(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        while size := file.read(4):
            yield from _decode(file.read(int.from_bytes(size, "little")))
