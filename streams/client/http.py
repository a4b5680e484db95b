"""A client of workers over HTTP: slates, explanations, and what is known of users and items."""

import contextlib
import http.client
import os
import secrets
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from streams.api.answers import (
    Explanation,
    Held,
    ItemList,
    ItemState,
    PartitionState,
    Quarantined,
    Slate,
    UserState,
    decode_explanation,
    decode_item_list,
    decode_item_state,
    decode_user_state,
)
from streams.errors import SlatestreamError
from streams.events import UNDECODABLE

TOKEN_VARIABLE = "SLATES_TOKEN"
"""Environment variable from which commands take a bearer token."""

TIMEOUT_S = 10.0
RETRIES = 3
PAUSE_S = 1.0  # where a worker does not say when to come again
MAX_REDIRECTS = 3  # one, and more while partitions move
TAKES_OVER = "where it is gone, another takes over within session_timeout_ms: try again"
AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

T = TypeVar("T")
_decode_slate = msgspec.json.Decoder(Slate).decode
_decode_state = msgspec.json.Decoder(PartitionState).decode
_decode_quarantined = msgspec.json.Decoder(Quarantined).decode
_decode_held = msgspec.json.Decoder(Held).decode


def token_of_environment() -> str | None:
    """Return the bearer token of `SLATES_TOKEN`, None where there is none.

    Raises
    ------
    SlatestreamError
        If it cannot stand in a header; its value is not told.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SlatestreamError(f"{TOKEN_VARIABLE} must be one line of ASCII without spaces")
    return token or None


def http_url(url: str) -> SplitResult:
    """Return the parts of a URL of HTTP.

    Raises
    ------
    ValueError
        If it is none, has no host, or a port that is no number.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(f"must begin with http:// or https:// and a host, got {url!r}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"must have a port from 0 to 65535 or none, got {url!r}") from None
    return parts


class HttpError(SlatestreamError):
    """A worker has refused, or none has answered.

    Attributes
    ----------
    status : of the refusal; None where nobody answered
    detail : what was wrong, in a sentence, as the worker says it
    """

    def __init__(self, status: int | None, detail: str) -> None:
        super().__init__(detail if status is None else f"{detail} (HTTP {status})")
        self.status = status
        self.detail = detail


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Asks a worker, and the one that owns the user where it says so.

    The token is sent to `url`, and again to where that redirects: only if it is the same path there, as
    workers say it, not HTTP where `url` is HTTPS, and one of `hosts`. Connections are kept; use one client
    per thread.

    Parameters
    ----------
    url : of any worker, without a path
    token : bearer token
    timeout_s : seconds that a call may take, with its retries
    retries : how often a call is made again that a worker refuses for now (429, 503)
    hosts : patterns of the hosts that may be redirected to, such as "*.slatestream.svc"; None: any
    tls : whom to trust; the system's authorities when left out
    sleep : waits so many seconds
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        hosts: Collection[str] | None = None,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = urlsplit(url.rstrip("/"))
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ValueError(f"url must begin with http:// or https:// and a host, got {url!r}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be more than 0, got {timeout_s}")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s
        self._retries = retries
        self._hosts = hosts
        self._tls = tls
        self._sleep = sleep
        self._kept: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        while self._kept:
            self._kept.popitem()[1].close()

    def recommend(
        self,
        user_id: str,
        k: int | None = None,
        *,
        request_id: str | None = None,
        exclude: Sequence[str] = (),
        pinned: Sequence[str] = (),
        boosts: Mapping[str, float] | None = None,
        candidates: Sequence[str] | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, Any] | None = None,
        titles: bool = False,
    ) -> Slate:
        """Ask for a slate; what is left out is the worker's to choose.

        Retries have the same request_id, one that is made where none is given, so there is one slate.

        Raises
        ------
        HttpError
        """
        asked = {
            "k": k,
            "request_id": request_id or f"client-{secrets.token_hex(8)}",
            "exclude": exclude,
            "pinned": pinned,
            "boosts": boosts or {},
            "candidates": candidates,
            "filters": filters or {},
            "context": context,
            "fields": ["title"] if titles else [],
        }
        body = msgspec.json.encode(asked)
        return self._ask("recommendations", user_id, decode=_decode_slate, body=body)

    def explain(self, user_id: str, item_id: str) -> Explanation:
        """Return what an item's score for a user is made of; raises HttpError."""
        return self._ask("explanations", user_id, item_id, decode=decode_explanation)

    def user(self, user_id: str) -> UserState:
        """Return what is known of a user; raises HttpError."""
        return self._ask("users", user_id, decode=decode_user_state)

    def item(self, item_id: str) -> ItemState:
        """Return what is known of an item; raises HttpError."""
        return self._ask("items", item_id, decode=decode_item_state)

    def list(
        self,
        name: str,
        k: int | None = None,
        *,
        exclude: Sequence[str] = (),
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> ItemList:
        """Return a list that is the same for everybody: trending, popular or fresh; raises HttpError.

        Neither ids nor values of filters may have a comma in them.
        """
        return self._ask("lists", name, decode=decode_item_list, query=_of_list(k, exclude, filters))

    def similar(
        self,
        item_id: str,
        k: int | None = None,
        *,
        exclude: Sequence[str] = (),
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> ItemList:
        """Return what is met together with an item, as `list` does; raises HttpError."""
        query = _of_list(k, exclude, filters)
        return self._ask("lists", "similar", item_id, decode=decode_item_list, query=query)

    def state(
        self, partition: int, kind: str, *, bucket: int = 0, of: int = 1, rows: bool = False
    ) -> PartitionState:
        """Return a bucket of the state of a partition; raises HttpError.

        Where the admin port is one of its own, only the worker that owns the partition answers, on that.
        """
        query = "?" + urlencode({"bucket": bucket, "of": of, "rows": "true" if rows else "false"})
        return self._ask("state", str(partition), kind, decode=_decode_state, query=query)

    def quarantined(self, partition: int) -> Quarantined:
        """Return who of a partition is or was in quarantine, asked as `state`; raises HttpError."""
        return self._ask("quarantined", str(partition), decode=_decode_quarantined)

    def quarantine(self, user_id: str, *, held: bool, why: str = "") -> Held:
        """Put a user into quarantine, or let one go, asked as `state`; raises HttpError."""
        body = msgspec.json.encode({"held": held, "why": why})
        return self._ask("quarantine", user_id, decode=_decode_held, body=body)

    def _ask(self, *path: str, decode: Callable[[bytes], T], body: bytes | None = None, query: str = "") -> T:
        target = "/".join(["", "v1", *(quote(part, safe="") for part in path)]) + query
        deadline = time.monotonic() + self._timeout_s
        for left in range(self._retries, -1, -1):
            answer = self._follow(target, body, deadline)
            pause = _pause(answer)
            if answer.status not in AGAIN or not left or time.monotonic() + pause >= deadline:
                break
            self._sleep(pause)
        if answer.status != HTTPStatus.OK:
            raise HttpError(answer.status, _detail(answer))
        try:
            return decode(answer.body)
        except msgspec.MsgspecError as error:
            message = f"{self._url.geturl()} is no worker of this version: {error}"
            raise HttpError(answer.status, message) from None

    def _follow(self, target: str, body: bytes | None, deadline: float) -> _Answer:
        where = self._url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = self._send(where, target, body, deadline)
            except (OSError, http.client.HTTPException) as error:
                if where is not self._url:  # its owner is gone, and another one will be named
                    detail = f"{where.geturl()}, which owns the user, does not answer: {error}; {TAKES_OVER}"
                    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, {}, _problem(detail))
                raise HttpError(None, f"no worker answers at {where.geturl()} ({error})") from error
            if answer.status != HTTPStatus.TEMPORARY_REDIRECT:
                return answer
            where = self._checked(answer.headers.get("location", ""), target)
        return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, {}, _problem("workers redirect to one another"))

    def _checked(self, location: str, target: str) -> SplitResult:
        """Return the worker that a redirect names, if the token may be sent there."""
        try:
            url = http_url(location)
        except ValueError as error:
            message = f"redirected to {location[:200]!r}, which is no URL of a worker: {error}"
            raise HttpError(HTTPStatus.TEMPORARY_REDIRECT, message) from None
        where = SplitResult(url.scheme, url.netloc, "", "", "")
        host = url.hostname or ""
        if location != f"{where.geturl()}{target}" or "@" in url.netloc:
            why = "which no worker does: its path is not the one that was asked for"
        elif self._url.scheme == "https" and url.scheme != "https":
            why = "which is not HTTPS; mend advertised_url"
        elif self._hosts is not None and not any(fnmatchcase(host, pattern) for pattern in self._hosts):
            why = f"whose host is none of {', '.join(self._hosts)}"
        else:
            return where
        raise HttpError(HTTPStatus.TEMPORARY_REDIRECT, f"redirected to {location[:200]!r}, {why}")

    def _send(self, where: SplitResult, target: str, body: bytes | None, deadline: float) -> _Answer:
        """Ask one worker, anew where it has closed a connection that was kept."""
        place = where.scheme, where.netloc
        kept = self._kept.pop(place, None)
        if kept is not None:
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
                return self._exchange(kept, place, target, body, deadline)
        return self._exchange(self._connection(where), place, target, body, deadline)

    def _connection(self, where: SplitResult) -> http.client.HTTPConnection:
        host = where.hostname or ""
        if where.scheme == "https":
            return http.client.HTTPSConnection(host, where.port, context=self._tls)
        return http.client.HTTPConnection(host, where.port)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        place: tuple[str, str],
        target: str,
        body: bytes | None,
        deadline: float,
    ) -> _Answer:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not answered within {self._timeout_s:g} s")
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request("GET" if body is None else "POST", target, body, {**self._headers, **kind})
            got = connection.getresponse()
            headers = {name.lower(): value for name, value in got.getheaders()}
            answer = _Answer(got.status, headers, got.read())
        except BaseException:
            connection.close()
            raise
        if got.will_close:
            connection.close()
        else:
            self._kept[place] = connection
        return answer


def _of_list(k: int | None, exclude: Sequence[str], filters: Mapping[str, Sequence[str]] | None) -> str:
    pairs = [] if k is None else [("k", str(k))]
    pairs += [("exclude", item) for item in exclude]
    pairs += [
        ("filter", f"{relation}:{value}") for relation, values in (filters or {}).items() for value in values
    ]
    return f"?{urlencode(pairs)}" if pairs else ""


def _pause(answer: _Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else PAUSE_S


def _problem(detail: str) -> bytes:
    return msgspec.json.encode({"detail": detail})


def _detail(answer: _Answer) -> str:
    try:
        return str(msgspec.json.decode(answer.body)["detail"])
    except (*UNDECODABLE, KeyError, TypeError):
        return f"the worker answered {answer.status}, and not why"
