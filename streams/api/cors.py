"""Pages of other origins: which may read what is answered (CORS)."""

from collections.abc import Collection

from aiohttp import web

MAX_AGE_S = 600
ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": str(MAX_AGE_S),
}


def allow_origins(app: web.Application, origins: Collection[str]) -> None:
    """Let pages of these origins read every answer of an application, refusals included.

    "*" is every origin; answers are never for cookies. Call it when all routes are there.
    """
    if not origins:
        return

    async def tell(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        response.headers["Vary"] = "Origin"
        if origin is not None and (origin in origins or "*" in origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Retry-After"

    async def preflight(request: web.Request) -> web.Response:
        return web.Response(status=204, headers=ALLOWED)

    app.on_response_prepare.append(tell)
    for resource in list(app.router.resources()):
        app.router.add_route("OPTIONS", resource.canonical, preflight)
