"""The console's page of releases: what serves where, what became of others, and what can be done about it."""

import logging
from functools import partial

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.console.evaluations import Kept, aside
from streams.console.live import Live
from streams.console.releases import ACTIONS, act, read_life, read_store
from streams.console.screen import Screen, fields
from streams.console.security import Forms
from streams.errors import SlatestreamError
from streams.worker.assembly import Parts
from streams.worker.scrape import Worker

FRESH_S = 2.0  # for so long what was read of the topic serves whoever looks
STORE_S = 10.0  # and of the store, which may be far away

log = logging.getLogger(__name__)


class ReleasePages:
    """Answers what is asked about releases.

    Parameters
    ----------
    around : the states of all workers
    """

    def __init__(
        self, parts: Parts, live: Live, screen: Screen, forms: Forms, around: Kept[list[Worker]]
    ) -> None:
        self._parts = parts
        self._live = live
        self._screen = screen
        self._forms = forms
        self._around = around
        self._life = Kept(partial(read_life, parts.settings), fresh_s=FRESH_S)
        self._store = Kept(partial(read_store, parts.settings), fresh_s=STORE_S)

    def routes(self) -> list[web.RouteDef]:
        """Return what answers where."""
        return [web.get("/release", self.release), web.post("/release", self.change)]

    async def release(self, http: web.Request) -> web.Response:
        """Answer with the release in use and the life of all others."""
        done = http.query.get("done", "")
        return await self._shown(done=done if done in ACTIONS else "")

    async def _shown(self, *, done: str = "", refused: str = "") -> web.Response:
        life, stock, around = await self._life.get(), await self._store.get(), await self._around.get()
        parts, lane = self._parts, self._parts.lanes.serving
        return await self._screen.page(
            "release",
            status=422 if refused else 200,
            done=done,
            not_done=refused,
            token=self._forms.token,
            life=life.result,
            at=1000 * life.at,
            stock=stock.result,
            workers=around.result,
            drift=self._live.drift,
            provider=lane.scorer.provider,
            settings=parts.settings,
            folder=lane.folder,
            follows=parts.follower is not None,
            warm=[one.version for one in parts.lanes if one is not lane],
            wanted=None if parts.follower is None else parts.follower.wanted,
            not_served={} if parts.follower is None else parts.follower.refused,
            compared=None if parts.decider is None else parts.decider.comparison,
            updates=lane.policies.learner.version,
            candidates=parts.settings.candidate_policies,
        )

    async def change(self, http: web.Request) -> web.Response:
        """Promote, try out, roll back, pin or unpin a release, as a form of the page says."""
        given = await fields(http)
        self._forms.check(http, given.get("token", ""))
        if given.get("what") not in ACTIONS:
            raise web.HTTPBadRequest(text=f"what must be one of {', '.join(ACTIONS)}")
        try:
            did = await aside(partial(act, self._parts.settings, given))
        except (KafkaError, SlatestreamError) as error:
            return await self._shown(refused=str(error) or repr(error))
        finally:
            for kept in (self._life, self._store, self._around):
                kept.forget()
        log.info("%s from the console: %s", given["what"], did.said)
        raise web.HTTPSeeOther(f"/release?done={given['what']}")
