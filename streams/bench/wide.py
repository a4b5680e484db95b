"""The wide topic: clicks of about 99,000 users on 20,000 items, none of whom dominates."""

from collections.abc import Iterator

import numpy as np

USERS, ITEMS = 100_000, 20_000
START_MS = 1_764_000_000_000
CHUNK = 50_000


def wide_clicks(n: int, *, seed: int = 1) -> Iterator[list[tuple[str, bytes]]]:
    """Generate n clicks as lists of (user_id, JSON value), in time order, a click a millisecond.

    A user's rank is 100,000 x^3 and an item's 20,000 x^3 for uniform x: the first user has about 2 % of
    the events. Every click names a request, which no worker knows, so the join with slates is looked up.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        users = (USERS * rng.random(size) ** 3).astype(np.int64).tolist()
        items = (ITEMS * rng.random(size) ** 3).astype(np.int64).tolist()
        dwell = rng.integers(60_000, size=size).tolist()
        yield [
            (
                f"u{user}",
                b'{"event_id":"e%010d","user_id":"u%d","item_id":"i%d","action":"click",'
                b'"timestamp_ms":%d,"request_id":"s%d","position":%d,"dwell_ms":%d}'
                % (i, user, item, START_MS + i, i // 5, i % 10, dwell_ms),
            )
            for i, user, item, dwell_ms in zip(range(start, start + size), users, items, dwell, strict=True)
        ]
