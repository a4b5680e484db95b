"""Guards a route: a request needs a token of the right scope, and a free place in its rate limit."""

import functools
import math

from aiohttp import web

from streams.api.buckets import Buckets
from streams.api.handlers import Handler
from streams.api.problems import Problem
from streams.api.tokens import Tokens
from streams.settings import Settings
from streams.settings.tokens import Scope


class Guard:
    """Stands before handlers; where neither tokens nor a rate are configured, it is not there at all.

    A caller is a token, or an address where no token is asked for or a wrong one was shown.
    """

    def __init__(self, tokens: Tokens, buckets: Buckets | None = None) -> None:
        self._tokens = tokens
        self._buckets = buckets

    @classmethod
    def of(cls, settings: Settings) -> "Guard":
        """Return the guard of a worker's HTTP.

        Raises
        ------
        ConfigurationError
            If the file of tokens cannot be used.
        """
        rate = settings.http_rate_per_s
        return cls(
            Tokens(settings.http_tokens, settings.http_tokens_file),
            None if rate is None else Buckets(rate, settings.http_rate_burst),
        )

    @property
    def asks_for_tokens(self) -> bool:
        """Whether nobody passes without a token."""
        return bool(self._tokens)

    def before(self, handler: Handler, scope: Scope) -> Handler:
        """Return a handler that is reached by those who may ask for what it answers."""
        if not self._tokens and self._buckets is None:
            return handler

        @functools.wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.check(request, scope)
            return await handler(request)

        return guarded

    def check(self, request: web.Request, scope: Scope) -> None:
        """Let a request pass.

        Raises
        ------
        Problem
            401, 403 or 429: see `Tokens.check`; the last says when to come again.
        """
        caller = f"address {request.remote}"
        if self._tokens:
            try:
                caller = f"token {self._tokens.check(request.headers.get('Authorization'), scope)}"
            except Problem:
                self._take(caller)  # who tries out tokens is slowed down
                raise
        self._take(caller)

    def _take(self, caller: str) -> None:
        if self._buckets is not None and (wait := self._buckets.take(caller)):
            raise Problem(
                429, f"too many requests of this {caller.partition(' ')[0]}; come again in {wait:.1f} s",
                headers={"Retry-After": str(math.ceil(wait))},
            )  # fmt: skip
