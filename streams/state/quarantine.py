"""Users in quarantine: their clicks count for their own slates, and in no shared statistics.

A mark says from which click on, and up to which. So whether a click counts is a function of its offset and
of marks: the same when it is read again, by whoever has the marks. They are durable no later than anything
that they have changed.
"""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.state.rows import SCHEMA_VERSION, Quarantined, quarantine_key

FOR_EVER = np.iinfo(np.int64).max


class Quarantine:
    """The marks of one partition; they stay when a user is forgotten, and when one is let go.

    Attributes
    ----------
    marks : by changelog key
    dirty : keys of those that the changelog lacks
    turned : keys of those that have changed since `take_turned`
    """

    def __init__(self) -> None:
        self.marks: dict[bytes, Quarantined] = {}
        self.dirty: set[bytes] = set()
        self.turned: set[bytes] = set()
        self._rows: dict[int, bytes] = {}
        self._spans: NDArray[np.int64] | None = None

    @property
    def spans(self) -> NDArray[np.int64]:
        """Clicks that do not count in items: (m, 3) int64, rows of users in order, begin, and end, excluded.

        They are laid out when they are asked for: many users may be held at once.
        """
        if self._spans is None:
            self._spans = self._laid_out()
        return self._spans

    def hold(self, user_id: str, row: int, begin: int, *, now_ms: int, why: str) -> bool:
        """Let clicks from `begin` on not count; False if none do already.

        Parameters
        ----------
        row : of the user, -1 where there is none
        """
        mark = self.marks.get(key := quarantine_key(user_id))
        if mark is not None and mark.lasts:
            return False
        spans = [] if mark is None else mark.spans
        forgotten = 0 if mark is None else mark.forgotten
        self._put(key, Quarantined(SCHEMA_VERSION, user_id, [*spans, (begin, None)], now_ms, why, forgotten))
        if row >= 0:
            self.meet([row], [user_id])
        return True

    def release(self, user_id: str, end: int) -> bool:
        """Let clicks from `end` on count again; False if they do. What did not count till then does not."""
        mark = self.marks.get(key := quarantine_key(user_id))
        if mark is None or not mark.lasts:
            return False
        self._end(key, mark, end)
        return True

    def release_since(self, before_ms: int, end: int) -> int:
        """Release, from click `end` on, all who have been held since that time or longer; count them."""
        due = [(key, mark) for key, mark in self.marks.items() if mark.lasts and mark.since_ms <= before_ms]
        for key, mark in due:
            self._end(key, mark, end)
        return len(due)

    def forget_name(self, user_id: str) -> None:
        """Keep the mark of an erased user without the id and the reason: clicks are known by its hash."""
        mark = self.marks.get(key := quarantine_key(user_id))
        if mark is not None and mark.user_id:
            self._put(key, msgspec.structs.replace(mark, user_id="", why=""))

    def load(self, marks: Iterable[tuple[bytes, Quarantined]]) -> None:
        """Take marks as they are; nothing is dirty thereby."""
        self.marks.update(marks)
        self._spans = None

    def of(self, user_id: str) -> Quarantined | None:
        """Return the mark of a user, which may be of former times only."""
        return self.marks.get(quarantine_key(user_id)) if self.marks else None

    def holds(self, user_id: str, offset: int) -> bool:
        """Tell whether nothing is learned of a slate that a user got after the click at an offset."""
        mark = self.of(user_id)
        return mark is not None and mark.holds(offset)

    # Rows of users, which come and go

    def meet(self, rows: Iterable[int], user_ids: Iterable[str]) -> None:
        """Note the rows that users have got."""
        found = {row: quarantine_key(user_id) for row, user_id in zip(rows, user_ids, strict=True)}
        found = {row: key for row, key in found.items() if key in self.marks}
        if found:
            self._rows |= found
            self._spans = None

    def leave(self, rows: Iterable[int]) -> None:
        """Note that rows are nobody's."""
        gone = [row for row in rows if row in self._rows]
        for row in gone:
            del self._rows[row]
        if gone:
            self._spans = None

    def take_turned(self) -> NDArray[np.int32]:
        """Rows of the users whose marks have changed since this was last asked: (n,) int32."""
        turned, self.turned = self.turned, set()
        return np.array([row for row, key in self._rows.items() if key in turned] if turned else [], np.int32)

    def _end(self, key: bytes, mark: Quarantined, end: int) -> None:
        *before, (begin, _) = mark.spans
        self._put(key, msgspec.structs.replace(mark, spans=[*before, (begin, end)]))

    def _put(self, key: bytes, mark: Quarantined) -> None:
        self.marks[key] = mark
        self.dirty.add(key)
        self.turned.add(key)
        self._spans = None

    def _laid_out(self) -> NDArray[np.int64]:
        spans = [
            (row, begin, FOR_EVER if end is None else end)
            for row, key in sorted(self._rows.items())
            for begin, end in self.marks[key].uncounted
        ]
        return np.array(spans, np.int64).reshape(len(spans), 3)
