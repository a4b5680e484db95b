"""Error responses: `application/problem+json` as of RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from streams.api.handlers import Handler

CONTENT_TYPE = "application/problem+json"
NO_STORE = {"Cache-Control": "no-store"}
KEPT = ("Allow", "Retry-After", "WWW-Authenticate")  # what a refusal of aiohttp's may say beside its status


class ProblemDetails(msgspec.Struct, frozen=True):
    """Body of every answer whose status is 400 or more.

    detail says what was wrong with this request, and what to do; title says the same as the status.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"


class Problem(web.HTTPException):
    """An answer that refuses; raise it wherever a request is handled.

    Parameters
    ----------
    status : from 400 to 599
    detail : one sentence for who asked; nothing of a token, and nothing of how the worker is built
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        title = HTTPStatus(status).phrase
        body = msgspec.json.encode(ProblemDetails(title=title, status=status, detail=detail))
        super().__init__(
            headers={**NO_STORE, **(headers or {})}, text=body.decode(), content_type=CONTENT_TYPE
        )
        self.detail = detail

    def response(self) -> web.Response:
        """Return it as what is sent, for where nothing can be raised."""
        return web.Response(status=self.status, body=self.body, headers=self.headers)


def as_problem(error: web.HTTPException, request: web.BaseRequest) -> web.HTTPException:
    """Return a refusal of aiohttp's as a problem, and what is none, such as a redirect, as it is."""
    if error.status < 400 or isinstance(error, Problem):
        return error
    headers = {name: error.headers[name] for name in KEPT if name in error.headers}
    return Problem(error.status, _detail(error, request), headers=headers)


def _detail(error: web.HTTPException, request: web.BaseRequest) -> str:
    match error:
        case web.HTTPNotFound():
            return f"there is no {request.path[:100]!r} here"
        case web.HTTPMethodNotAllowed():
            return f"{request.method} is not for {request.path[:100]!r}, but {error.headers['Allow']}"
        case web.HTTPRequestEntityTooLarge():
            return f"the body is too large: {error.text}"
    return error.text or error.reason


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let every refusal be a problem: the middleware of an application that has no `measured` one."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        raise as_problem(error, request) from None
