"""The counts that sites add up, as one row of numbers, and the release that is made of the sum.

pairs: how many users like both of two items, each as much as they count, for EASE. policy: impressions and
rewards by feature, as workers that serve the release have learned them. Both are sums over users, so the sum
over sites is what one site with all users would have counted, if each user is at one of them.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.privacy.secure_sum import symmetric, triangle
from model_core.release.folder import (
    EASE,
    MANIFEST,
    Release,
    add_learned,
    read_release,
    sign_manifest,
    whole_folder,
)
from model_core.robust.influence import SHARE_UNIT, likes_share
from model_core.signals.ease import DENSE_ITEMS, Ease, ease_of_counts
from model_core.signals.liked_together import liked_together
from online_learning.policies.registry import Learning
from online_learning.statistics.linear import SCHEMA_VERSION as SNAPSHOT
from online_learning.statistics.linear import Snapshot
from online_learning.statistics.relative import RelativeStatistics
from online_learning.statistics.sums import Statistics
from streams.federation.files import Kind
from streams.kafka.log import Log
from streams.learning.learned import SCHEMA_VERSION, Learned, encode_learned
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.verify.offline import Counting, Offline
from streams.verify.run import Committed

PAIRS: Kind = "pairs"
POLICY: Kind = "policy"
KINDS = (PAIRS, POLICY)
UNTRUE = ("privacy", "interactions")
"""What the base says of its training that is untrue of the sum, which is exact, and may know later events."""


def size_of(release: Release, sums: Sequence[Kind]) -> int:
    """Count the numbers of a share."""
    n, f = len(release.item_rows), release.feature_dim
    if PAIRS in sums and n > DENSE_ITEMS:
        raise ValueError(f"items must be at most {DENSE_ITEMS} for pairs to be summed, got {n}")
    sizes: dict[Kind, int] = {PAIRS: n * (n + 1) // 2, POLICY: f * (f + 1) // 2 + f + 2}
    return sum(sizes[kind] for kind in sums)


def pairs_of(users: NDArray[np.str_], items: NDArray[np.str_], release: Release) -> NDArray[np.float64]:
    """Sum how much the users count who like both of two items of a release; other items are left out.

    Parameters
    ----------
    users, items : (n,) ids
    """
    ids, at = np.unique(items, return_inverse=True)
    rows = np.array([release.item_rows.get(item, 0) - 1 for item in ids.tolist()], np.int64)[at]
    _, who = np.unique(users, return_inverse=True)
    n = len(release.item_rows)
    liked = np.unique(who[rows >= 0] * n + rows[rows >= 0])
    _, user = np.unique(liked // n, return_inverse=True)
    shares = likes_share(np.bincount(user), release.signals.full_likes)
    return triangle(liked_together(user, liked % n, shares, n).astype(np.float64))


def policy_of(statistics: Statistics) -> NDArray[np.float64]:
    """Statistics as numbers that may be added."""
    linear = checked(statistics)
    told = (linear.impressions, linear.rewards)
    return np.concatenate((triangle(linear.gram), linear.moment, told))


def checked(statistics: Statistics) -> RelativeStatistics:
    """Raise ValueError unless statistics are plain sums over all items."""
    if type(statistics) is not RelativeStatistics or statistics.half_life_ms is not None:
        raise ValueError(
            "policy must learn one linear model for all items, without reward_half_life_ms, for its sums to "
            f"be added; this one has {type(statistics).kind} statistics, half-life {statistics.half_life_ms}"
        )
    return statistics


async def stored_policy(
    settings: Settings, log: Log, release: Release, committed: Committed
) -> RelativeStatistics:
    """Add up what workers have stored of what they learned from slates of a release.

    Parameters
    ----------
    committed : see `streams.verify.run`
    """
    counting = Counting(release.version, release.feature_dim, release.signals)
    total = learning_of(settings, release, named=True).empty()
    for partition in range(settings.partitions):
        offline = Offline(settings, log, partition, counting, tell=lambda records: None)
        try:
            await offline.restore(await committed(partition))
            total = total + offline.shard.statistics.serving
        finally:
            offline.close()
    return checked(total)


def learning_of(settings: Settings, release: Release, *, named: bool) -> Learning:
    """Statistics of the settings' policy, with the release's version or without."""
    return Spaces(settings).learning(release.version if named else "", release.feature_dim)


def write_summed(
    base: Path, out: Path, sums: Sequence[Kind], total: NDArray[np.float64], settings: Settings, said: str
) -> Release:
    """Write a release that has the sum of all sites where the base has its own.

    Raises
    ------
    ValueError
        If the sum is none of counts.
    """
    release = read_release(base)
    n, f = len(release.item_rows), release.feature_dim
    with whole_folder(out) as partial:
        shutil.copytree(base, partial, ignore=shutil.ignore_patterns("*.png"), dirs_exist_ok=True)
        if PAIRS in sums:
            pairs, total = symmetric(total[: n * (n + 1) // 2], n), total[n * (n + 1) // 2 :]
            _summed_ease(pairs, release, Ease.load(base / EASE)).save(partial / EASE)
        manifest = json.loads((partial / MANIFEST).read_text(encoding="utf-8"))
        training = {key: value for key, value in manifest.get("training", {}).items() if key not in UNTRUE}
        training["federated"] = {"round": said, "sums": list(sums)}
        # Its metrics and pictures are of the base, but for how well the graphs agree with torch.
        metrics = {key: value for key, value in manifest["metrics"].items() if key == "onnx_difference"}
        sign_manifest(partial, manifest | {"training": training, "metrics": metrics})
        if POLICY in sums:
            learning = learning_of(settings, release, named=False)
            statistics = _statistics(total, f, learning)
            row = Learned(SCHEMA_VERSION, learning.feature_space, f, statistics.to_bytes())
            add_learned(partial, encode_learned(row), {"round": said, "slates": statistics.impressions})
    return read_release(out)


def _summed_ease(pairs: NDArray[np.float64], release: Release, before: Ease) -> Ease:
    """EASE of the pairs; items that nobody likes keep the weights that the base has for them."""
    if (pairs * SHARE_UNIT % 1.0).any() or pairs.min(initial=0.0) < 0:
        raise ValueError(f"pairs must be multiples of 1/{SHARE_UNIT} from 0 on: a share was changed")
    if (pairs > pairs.diagonal()).any():
        raise ValueError("pairs must be at most what their items have alone: a share was changed")
    known = np.flatnonzero(pairs.diagonal())
    signals, n = release.signals, len(pairs)
    some = pairs[np.ix_(known, known)].astype(np.float32)
    summed = ease_of_counts(some, known, n, penalty=signals.ease_penalty, keep=signals.ease_keep)
    liked = np.repeat(np.arange(n), np.diff(before.bounds))
    kept = ~np.isin(liked, known)
    rows = np.bincount(liked[kept], minlength=n)
    others = Ease(np.concatenate(([0], np.cumsum(rows))), before.items[kept], before.weights[kept])
    return summed.joined(others)


def _statistics(values: NDArray[np.float64], f: int, learning: Learning) -> RelativeStatistics:
    """Return the statistics that `policy_of` made numbers of."""
    packed, moment, (impressions, rewards) = np.split(values, (f * (f + 1) // 2, f * (f + 1) // 2 + f))
    snapshot = Snapshot(
        v=SNAPSHOT, dim=f, feature_space=learning.feature_space, impressions=round(impressions),
        rewards=round(rewards), gram=packed.astype("<f8").tobytes(), moment=moment.astype("<f8").tobytes(),
    )  # fmt: skip
    return checked(learning.read(msgspec.msgpack.encode(snapshot)))
