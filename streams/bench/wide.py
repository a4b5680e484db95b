"""The wide topic: clicks of about 99,000 users on 20,000 items, none of whom dominates."""

from collections.abc import Iterator

import numpy as np

USERS, ITEMS = 100_000, 20_000
START_MS = 1_764_000_000_000
CHUNK = 50_000


def wide_clicks(
    n: int,
    *,
    seed: int = 1,
    users: int = USERS,
    items: int = ITEMS,
    user_power: int = 3,
    start_ms: int = START_MS,
    per_ms: int = 1,
) -> Iterator[list[tuple[str, bytes]]]:
    """Generate n clicks as lists of (user_id, JSON value), in time order, `per_ms` clicks a millisecond.

    A user's rank is users x^3 and an item's items x^3 for uniform x: of 100,000 the first user has about 2 %
    of the events; with ``user_power=1`` all users are alike. Every click names a request, which no worker
    knows, so the join with slates is looked up.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        who = (users * rng.random(size) ** user_power).astype(np.int64).tolist()
        what = (items * rng.random(size) ** 3).astype(np.int64).tolist()
        dwell = rng.integers(60_000, size=size).tolist()
        yield [
            (
                f"u{user}",
                b'{"event_id":"e%010d","user_id":"u%d","item_id":"i%d","action":"click",'
                b'"timestamp_ms":%d,"request_id":"s%d","position":%d,"dwell_ms":%d}'
                % (i, user, item, start_ms + i // per_ms, i // 5, i % 10, dwell_ms),
            )
            for i, user, item, dwell_ms in zip(range(start, start + size), who, what, dwell, strict=True)
        ]
