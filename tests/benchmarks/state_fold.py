"""python tests/benchmarks/state_fold.py [EVENTS]: the state by the CPU second, one thread.

100,000 users and 20,000 items, both cube-skewed, as in a wide click stream; batches of 4096 events.
"""

import sys
import time

import numpy as np

from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_scores import WEIGHT_UNIT, sparse_scores, total_popularity
from streams.durability.covisit_restore import restore_covisits
from streams.durability.covisit_rows import take_covisits
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import take_profiles
from streams.kafka.columns import RecordColumns
from streams.state.click_fold import fold_clicks
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.worker.warm_kernels import warm

BATCH = 4096
ACTIONS = ("view", "click", "like", "purchase", "dislike")
POSITIVE = ("click", "like", "purchase")


def main(n: int) -> None:
    began = time.process_time()
    warm()
    print(f"kernels ready in {time.process_time() - began:.2f} s")
    rng = np.random.default_rng(1)
    users = (100_000 * rng.random(n) ** 3).astype(np.int32)
    items = (20_000 * rng.random(n) ** 3).astype(np.int32)
    columns = {
        "actions": rng.integers(0, len(ACTIONS), n).astype(np.uint8),
        "times": 10**12 + np.arange(n),
        "event_keys": rng.integers(0, 2**63, n, dtype=np.uint64),
        "offsets": np.arange(n),
    }
    for neighbours, window in ((16, 1), (64, 10), (256, 20), (256, 50)):
        index = ItemIndex()
        index.rows_of([f"i{k}" for k in range(20_000)])
        profiles = Profiles(0, history_limit=1024, actions=ACTIONS, positive=POSITIVE)
        profiles.rows_of([f"u{k}" for k in range(100_000)])
        covisits = CoVisitation(neighbours=neighbours, window=window)
        began = time.process_time()
        for start in range(0, n, BATCH):
            part = slice(start, start + BATCH)
            arguments = {name: column[part] for name, column in columns.items()}
            fold_clicks(profiles, covisits, index, users=users[part], items=items[part], **arguments)
        seconds = time.process_time() - began
        print(
            f"fold, window {window:2}, {neighbours:3} neighbours: {n / seconds:12,.0f} events/s, "
            f"profiles {profiles.nbytes / 1e6:.0f} MB, co-visits {covisits.nbytes / 1e6:.0f} MB"
        )
    rows(profiles, covisits, index)
    reads(profiles, covisits, index)


def rows(profiles: Profiles, covisits: CoVisitation, index: ItemIndex) -> None:
    began = time.process_time()
    users = take_profiles(profiles, index).rows
    report("users' rows out", len(users), began, sum(len(value or b"") for _, value in users))
    began = time.process_time()
    items = take_covisits(covisits, index, 0).rows
    report("items' rows out", len(items), began, sum(len(value or b"") for _, value in items))
    index = ItemIndex()
    restore = Restore(Profiles(0, history_limit=1024, actions=ACTIONS, positive=POSITIVE), index)
    began = time.process_time()
    restore.add(RecordColumns.of_rows(users))
    restore.finish()
    report("users' rows in", len(users), began)
    other = CoVisitation(neighbours=covisits.neighbours, window=covisits.window)
    began = time.process_time()
    restore_covisits(other, index, RecordColumns.of_rows(items))
    report("items' rows in", len(items), began)


def report(what: str, n: int, began: float, size: int | None = None) -> None:
    seconds = time.process_time() - began
    mean = "" if size is None else f", {size / n:.0f} bytes each"
    print(f"{what}: {n:,} at {n / seconds:,.0f} rows/s{mean}")


def reads(profiles: Profiles, covisits: CoVisitation, index: ItemIndex) -> None:
    batch = np.arange(32, dtype=np.int32)
    began = time.process_time()
    for _ in range(100):
        histories, _, _ = profiles.histories(batch, 20)
    print(f"histories of 32 users: {(time.process_time() - began) * 1e4:.0f} us")
    popularity = total_popularity([covisits] * 4, len(index))
    weights = np.full(histories.shape, WEIGHT_UNIT)
    began = time.process_time()
    for _ in range(20):
        sparse_scores([covisits] * 4, histories, weights, popularity)
    milliseconds = (time.process_time() - began) * 50
    print(f"scores of 32 users x {len(index):,} items, 4 partitions: {milliseconds:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
