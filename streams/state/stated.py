"""What the users of a partition say of themselves, folded from `users`."""

import msgspec
import numpy as np
from numpy.typing import NDArray

NO_FRIENDS = np.zeros(0, np.uint64)


class Stated(msgspec.Struct, frozen=True):
    """A user's statements in the record at `offset` of `users`.

    blocked : (n,) int32 item rows; friends : (n,) uint64, ascending, see `likes.user_keys`
    timestamp_ms is that of the record, 0 if it is not known.
    """

    offset: int
    attributes: dict[str, str]
    preferences: list[str]
    blocked: NDArray[np.int32]
    timestamp_ms: int = 0
    friends: NDArray[np.uint64] = NO_FRIENDS


NOTHING_STATED = Stated(-1, {}, [], np.zeros(0, np.int32))


class Statements(dict[int, Stated]):
    """What users state, by their rows.

    Attributes
    ----------
    dirty : rows of users whose statements the changelog lacks
    """

    def __init__(self) -> None:
        super().__init__()
        self.dirty: set[int] = set()

    def of(self, row: int) -> Stated:
        """What a user states; nothing where the row, such as -1, has no statement."""
        return self.get(row, NOTHING_STATED)

    def take(self, row: int, stated: Stated) -> bool:
        """Take over what a user states; False if that record had been applied before."""
        if stated.offset <= self.of(row).offset:
            return False
        self[row] = stated
        self.dirty.add(row)
        return True

    def forget(self, row: int) -> None:
        """Let a user state nothing."""
        self.pop(row, None)
        self.dirty.discard(row)

    def last_ms(self, rows: NDArray[np.int32], n_users: int) -> NDArray[np.int64]:
        """Times of users' statements, 0 where there are none: (n,) int64 ms; any thread may ask."""
        said = [(row, one.timestamp_ms) for row, one in list(self.items())]
        if not said:
            return np.zeros(len(rows), np.int64)
        stated = np.zeros(max(n_users, int(rows.max(initial=0)) + 1), np.int64)
        at, times = np.array(said, np.int64).T
        stated[at[at < len(stated)]] = times[at < len(stated)]
        return stated[rows]

    def mark_blocked(self, out: NDArray[np.bool_]) -> None:
        """Write True into out (N,) at the items that somebody has blocked; any thread may do so."""
        for said in list(self.values()):
            out[said.blocked[said.blocked < len(out)]] = True
