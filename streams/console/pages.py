"""The console's routes: each collects the data of its page and renders a template."""

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.console import evaluations
from streams.console.evaluations import Kept
from streams.console.items import LISTED, read_arm
from streams.console.letter_pages import LetterPages
from streams.console.live import Live
from streams.console.overview import checks_of, lags_of, own_lags, partition_rows
from streams.console.people import choose_for, latest_users, near
from streams.console.release_pages import ReleasePages
from streams.console.rendering import INKS
from streams.console.screen import Screen, whole
from streams.console.security import Forms
from streams.console.workers import look_around
from streams.errors import OwnershipLost, SlatestreamError
from streams.events import MAX_SLATE
from streams.kafka.partitioner import partition_of
from streams.serving.lists import NAMES, Wanted
from streams.worker.assembly import Parts

AROUND_S = 3.0
"""How long other workers' states are cached, in seconds."""


class Pages:
    """Answers the console's requests.

    Pages are rendered, and whatever reads a topic is read, in threads: nothing here holds the event loop for
    longer than it takes to copy what a user or an item has.
    """

    def __init__(self, parts: Parts, live: Live, forms: Forms) -> None:
        self._parts = parts
        self._live = live
        self._screen = Screen(parts)
        self._experiments = Kept(partial(evaluations.judge_experiments, parts.settings))
        self._policies = Kept(partial(evaluations.judge_policies, parts.settings))
        self._around = Kept(partial(look_around, self._urls), fresh_s=AROUND_S)
        self._releases = ReleasePages(parts, live, self._screen, forms, self._around)
        self._letters = LetterPages(parts.settings, self._screen, forms)

    def routes(self) -> list[web.RouteDef]:
        """Return what answers where."""
        return [
            web.get("/", self.overview),
            web.get("/live.json", self.live),
            web.get("/user", self.user),
            web.get("/item", self.item),
            web.get("/experiments", self.experiments),
            web.get("/policies", self.policies),
            web.get("/partitions", self.partitions),
            *self._releases.routes(),
            *self._letters.routes(),
        ]

    # The worker

    async def overview(self, _: web.Request) -> web.Response:
        """Answer with the worker's current rates, latencies and readiness."""
        parts = self._parts
        shards = parts.partitions.live()
        return await self._screen.page(
            "overview",
            now=self._live.latest,
            checks=checks_of(parts.partitions.readiness()),
            folder=parts.lanes.serving.folder,
            users=sum(shard.profiles.n_live for shard in shards),
            items=parts.shared.catalogue.n_live,
            open_slates=sum(len(shard.slates) for shard in shards),
            provider=parts.lanes.serving.scorer.provider,
            url=parts.shared_topics.url,
            owned=len(shards),
            partitions=parts.settings.partitions,
            brokers=parts.settings.bootstrap_servers,
            group=parts.settings.group_id,
        )

    async def live(self, http: web.Request) -> web.Response:
        """Answer with the samples after `since`, a Unix second."""
        checks = {check.name: check.ok for check in checks_of(self._parts.partitions.readiness())}
        columns = self._live.columns(whole(http, "since", default=0, most=1 << 40))
        return web.json_response({"samples": columns, "checks": checks})

    async def partitions(self, _: web.Request) -> web.Response:
        """Answer with every partition and its owner."""
        parts = self._parts
        n, url = parts.settings.partitions, parts.shared_topics.url
        around = await self._around.get()
        rows = partition_rows(
            n,
            owned=[p for p in range(n) if parts.partitions.owns(p)],
            shards=parts.partitions.live(),
            owners={p: parts.shared_topics.owner_url(p) for p in range(n)},
            lags=lags_of(around.result) | await asyncio.to_thread(own_lags, parts.metrics.registry),
        )
        places = {worker.url: place % len(INKS) for place, worker in enumerate(around.result)}
        return await self._screen.page("partitions", rows=rows, url=url, workers=around.result, places=places)

    def _urls(self) -> Collection[str]:
        """Return the URLs of this worker and of the other partitions' owners."""
        topics = self._parts.shared_topics
        found = {topics.url, *(topics.owner_url(p) for p in range(self._parts.settings.partitions))}
        return {url for url in found if url}

    # Users and items

    async def user(self, http: web.Request) -> web.Response:
        """Answer with a user and the slate that each policy would show."""
        parts, user_id = self._parts, http.query.get("id", "")
        k = whole(http, "k", default=min(10, parts.settings.k_default), least=1, most=MAX_SLATE)
        given: dict[str, Any] = {
            "user_id": user_id, "k": k, "person": None, "choice": None, "message": "", "latest": (),
            "near": (),
        }  # fmt: skip
        if not user_id:
            latest = await latest_users(parts.partitions.live())
            return await self._screen.page("user", **(given | {"latest": latest}))
        partition = partition_of(user_id, parts.settings.partitions)
        if not parts.partitions.owns(partition):
            owner = parts.shared_topics.owner_url(partition) or "no worker yet"
            given["message"] = (
                f"Partition {partition}, this user's, belongs to {owner}: see the console there."
            )
            return await self._screen.page("user", status=404, **given)
        try:
            shard = await parts.partitions.shard(partition)
        except OwnershipLost as error:
            return await self._screen.page("user", status=503, **(given | {"message": str(error)}))
        given["person"] = parts.inspector.user(user_id, shard)
        if given["person"] is None:
            given["message"] = "Nothing is known of this user: no event, and nothing stated."
            return await self._screen.page("user", status=404, **given)
        given["near"] = near(given["person"])
        if parts.partitions.is_ready():
            lane = parts.lanes.of(user_id)
            given["choice"] = await choose_for(
                lane,
                parts.shared,
                shard,
                user_id,
                k=k,
                why=http.query.get("why", ""),
            )
        else:
            given["message"] = "The worker is not ready, so no slate can be made yet."
        return await self._screen.page("user", **given)

    async def item(self, http: web.Request) -> web.Response:
        """Answer with an item."""
        parts, item_id = self._parts, http.query.get("id", "")
        if not item_id:
            wanted = Wanted(k=LISTED, filters={}, exclude=())
            lists = [await parts.lists.of(name, wanted) for name in NAMES]
            return await self._screen.page("item", item_id="", item=None, lists=lists)
        found = parts.inspector.item(item_id)
        if found is None:
            return await self._screen.page("item", status=404, item_id=item_id, item=None, lists=())
        return await self._screen.page(
            "item", item_id=item_id, item=found, lists=(),
            encoded=parts.eligibility.is_encoded(parts.shared.index.row_of(item_id)),
            arm=read_arm(parts.partitions.live(), item_id),
        )  # fmt: skip

    # What is in the topics

    async def experiments(self, _: web.Request) -> web.Response:
        """Answer with a report on each experiment."""
        try:
            found = await self._experiments.soon()
        except (KafkaError, SlatestreamError) as error:
            return await self._screen.cannot(error)
        if found is None:
            return await self._screen.not_yet("experiments")
        return await self._screen.page(
            "experiments", reports=found.result, at=1000 * found.at,
            again=self._experiments.is_old(found),
        )  # fmt: skip

    async def policies(self, _: web.Request) -> web.Response:
        """Answer with off-policy estimates of the candidate policies."""
        try:
            found = await self._policies.soon()
        except (KafkaError, SlatestreamError) as error:
            return await self._screen.cannot(error)
        if found is None:
            return await self._screen.not_yet("policies")
        return await self._screen.page(
            "policies", report=found.result.report, whole=found.result.whole, at=1000 * found.at,
            candidates=self._parts.settings.candidate_policies, again=self._policies.is_old(found),
        )  # fmt: skip
