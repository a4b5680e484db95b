"""From a version to a lane that could serve: fetched, checked, loaded and warmed beside the work."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import islice

from model_core.release.folder import Release
from streams.events import Request
from streams.items.content import ContentEncoder
from streams.items.reading import check_settings
from streams.items.table import load_scorer
from streams.kafka.log import Log
from streams.releases.live import check_swap, fetch_release
from streams.releases.store import Fetched, ReleaseStore
from streams.serving.lane import Lane, Lanes
from streams.serving.lane_maker import LaneMaker
from streams.settings import Settings
from streams.state.policy_row import ARM_PREFIX, STATISTICS_PREFIX
from streams.state.shard import Shard

log = logging.getLogger(__name__)

POLL_S = 0.01
REHEARSED = 16  # users of late, whose histories are read before they come again


class Candidates:
    """Makes lanes of other releases while one serves.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    topics : full name on the broker by name
    crash : is called with an error of a lane that the worker must not survive
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        topics: Mapping[str, str],
        shards: Callable[[], list[Shard]],
        *,
        lanes: Lanes,
        maker: LaneMaker,
        content: ContentEncoder,
    ) -> None:
        assert settings.release_store is not None
        self._settings = settings
        self._store = ReleaseStore(settings.release_store, settings.release_public_keys)
        self._log = log
        self._topics = topics
        self._shards = shards
        self._lanes = lanes
        self._maker = maker
        self._content = content

    async def fetch(self, version: str) -> Fetched:
        """Return a release on this machine, once this worker could serve what it says it is.

        Raises
        ------
        StoreUnreachable
            If the store does not answer: no fault of the release.
        StoreError, ConfigurationError, ValueError
            If the release is missing, not what it says, or was made for other settings than this worker's.
        """
        fetched = await _fetched(self._store, version)
        check_settings(self._settings, fetched.release)
        self._check(fetched.release)
        return fetched

    async def prepare(self, fetched: Fetched, crash: Callable[[BaseException], None]) -> Lane:
        """Return the lane of a release, kept up to date as the others are; nobody is served by it yet.

        Parameters
        ----------
        fetched : the release, as `fetch` returned it

        Raises
        ------
        ConfigurationError, ValueError
            If the release cannot be loaded.
        """
        there = self._settings.model_copy(update={"release": fetched.folder})
        scorer = await asyncio.to_thread(load_scorer, there, fetched.release)
        lane = self._maker.make(scorer, folder=fetched.folder)
        try:
            lane.items.start(crash)
            self._lanes.add(lane)
            await lane.policies.experiments.take_over(self._lanes.serving.policies.experiments)
            await asyncio.to_thread(lane.policies.warm)
            await self._learn(lane)
            await encoded(lane)
            await self._rehearse(lane)
        except BaseException:
            self._lanes.remove(lane)
            await lane.close()
            raise
        return lane

    def _check(self, release: Release) -> None:
        """Refuse a release for which what this worker has folded and encoded would have to be made anew."""
        signals = self._lanes.release.signals
        check_swap(release, fingerprint=self._content.fingerprint, signals=signals)

    async def _learn(self, lane: Lane) -> None:
        """Take in what other workers have learned of this release."""
        owned = {shard.partition for shard in self._shards()}
        for partition in set(range(self._settings.partitions)) - owned:
            async for records in self._log.read(self._topics["policy-state"], partition):
                for record in records:
                    key = record.key or b""
                    if key.startswith((STATISTICS_PREFIX, ARM_PREFIX)):
                        lane.learner.on_row(partition, key, record.value)
                await asyncio.sleep(0)
        await lane.learner.learn(self._shards())

    async def _rehearse(self, lane: Lane) -> None:
        """Make slates that nobody sees, of one user and of many: the first of a shape take longest."""
        if not (shards := self._shards()):
            return
        now_ms = int(time.time() * 1000)
        users = [
            (slate.record.user_id, shard)
            for shard in shards
            for _, request_id in islice(reversed(shard.learning.published), REHEARSED)
            if (slate := shard.slates.of_request(request_id)) is not None
        ] or [("", shards[0])]
        requests = [
            (Request(f"rehearsal {n}", user_id, now_ms, preview=True), shard)
            for n, (user_id, shard) in enumerate(users[:REHEARSED])
        ]
        size = 1
        while size <= min(len(requests), self._settings.max_batch):
            await lane.previews.rehearse(requests[:size])
            size *= 2


async def _fetched(store: ReleaseStore, version: str) -> Fetched:
    """Fetch a release in a thread for which nobody waits at the end: a store may not answer for ever."""
    found: Future[Fetched] = Future()
    found.set_running_or_notify_cancel()  # who gives it up does not disturb the thread

    def fetch() -> None:
        try:
            found.set_result(fetch_release(store, version))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=fetch, name="fetching a release", daemon=True).start()
    return await asyncio.wrap_future(found)


async def encoded(lane: Lane) -> None:
    """Return once a lane has the vectors of all items, in a turn of the event loop in which that is so."""
    while lane.items.pending:
        await asyncio.sleep(POLL_S)
