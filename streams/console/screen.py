"""From what a page shows to the answer that a browser gets."""

import asyncio
from typing import Any

from aiohttp import web

from streams.console.rendering import environment
from streams.worker.assembly import Parts


class Screen:
    """Renders pages in a thread: what is at the top of each comes from the worker."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._templates = environment()

    async def page(self, name: str, *, status: int = 200, again: bool = False, **values: Any) -> web.Response:
        """Return the page of a template; `again`: the browser is to load it once more in a moment."""
        serving = self._parts.lanes.serving
        given = {
            "page": name,
            "ready": self._parts.partitions.is_ready(),
            "release": serving.scorer.release,
            "policy": serving.policies.live.name,
            **values,
        }
        template = self._templates.get_template
        text = await asyncio.to_thread(lambda: template(f"{name}.html").render(given))
        headers = {"Refresh": "2"} if again else {}
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)

    async def cannot(self, error: Exception) -> web.Response:
        """Say that the brokers do not answer."""
        return await self.page("message", status=503, title="Not now", message=str(error) or repr(error))

    async def not_yet(self, name: str) -> web.Response:
        """Say that a page is being worked out; the browser asks again by itself."""
        said = "This is being worked out from the topics; the page loads again by itself."
        return await self.page("message", page=name, title="One moment", message=said, again=True)


def whole(http: web.Request, name: str, *, default: int, least: int = 0, most: int) -> int:
    """Return a whole number of the query; raise 400 where it is none, or out of range."""
    text = http.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise web.HTTPBadRequest(text=f"{name} must be a whole number from {least} to {most}")
    return int(text)


async def fields(http: web.Request) -> dict[str, str]:
    """Return the texts of a form."""
    return {name: value for name, value in (await http.post()).items() if isinstance(value, str)}
