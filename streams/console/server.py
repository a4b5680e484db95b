"""The console's HTTP server: on this machine only, beside the worker that it shows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

from streams.console.live import Live
from streams.console.pages import Pages
from streams.console.security import Forms, guarded
from streams.errors import ConfigurationError
from streams.worker.assembly import Parts

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_FORM_BYTES = 2 * 1024 * 1024  # a dead letter's value, mended
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


async def start_console(parts: Parts) -> Callable[[], Awaitable[None]]:
    """Show a worker's parts on `console_port`; return what ends it.

    Raises
    ------
    ConfigurationError
        If the port is taken.
    """
    settings = parts.settings
    live = Live(parts.metrics.registry)
    pages = Pages(parts, live, Forms())
    app = web.Application(middlewares=[guarded(settings.console_names)], client_max_size=MAX_FORM_BYTES)
    app.router.add_routes(pages.routes())
    _add_static(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, settings.console_port or 0).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigurationError(
            f"console_port: {HOST}:{settings.console_port} cannot be listened on: {error.strerror}"
        ) from None
    log.info("console on http://%s:%d", HOST, runner.addresses[0][1])
    sampling = asyncio.create_task(live.run())

    async def stop() -> None:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await runner.cleanup()

    return stop


def _add_static(app: web.Application) -> None:
    """Serve the files of `static/`, read once."""
    folder = files("streams.console") / "static"
    for place in (folder, folder / "vendor"):
        for file in place.iterdir():
            kind = TYPES.get(f".{file.name.rpartition('.')[2]}")
            if kind is None or not file.is_file():
                continue
            inside = "vendor/" if place is not folder else ""
            app.router.add_get(f"/static/{inside}{file.name}", _of_bytes(file.read_bytes(), kind))


def _of_bytes(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return answer
