"""One run over partitions: from where each can be folded, against what, and what cannot be said of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from model_core.signals.config import SignalConfig
from streams.durability.state_rows import Bucket, Kind
from streams.kafka.log import Ends, Log
from streams.kafka.topics import topics_of_worker
from streams.settings import Settings
from streams.verify.compare import COMPARED, Ask, Comparison, Result, TooLate, stored_state
from streams.verify.offline import Counting, Offline

TRIES = 3
INPUTS = ("clicks", "users")

Committed = Callable[[int], Awaitable[Mapping[str, int]]]
"""Returns, by name, the next offset that the group will read of a partition of each input."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Scope of a comparison.

    Attributes
    ----------
    from_changelog : the fold begins with the rows of the changelogs, and not with the first click
    buckets : parts that users, items and slates are compared in
    wait_s : how long a worker may take to come to where the fold stands
    at : compare as of this offset of clicks, which is not folded any more; only of what is stored
    """

    kinds: Sequence[Kind]
    from_changelog: bool = False
    buckets: int = 16
    wait_s: float = 60.0
    at: int | None = None


class Verifier:
    """Compares partitions, one after the other, so that only one is held in memory.

    Parameters
    ----------
    ends : started
    tell : called with the partition and how many records of clicks have been folded since the last call
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        ends: Ends,
        scope: Scope,
        *,
        committed: Committed,
        tell: Callable[[int, int], object] = lambda partition, records: None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ends = ends
        self._scope = scope
        self._committed = committed
        self._tell = tell
        self._topics = topics_of_worker(settings)

    async def live(self, partition: int, ask: Ask) -> Result:
        """Compare a partition with the worker that owns it."""
        seen = await ask("marks", Bucket(0, 1), False)
        counting = Counting(seen.model_version, seen.feature_dim, SignalConfig.read(seen.signals))
        return await self._compare(partition, counting, ask, base=seen.base)

    async def stored(self, partition: int, counting: Counting) -> Result:
        """Compare a partition with what a worker would restore that takes it over."""
        restored = self._offline(partition, counting)
        try:
            await restored.restore(await self._committed(partition))
            at, newest = self._scope.at, restored.newest
            if at is not None and newest >= at:
                why = f"its rows have clicks up to {newest}: --at must be {newest + 1} or more"
                return Result(partition, newest, left_out=dict.fromkeys(self._scope.kinds, why))
            ends = {name: await self._end(name, partition) for name in (*INPUTS, "recommendations")}
            last = ends["clicks"] - 1 if at is None else at - 1
            await restored.fold(
                clicks=restored.shard.logs.of("clicks") + last,
                users=ends["users"],
                recommendations=restored.shard.logs.of("recommendations") + ends["recommendations"],
            )

            async def ask(kind: Kind, bucket: Bucket, tell_rows: bool) -> object:
                return stored_state(restored, of_kind=kind, bucket=bucket, tell_rows=tell_rows)

            return await self._compare(partition, counting, ask, base=restored.shard.logs.of("clicks"))  # type: ignore[arg-type]
        finally:
            restored.close()

    async def _compare(self, partition: int, counting: Counting, ask: Ask, *, base: int) -> Result:
        kinds = self._scope.kinds
        left_out = await self._left_out(partition, base)
        if set(kinds) <= left_out.keys():
            return Result(partition, left_out={kind: left_out[kind] for kind in kinds})
        for left in range(TRIES - 1, -1, -1):
            offline = self._offline(partition, counting)
            try:
                if self._scope.from_changelog:
                    await offline.restore(await self._committed(partition))
                comparison = Comparison(
                    self._settings, offline, ask, buckets=self._scope.buckets, wait_s=self._scope.wait_s
                )
                if self._scope.at is None:
                    ends = {name: await self._end(name, partition) for name in ("clicks", "users")}
                    await comparison.meet(**ends)
                else:
                    await comparison.meet(clicks=0, users=0)
                left_out |= {} if self._scope.from_changelog else offline.forgotten()
                return await comparison.run(
                    kinds, {kind: why for kind, why in left_out.items() if kind in kinds}
                )
            except TooLate:
                if not left:
                    raise
            finally:
                offline.close()
        raise AssertionError

    def _offline(self, partition: int, counting: Counting) -> Offline:
        return Offline(
            self._settings, self._log, partition, counting, tell=lambda n: self._tell(partition, n)
        )

    async def _end(self, name: str, partition: int) -> int:
        return (await self._ends.of(self._topics[name], [partition]))[partition]

    async def _begin(self, name: str, partition: int) -> int:
        return (await self._ends.begins(self._topics[name], [partition]))[partition]

    async def _left_out(self, partition: int, base: int) -> dict[str, str]:
        """Kinds that no fold from the first click gives any more, and why."""
        if self._scope.from_changelog:
            return {}
        if base:
            return dict.fromkeys(COMPARED, "clicks was deleted and made anew: what it held before is gone")
        if begin := await self._begin("clicks", partition):
            return dict.fromkeys(COMPARED, f"clicks begins at offset {begin}: those before are gone")
        if begin := await self._begin("recommendations", partition):
            why = f"recommendations begins at offset {begin}: what policies learned of those before is gone"
            return dict.fromkeys(("slates", "policy"), why)
        return {}
