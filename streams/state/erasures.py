"""Marks of a partition's erased users, so that their old records, read again, do not bring them back."""

from streams.state.rows import SCHEMA_VERSION, Erased, erased_key


class Erasures:
    """The marks by changelog key, and which of them the changelog lacks.

    Attributes
    ----------
    marks : by key; a key is a hash, so that the id of an erased user is not kept
    dirty : keys of marks that are to be written
    """

    def __init__(self) -> None:
        self.marks: dict[bytes, Erased] = {}
        self.dirty: set[bytes] = set()

    def of(self, user_id: str) -> Erased | None:
        """Return the mark of a user; None if there is none."""
        return self.marks.get(erased_key(user_id)) if self.marks else None

    def through(self, user_id: str) -> int | None:
        """Offset of the last click folded before a user was erased (-1: none), None if never erased."""
        mark = self.of(user_id)
        return None if mark is None else mark.clicks_offset

    def add(self, user_id: str, *, clicks_offset: int, users_offset: int, erased_ms: int) -> None:
        """Mark a user as erased: records up to these offsets are not theirs any more."""
        key = erased_key(user_id)
        self.marks[key] = Erased(SCHEMA_VERSION, clicks_offset, users_offset, erased_ms)
        self.dirty.add(key)

    def forget(self, *, before_ms: int, now_ms: int) -> set[bytes]:
        """Take back the marks of users erased before a time; return their keys.

        One without a time is dated now.
        """
        old = {key for key, mark in self.marks.items() if 0 < mark.erased_ms < before_ms}
        for key in old:
            del self.marks[key]
        self.dirty -= old
        for key, mark in self.marks.items():
            if not mark.erased_ms:
                self.marks[key] = Erased(mark.v, mark.clicks_offset, mark.users_offset, now_ms)
                self.dirty.add(key)
        return old
