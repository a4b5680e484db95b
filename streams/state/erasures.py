"""Marks of a partition's erased users, so that their old records, read again, do not bring them back."""

from collections.abc import Collection

import msgspec

from streams.state.rows import SCHEMA_VERSION, Erased, Life, erased_key

MOST_LIVES = 100  # of a user whose erasures are remembered one by one


class Erasures:
    """The marks by changelog key, and which of them the changelog lacks.

    Attributes
    ----------
    marks : by key; a key is a hash, so that the id of an erased user is not kept
    unsettled : those of users of whom something is still to be taken out of policies' sums
    dirty : keys of marks that are to be written
    """

    def __init__(self) -> None:
        self.marks: dict[bytes, Erased] = {}
        self.unsettled: dict[bytes, Erased] = {}
        self.dirty: set[bytes] = set()

    def of(self, user_id: str) -> Erased | None:
        """Return the mark of a user; None if there is none."""
        return self.marks.get(erased_key(user_id)) if self.marks else None

    def through(self, user_id: str) -> int | None:
        """Offset of the last click folded before a user was erased (-1: none), None if never erased."""
        mark = self.of(user_id)
        return None if mark is None else mark.clicks_offset

    def add(self, user_id: str, life: Life, *, erased_ms: int) -> None:
        """Mark a user as erased: clicks of the life, and `users` records up to this, are the erased one's."""
        key = erased_key(user_id)
        before = self.marks.get(key)
        lives = [] if before is None else before.lives or [_unknown(before)]
        lives = [*lives, life][-MOST_LIVES:]
        self.put(key, Erased(SCHEMA_VERSION, life.clicks_offset, life.users_offset, erased_ms, lives))
        self.dirty.add(key)

    def put(self, key: bytes, mark: Erased) -> None:
        """Take a mark as it is; nothing is dirty thereby."""
        self.marks[key] = mark
        if mark.settled:
            self.unsettled.pop(key, None)
        else:
            self.unsettled[key] = mark

    def settle(self, key: bytes, lives: Collection[Life]) -> None:
        """Note that what some lives taught is taken out, or stays."""
        mark = self.marks[key]
        now = [msgspec.structs.replace(life, settled=life.settled or life in lives) for life in mark.lives]
        self.put(key, msgspec.structs.replace(mark, lives=now))
        self.dirty.add(key)

    def forget(self, *, before_ms: int, now_ms: int) -> set[bytes]:
        """Take back the marks of users erased before a time; return their keys.

        One without a time is dated now; one that is not settled stays.
        """
        old = {key for key, mark in self.marks.items() if 0 < mark.erased_ms < before_ms and mark.settled}
        for key in old:
            del self.marks[key]
        self.dirty -= old
        for key, mark in self.marks.items():
            if not mark.erased_ms:
                self.put(key, msgspec.structs.replace(mark, erased_ms=now_ms))
                self.dirty.add(key)
        return old


def _unknown(mark: Erased) -> Life:
    """The life that a mark of an earlier version ended: of it, everything stays."""
    return Life(mark.clicks_offset, mark.users_offset, closed_ms=-1, settled=True)
