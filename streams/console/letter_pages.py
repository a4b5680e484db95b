"""The console's pages of dead letters: listed, one by one, and replayed."""

import logging
import re
from functools import partial

from aiohttp import web
from aiokafka.errors import KafkaError

from streams.console import letters
from streams.console.evaluations import Kept, aside
from streams.console.screen import Screen, fields, whole
from streams.console.security import Forms
from streams.dead_letters.show import readable, text_of
from streams.errors import SlatestreamError
from streams.events import DEAD_LETTER_REASONS
from streams.settings import Settings

NUMBER = re.compile(r"[0-9]{1,18}")
"""Number of a dead letter."""

FRESH_S = 2.0  # for so long what was read of the topic serves whoever looks

log = logging.getLogger(__name__)


class LetterPages:
    """Answers what is asked about dead letters."""

    def __init__(self, settings: Settings, screen: Screen, forms: Forms) -> None:
        self._settings = settings
        self._screen = screen
        self._forms = forms
        self._letters = {
            reason: Kept(partial(letters.read_latest, settings, reason), fresh_s=FRESH_S)
            for reason in (None, *DEAD_LETTER_REASONS)
        }

    def routes(self) -> list[web.RouteDef]:
        """Return what answers where."""
        return [
            web.get("/dead-letters", self.dead_letters),
            web.get("/dead-letter", self.dead_letter),
            web.post("/dead-letter", self.replay),
        ]

    async def dead_letters(self, http: web.Request) -> web.Response:
        """Answer with the latest dead letters."""
        reason = http.query.get("reason") or None
        if reason not in (None, *DEAD_LETTER_REASONS):
            raise web.HTTPBadRequest(text=f"reason must be one of {', '.join(DEAD_LETTER_REASONS)}")
        try:
            found = await self._letters[reason].soon()
        except (KafkaError, SlatestreamError) as error:
            return await self._screen.cannot(error)
        if found is None:
            return await self._screen.not_yet("dead_letters")
        return await self._screen.page(
            "dead_letters", found=found.result, reason=reason, at=1000 * found.at,
            prefix=self._settings.topic_prefix, again=self._letters[reason].is_old(found),
        )  # fmt: skip

    async def dead_letter(self, http: web.Request) -> web.Response:
        """Answer with one dead letter, and a form that replays it."""
        return await self._letter(whole(http, "number", default=0, most=1 << 62), sent="sent" in http.query)

    async def _letter(
        self, number: int, *, sent: bool = False, refused: str = "", text: str = ""
    ) -> web.Response:
        try:
            held = await aside(partial(letters.read_letter, self._settings, number))
        except (KafkaError, SlatestreamError) as error:
            return await self._screen.cannot(error)
        if held is None:
            return await self._screen.page(
                "message", status=404, title="No such letter", message=f"There is no dead letter {number}."
            )
        return await self._screen.page(
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
        given = await fields(http)
        self._forms.check(http, given.get("token", ""))
        if not NUMBER.fullmatch(given.get("number", "")):
            raise web.HTTPBadRequest(text="number must be that of a dead letter")
        number = int(given["number"])
        text = given.get("value", "").replace("\r\n", "\n")
        value = text.strip().encode() if given.get("what") == "mended" else None
        try:
            await aside(partial(letters.replay_letter, self._settings, number, value))
        except letters.Refused as error:
            return await self._letter(number, refused=str(error), text=text if value is not None else "")
        except (KafkaError, SlatestreamError) as error:
            return await self._screen.cannot(error)
        log.info(
            "dead letter %d was replayed from the console%s", number, "" if value is None else ", mended"
        )
        raise web.HTTPSeeOther(f"/dead-letter?number={number}&sent=1")
