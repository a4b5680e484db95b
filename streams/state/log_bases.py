"""Ids of the logs that offsets in rows refer to, and how offsets go on when a topic is made anew.

A topic that is deleted and made again counts its offsets from 0, while rows say that they have been applied
up to where the old one ended. So a partition remembers the id of each topic whose offsets its rows have, and
a base: rows hold base + offset. The base of a new log lies behind every offset of the old one, so what is
in rows only ever grows, and each event of either log has its effect once.

This stands in both changelogs, so that either may be made anew.
"""

from collections.abc import Mapping

import msgspec

from streams.events import UNDECODABLE
from streams.state.row_versions import unreadable

LOGS_PREFIX = b"logs\0"
CHANGELOGS = ("user-state", "policy-state")
ROW_VERSION = 1


class LogsRow(msgspec.Struct, frozen=True, array_like=True):
    """Ids and bases by name of the topic: a row of `policy-state`, and part of one of `user-state`."""

    v: int
    ids: dict[str, str]
    bases: dict[str, int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LogsRow).decode


def logs_key(partition: int) -> bytes:
    """Key of a partition's row."""
    return LOGS_PREFIX + partition.to_bytes(2, "big")


class LogBases:
    """Ids and bases of the logs of one partition.

    Attributes
    ----------
    unsaved : the changelogs do not both say so yet
    held : by name, the ids of all logs that what is held in memory came from, those of the changelogs too
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._bases: dict[str, int] = {}
        self.unsaved = False
        self.held: dict[str, str] = {}

    def load(self, *copies: bytes) -> None:
        """Take over what rows say: the last of those that are not empty, as one is that is not there.

        Raises
        ------
        ValueError
            If one is damaged or of a newer schema.
        """
        for value in filter(None, copies):
            try:
                row = _decode(value)
            except UNDECODABLE as error:
                raise unreadable("the row of logs", value, ROW_VERSION, error) from None
            if row.v > ROW_VERSION:
                raise unreadable("the row of logs", value, ROW_VERSION)
            self._ids, self._bases = dict(row.ids), dict(row.bases)
        self.unsaved = any(value != self.row() for value in copies)

    def row(self) -> bytes:
        """The row that the changelogs should hold."""
        return _encode(LogsRow(ROW_VERSION, self._ids, self._bases))

    def of(self, name: str) -> int:
        """The base that is added to a topic's offsets in rows."""
        return self._bases.get(name, 0)

    def meet(self, ids: Mapping[str, str], newest: Mapping[str, int]) -> list[str]:
        """Note which logs there are now; return the names of those that are others than before.

        Parameters
        ----------
        ids : by name; "" where brokers have none
        newest : by name, the newest offset in the rows, -1 if there is none
        """
        self.held = {name: ids.get(name, "") for name in (*newest, *CHANGELOGS)}
        replaced = []
        for name, newest_offset in newest.items():
            now, before = ids.get(name, ""), self._ids.get(name, "")
            if not now or now == before:
                continue
            if before:
                self._bases[name] = max(self.of(name), newest_offset + 1)
                replaced.append(name)
            self._ids[name] = now
            self.unsaved = True
        return replaced

    def others(self, ids: Mapping[str, str]) -> list[str]:
        """Return the names of logs that are others than those in memory, or were not there; "" is unknown."""
        return [name for name, held in self.held.items() if ids.get(name, "") not in ("", held)]
