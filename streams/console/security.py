"""Protects the console from requests that other web sites send through a browser."""

import hmac
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers say "Origin: null" of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def host_of(netloc: str) -> str:
    """Return the host of a Host header or an origin, without its port; "" of what is none."""
    try:
        return urlsplit(netloc if "//" in netloc else f"//{netloc}").hostname or ""
    except ValueError:
        return ""


class Forms:
    """Tells a form that this console made from one that somebody else has sent a browser to.

    The browser must say that the request comes from the console's own origin, and the form must carry a
    secret that only its pages show; the secret is another one with each start.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)

    def check(self, http: web.Request, token: str) -> None:
        """Raise 403 where a form is not one of ours."""
        origin = http.headers.get("Origin", "")
        same = origin in (f"http://{http.host}", f"https://{http.host}")
        if not same or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise web.HTTPForbidden(text="this form was not sent from a page of this console; load it again")


def guarded(names: Collection[str]) -> Middleware:
    """Return what answers only under the console's own names, and puts the headers on every answer.

    A page of another site whose name was made to lead here (DNS rebinding) shows that name, and is refused.
    """
    allowed = LOCAL | {name.lower() for name in names}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if host_of(request.headers.get("Host", "")) not in allowed:
            refused = web.Response(
                status=421, text="not a name of this console; see the setting console_names\n"
            )
            refused.headers.update(HEADERS)
            return refused
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        response.headers.update(HEADERS)
        return response

    return guard
