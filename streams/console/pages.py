"""The console's routes: each finds what its page shows and hands it to a template."""

import asyncio
import logging
import re
from functools import partial
from typing import Any

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.console import evaluations, letters
from streams.console.evaluations import Kept, aside
from streams.console.items import read_arm
from streams.console.live import Live
from streams.console.overview import checks_of, lags_of, partition_rows
from streams.console.people import choose_for
from streams.console.releases import read_life
from streams.console.rendering import environment
from streams.console.security import Forms
from streams.dead_letters.show import readable, text_of
from streams.decoding.records import REASONS
from streams.errors import OwnershipLost, SlatestreamError
from streams.events import MAX_SLATE
from streams.kafka.partitioner import partition_of
from streams.worker.assembly import Parts

LETTER = re.compile(r"[0-9]{1,18}")
"""Number of a dead letter."""

LETTERS_S = RELEASES_S = 2.0  # for so long what was read of these topics serves whoever looks

log = logging.getLogger(__name__)


class Pages:
    """Answers the console's requests.

    Pages are rendered, and whatever reads a topic is read, in threads: nothing here holds the event loop for
    longer than it takes to copy what a user or an item has.
    """

    def __init__(self, parts: Parts, live: Live, forms: Forms) -> None:
        self._parts = parts
        self._live = live
        self._forms = forms
        self._templates = environment()
        self._experiments = Kept(partial(evaluations.judge_experiments, parts.settings))
        self._policies = Kept(partial(evaluations.judge_policies, parts.settings))
        self._life = Kept(partial(read_life, parts.settings), fresh_s=RELEASES_S)
        self._letters = {
            reason: Kept(partial(letters.read_latest, parts.settings, reason), fresh_s=LETTERS_S)
            for reason in (None, *REASONS)
        }

    def routes(self) -> list[web.RouteDef]:
        """Return what answers where."""
        return [
            web.get("/", self.overview),
            web.get("/live.json", self.live),
            web.get("/user", self.user),
            web.get("/item", self.item),
            web.get("/experiments", self.experiments),
            web.get("/policies", self.policies),
            web.get("/release", self.release),
            web.get("/partitions", self.partitions),
            web.get("/dead-letters", self.dead_letters),
            web.get("/dead-letter", self.dead_letter),
            web.post("/dead-letter", self.replay),
        ]

    async def _page(self, name: str, *, status: int = 200, **values: Any) -> web.Response:
        parts = self._parts
        given = {
            "page": name,
            "ready": parts.partitions.is_ready(),
            "release": parts.lanes.serving.scorer.release,
            "policy": parts.lanes.serving.policies.live.name,
            **values,
        }
        template = self._templates.get_template
        text = await asyncio.to_thread(lambda: template(f"{name}.html").render(given))
        return web.Response(text=text, status=status, content_type="text/html")

    async def _cannot(self, error: Exception) -> web.Response:
        """Say that the brokers do not answer."""
        return await self._page("message", status=503, title="Not now", message=str(error) or repr(error))

    # The worker

    async def overview(self, _: web.Request) -> web.Response:
        """Answer with what the worker does now."""
        parts = self._parts
        shards = parts.partitions.live()
        return await self._page(
            "overview",
            now=self._live.latest,
            checks=checks_of(parts.partitions.readiness()),
            users=sum(shard.profiles.n_live for shard in shards),
            items=parts.shared.catalogue.n_live,
            open_slates=sum(len(shard.slates) for shard in shards),
            provider=parts.lanes.serving.scorer.provider,
        )

    async def live(self, http: web.Request) -> web.Response:
        """Answer with the samples after `since`, a Unix second."""
        checks = {check.name: check.ok for check in checks_of(self._parts.partitions.readiness())}
        columns = self._live.columns(_whole(http, "since", default=0, most=1 << 40))
        return web.json_response({"samples": columns, "checks": checks})

    async def partitions(self, _: web.Request) -> web.Response:
        """Answer with every partition, and whose it is."""
        parts = self._parts
        n = parts.settings.partitions
        rows = partition_rows(
            n,
            owned=[p for p in range(n) if parts.partitions.owns(p)],
            shards=parts.partitions.live(),
            owners={p: parts.shared_topics.owner_url(p) for p in range(n)},
            lags=await asyncio.to_thread(lags_of, parts.metrics.registry),
        )
        return await self._page("partitions", rows=rows, url=parts.shared_topics.url)

    async def release(self, _: web.Request) -> web.Response:
        """Answer with the release in use and the policies that choose from its scores."""
        life = await self._life.get()
        parts, lane = self._parts, self._parts.lanes.serving
        return await self._page(
            "release",
            life=life.result,
            at=1000 * life.at,
            provider=lane.scorer.provider,
            settings=parts.settings,
            folder=lane.folder,
            follows=parts.follower is not None,
            warm=[one.version for one in parts.lanes if one is not lane],
            wanted=None if parts.follower is None else parts.follower.wanted,
            refused={} if parts.follower is None else parts.follower.refused,
            compared=None if parts.decider is None else parts.decider.comparison,
            updates=lane.policies.learner.version,
            candidates=parts.settings.candidate_policies,
        )

    # Users and items

    async def user(self, http: web.Request) -> web.Response:
        """Answer with a user, and with what they would be shown."""
        parts, user_id = self._parts, http.query.get("id", "")
        k = _whole(http, "k", default=min(10, parts.settings.k_default), least=1, most=MAX_SLATE)
        given: dict[str, Any] = {"user_id": user_id, "k": k, "person": None, "choice": None, "message": ""}
        if not user_id:
            return await self._page("user", **given)
        partition = partition_of(user_id, parts.settings.partitions)
        if not parts.partitions.owns(partition):
            owner = parts.shared_topics.owner_url(partition) or "no worker yet"
            given["message"] = (
                f"Partition {partition}, this user's, belongs to {owner}: see the console there."
            )
            return await self._page("user", status=404, **given)
        try:
            shard = await parts.partitions.shard(partition)
        except OwnershipLost as error:
            return await self._page("user", status=503, **(given | {"message": str(error)}))
        given["person"] = parts.inspector.user(user_id, shard)
        if given["person"] is None:
            given["message"] = "Nothing is known of this user: no event, and nothing stated."
            return await self._page("user", status=404, **given)
        if parts.partitions.is_ready():
            lane = parts.lanes.of(user_id)
            given["choice"] = await choose_for(
                lane.previews,
                lane.explainer,
                parts.shared,
                shard,
                user_id,
                k=k,
                why=http.query.get("why", ""),
            )
        else:
            given["message"] = "The worker is not ready, so no slate can be made yet."
        return await self._page("user", **given)

    async def item(self, http: web.Request) -> web.Response:
        """Answer with an item."""
        parts, item_id = self._parts, http.query.get("id", "")
        found = parts.inspector.item(item_id) if item_id else None
        if found is None:
            return await self._page("item", status=404 if item_id else 200, item_id=item_id, item=None)
        return await self._page(
            "item", item_id=item_id, item=found,
            encoded=parts.eligibility.is_encoded(parts.shared.index.row_of(item_id)),
            arm=read_arm(parts.partitions.live(), item_id),
        )  # fmt: skip

    # What is in the topics

    async def experiments(self, _: web.Request) -> web.Response:
        """Answer with what experiments have shown."""
        try:
            found = await self._experiments.get()
        except (KafkaError, SlatestreamError) as error:
            return await self._cannot(error)
        return await self._page("experiments", reports=found.result, at=1000 * found.at)

    async def policies(self, _: web.Request) -> web.Response:
        """Answer with what every candidate policy would have earned."""
        try:
            found = await self._policies.get()
        except (KafkaError, SlatestreamError) as error:
            return await self._cannot(error)
        return await self._page(
            "policies", report=found.result.report, whole=found.result.whole, at=1000 * found.at,
            candidates=self._parts.settings.candidate_policies,
        )  # fmt: skip

    async def dead_letters(self, http: web.Request) -> web.Response:
        """Answer with the latest dead letters."""
        reason = http.query.get("reason") or None
        if reason not in (None, *REASONS):
            raise web.HTTPBadRequest(text=f"reason must be one of {', '.join(REASONS)}")
        try:
            found = await self._letters[reason].get()
        except (KafkaError, SlatestreamError) as error:
            return await self._cannot(error)
        return await self._page("dead_letters", found=found.result, reason=reason, at=1000 * found.at)

    async def dead_letter(self, http: web.Request) -> web.Response:
        """Answer with one dead letter, and a form that replays it."""
        return await self._letter(_whole(http, "number", default=0, most=1 << 62), sent="sent" in http.query)

    async def _letter(
        self, number: int, *, sent: bool = False, refused: str = "", text: str = ""
    ) -> web.Response:
        try:
            held = await aside(partial(letters.read_letter, self._parts.settings, number))
        except (KafkaError, SlatestreamError) as error:
            return await self._cannot(error)
        if held is None:
            return await self._page(
                "message", status=404, title="No such letter", message=f"There is no dead letter {number}."
            )
        return await self._page(
            "dead_letter",
            status=422 if refused else 200,
            held=held,
            key="none" if held.key is None else text_of(held.key),
            value=text or readable(held.letter.value),
            sent=sent,
            refused=refused,
            token=self._forms.token,
        )

    async def replay(self, http: web.Request) -> web.Response:
        """Replay a dead letter: as it was, or as the form has it."""
        form = await http.post()
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        self._forms.check(http, given.get("token", ""))
        if not LETTER.fullmatch(given.get("number", "")):
            raise web.HTTPBadRequest(text="number must be that of a dead letter")
        number = int(given["number"])
        text = given.get("value", "").replace("\r\n", "\n")
        value = text.strip().encode() if given.get("what") == "mended" else None
        try:
            await aside(partial(letters.replay_letter, self._parts.settings, number, value))
        except letters.Refused as error:
            return await self._letter(number, refused=str(error), text=text if value is not None else "")
        except (KafkaError, SlatestreamError) as error:
            return await self._cannot(error)
        log.info(
            "dead letter %d was replayed from the console%s", number, "" if value is None else ", mended"
        )
        raise web.HTTPSeeOther(f"/dead-letter?number={number}&sent=1")


def _whole(http: web.Request, name: str, *, default: int, least: int = 0, most: int) -> int:
    text = http.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise web.HTTPBadRequest(text=f"{name} must be a whole number from {least} to {most}")
    return int(text)
