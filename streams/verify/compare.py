"""A state, live or restored, against what the logs say: partition by partition, bucket by bucket."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from online_learning.policies.registry import find
from streams.api.answers import PartitionState
from streams.durability.state_rows import Bucket, Kind, digest_of
from streams.errors import SlatestreamError, UnreachableError
from streams.settings import Settings
from streams.state import rows as changelog
from streams.state.rows import ERASED_PREFIX, Erased, Quarantined
from streams.verify.offline import Offline
from streams.verify.readable import Difference, Rows, differences

COMPARED: tuple[Kind, ...] = ("users", "items", "slates", "policy")
POLL_S = 0.2

Ask = Callable[[Kind, Bucket, bool], Awaitable[PartitionState]]
"""Returns a bucket of the state that is looked at, with its rows or without."""


@dataclass
class Result:
    """Result for a partition.

    Attributes
    ----------
    through : the last click that both have, as rows count offsets
    rows : compared of each kind
    left_out : kinds that could not be compared, and why
    """

    partition: int
    through: int = -1
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


class TooLate(SlatestreamError):
    """A user was erased or held back before a click that has been folded: the fold begins anew."""

    def __init__(self) -> None:
        super().__init__(
            "verify: users are erased or put into quarantine faster than the logs are folded; try again later"
        )


class Comparison:
    """Compares one partition; a worker may go on folding, the offline fold follows it.

    A difference counts once a second look has it, too: a worker has what it is about to publish.

    Parameters
    ----------
    offline : what the logs say
    ask : of the state that is looked at
    buckets : parts that users, items and slates are compared in
    wait_s : how long the other may take to come to where the offline fold stands
    """

    def __init__(
        self, settings: Settings, offline: Offline, ask: Ask, *, buckets: int, wait_s: float
    ) -> None:
        self._settings = settings
        self._offline = offline
        self._ask = ask
        self._buckets = buckets
        self._wait_s = wait_s
        self._watermark_ms = 0

    async def meet(self, *, clicks: int, users: int) -> None:
        """Fold what two logs hold, each by the next offset after it: the other must come at least so far.

        One that has just taken over may stand before what its rows have seen.
        """
        await self._meet_marks()
        base = self._offline.shard.logs.of("clicks")
        await self._offline.fold(clicks=base + clicks - 1, users=users, recommendations=-1)

    async def run(self, kinds: Sequence[Kind], left_out: dict[str, str]) -> Result:
        """Compare the kinds that are not left out.

        Raises
        ------
        TooLate
        UnreachableError
            If the other does not come to where the offline fold stands.
        """
        result = Result(self._offline.shard.partition, left_out=left_out)
        for kind in kinds:
            of = 1 if kind == "policy" else self._buckets
            for number in range(of):
                if kind not in left_out:
                    n, found = await self._compare(kind, Bucket(number, of))
                    result.rows[kind] = result.rows.get(kind, 0) + n
                    result.differences += found
        result.through = self._offline.through
        return result

    async def _compare(self, kind: Kind, bucket: Bucket) -> tuple[int, list[Difference]]:
        seen = await self._aligned(kind, bucket, tell_rows=False)
        if self._digest(kind, bucket) == seen.digest:
            return seen.n, []
        first = {one.place for one in await self._look(kind, bucket)}
        if not first:
            return seen.n, []
        await asyncio.sleep(POLL_S)
        return seen.n, [one for one in await self._look(kind, bucket) if one.place in first]

    def _digest(self, kind: Kind, bucket: Bucket) -> str:
        return digest_of(self._offline.rows(kind, bucket, watermark_ms=self._watermark_ms))

    async def _look(self, kind: Kind, bucket: Bucket) -> list[Difference]:
        seen = await self._aligned(kind, bucket, tell_rows=True)
        offline = self._offline
        exact = exact_sums(self._settings)
        rows = Rows(kind, named=offline.item, actions=tuple(self._settings.actions), sums=exact)
        expected = rows.fields(offline.rows(kind, bucket, watermark_ms=seen.watermark_ms))
        found = rows.fields(seen.rows)
        if kind == "slates":  # the other closes slates at its next flush
            keep_ms = offline.shard.slates.keep_ms
            found = {
                name: row
                for name, row in found.items()
                if name in expected or row[1]["timestamp_ms"] + keep_ms > offline.shard.watermark.ms
            }
        return list(differences(offline.shard.partition, _singular(kind), expected, found))

    async def _aligned(self, kind: Kind, bucket: Bucket, *, tell_rows: bool) -> PartitionState:
        """Ask for a bucket, and fold to exactly where it stands."""
        offline, deadline = self._offline, time.monotonic() + self._wait_s
        while True:
            await self._meet_marks()
            seen = await self._ask(kind, bucket, tell_rows)
            behind = seen.clicks_offset < offline.through or seen.users_offset < offline.users_next
            if kind in ("slates", "policy"):
                behind = behind or seen.recommendations_offset < offline.shown
            if not behind:
                break
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"partition {offline.shard.partition}: the worker stands at click "
                    f"{seen.clicks_offset} and before record {seen.users_offset} of users, not at "
                    f"{offline.through} and {offline.users_next}, after {self._wait_s:.0f} s"
                )
            await asyncio.sleep(POLL_S)
        self._watermark_ms = seen.watermark_ms
        await offline.fold(
            clicks=seen.clicks_offset,
            users=seen.users_offset,
            recommendations=seen.recommendations_offset,
        )
        return seen

    async def _meet_marks(self) -> None:
        """Take note of who was erased, and who is held back, each after which click."""
        marks = await self._ask("marks", Bucket(0, 1), True)
        erasures, held = {}, {}
        for key, value in marks.rows:
            if key.startswith(ERASED_PREFIX):
                erasures[key] = changelog.decode(Erased, "user-state", key, value)
            else:
                held[key] = changelog.decode(Quarantined, "user-state", key, value)
        if not (self._offline.hold(held) and self._offline.erase_at(erasures)):
            raise TooLate


def exact_sums(settings: Settings) -> bool:
    """Whether what policies have summed depends on the logs alone, and not on when it was flushed."""
    learns_from = find(settings.policy).learns_from
    return (
        settings.position_bias != "learned"
        and settings.reward_half_life_ms is None
        and (learns_from is None or learns_from.kind != "logistic")
    )


def _singular(kind: Kind) -> Literal["user", "item", "slate", "policy"]:
    names: dict[Kind, Literal["user", "item", "slate", "policy"]] = {
        "users": "user", "items": "item", "slates": "slate", "policy": "policy"
    }  # fmt: skip
    return names[kind]


def stored_state(restored: Offline, *, of_kind: Kind, bucket: Bucket, tell_rows: bool) -> PartitionState:
    """Return what a worker would answer that had restored this."""
    shard, rows = restored.shard, restored.rows(of_kind, bucket)
    return PartitionState(
        partition=shard.partition, kind=of_kind, bucket=bucket.number, of=bucket.of,
        base=shard.logs.of("clicks"), clicks_offset=restored.through, users_offset=restored.users_next,
        recommendations_offset=shard.learning.recommended_offset, watermark_ms=shard.watermark.ms,
        model_version=shard.statistics.version, feature_dim=shard.statistics.serving.dim, signals={},
        n=len(rows), digest=digest_of(rows), rows=rows if tell_rows else [],
    )  # fmt: skip
