"""The worker's HTTP server: recommendations, health and metrics. Bound to localhost unless told otherwise."""

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from streams.errors import OwnershipLost
from streams.events import MAX_ID_LENGTH, MAX_SLATE, Request, encode
from streams.kafka.partitioner import partition_of
from streams.metrics import Metrics
from streams.serving.explainer import Explainer, ExplanationError
from streams.serving.gate import Overloaded
from streams.serving.server import Server
from streams.settings import Settings
from streams.worker.http_metrics import measured
from streams.worker.partitions import Partitions


@dataclass(frozen=True, slots=True)
class Service:
    """What HTTP answers from.

    Attributes
    ----------
    owner_url : where another worker's partition is answered for, None if nobody has said so
    metrics : counts what is refused
    digest : digest of the state and the next offset of clicks by partition
    render : body and content type of `/metrics`
    """

    settings: Settings
    partitions: Partitions
    server: Server
    explainer: Explainer
    metrics: Metrics
    owner_url: Callable[[int], str | None]
    digest: Callable[[], dict[str, Any]]
    render: Callable[[], Awaitable[tuple[bytes, str]]]


T = TypeVar("T")

NO_STORE = {"Cache-Control": "no-store"}

SERVICE = web.AppKey("service", Service)


async def start_http(service: Service) -> tuple[web.AppRunner, str]:
    """Start to serve; return the runner (call its `cleanup`) and the URL it listens on."""
    app = web.Application(middlewares=[measured(service.metrics)])
    app[SERVICE] = service
    settings = service.settings
    # A slate is published and learned from: who only looks (HEAD) gets none, and no cache gives one twice.
    app.router.add_get("/v1/recommendations/{user_id}", recommendations, allow_head=False)
    app.router.add_get("/v1/explanations/{user_id}/{item_id}", explanations)
    app.router.add_get("/v1/digest", state_digest)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    site = web.TCPSite(runner, settings.http_host, settings.http_port)
    await site.start()
    port = runner.addresses[0][1]
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    return runner, f"http://{host}:{port}"


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=NO_STORE)


async def recommendations(http: web.Request) -> web.Response:
    """`GET /v1/recommendations/{user_id}?k=10&exclude=a,b&pinned=c&boosts=d:0.2&request_id=...`: a slate.

    exclude, pinned and boosts may be given several times, too. An id with a comma in it cannot be named here,
    but on `requests`.
    Answered by the worker that owns the user's partition; any other one redirects to it (307).
    """
    service = http.app[SERVICE]
    try:
        request = _parse(http, service.settings.k_default)
    except ValueError as error:
        return _error(400, str(error))
    partition = partition_of(request.user_id, service.settings.partitions)
    if (refused := _refused_here(http, partition)) is not None:
        return refused
    try:
        shard = await service.partitions.shard(partition)
        answer = await _in_time(
            service.server.answer(request, shard, received=time.time()),
            service.settings.session_timeout_ms / 1000,
        )
    except TimeoutError:
        return _error(503, "the broker did not take the slate in time; it may still be published")
    except OwnershipLost:
        return _error(503, f"partition {partition} is going to another worker; try again")
    except Overloaded as error:
        service.metrics.count_events("requests", "refused")
        refusal = _error(503, f"overloaded: {error}; try again")
        refusal.headers["Retry-After"] = "1"
        return refusal
    if answer is None:
        return _error(409, f"request_id {request.request_id!r} has been answered; see `recommendations`")
    return web.Response(body=encode(answer), content_type="application/json", headers=NO_STORE)


async def _in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what the work returns, or raise TimeoutError and let it go on: its slate may be on its way."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        raise TimeoutError
    return task.result()


def _refused_here(http: web.Request, partition: int) -> web.Response | None:
    """Redirect to the worker that owns the partition, or say why nobody answers now; None when we do."""
    service = http.app[SERVICE]
    if not service.partitions.owns(partition):
        owner = service.owner_url(partition)
        if owner is None:
            return _error(503, f"no worker owns partition {partition} yet; try again")
        raise web.HTTPTemporaryRedirect(f"{owner}{http.rel_url}")
    if not service.partitions.is_ready():
        return _error(503, f"not ready: {service.partitions.readiness()}")
    return None


async def explanations(http: web.Request) -> web.Response:
    """`GET /v1/explanations/{user_id}/{item_id}`: what the item's score for the user is made of, now.

    Answered by the worker that owns the user's partition; any other one redirects to it (307).
    """
    service = http.app[SERVICE]
    user_id, item_id = http.match_info["user_id"], http.match_info["item_id"]
    for name, value in (("user_id", user_id), ("item_id", item_id)):
        if not 1 <= len(value) <= MAX_ID_LENGTH:
            return _error(400, f"{name} must have 1 to {MAX_ID_LENGTH} characters, got {len(value)}")
    if http.query:
        return _error(400, f"unknown parameter {sorted(http.query)[0]!r}; known: none")
    partition = partition_of(user_id, service.settings.partitions)
    if (refused := _refused_here(http, partition)) is not None:
        return refused
    try:
        answer = await service.explainer.explain(user_id, item_id, partition)
    except ExplanationError as error:
        return _error(error.status, str(error))
    return web.Response(body=encode(answer), content_type="application/json", headers=NO_STORE)


def _parse(http: web.Request, k_default: int) -> Request:
    user_id = http.match_info["user_id"]
    if not 1 <= len(user_id) <= MAX_ID_LENGTH:
        raise ValueError(f"user_id must have 1 to {MAX_ID_LENGTH} characters, got {len(user_id)}")
    unknown = http.query.keys() - {"k", "exclude", "pinned", "boosts", "request_id"}
    if unknown:
        raise ValueError(
            f"unknown parameter {sorted(unknown)[0]!r}; known: k, exclude, pinned, boosts, request_id"
        )
    for name in ("k", "request_id"):
        if len(http.query.getall(name, [])) > 1:
            raise ValueError(f"{name} must be given once")
    text = http.query.get("k", str(k_default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_SLATE:
        raise ValueError(f"k must be a whole number from 1 to {MAX_SLATE}, got {text[:20]!r}")
    values = {
        "request_id": http.query.get("request_id") or f"http-{secrets.token_hex(8)}",
        "user_id": user_id,
        "timestamp_ms": int(time.time() * 1000),
        "k": int(text),
        "exclude": _listed(http, "exclude"),
        "pinned": _listed(http, "pinned"),
        "boosts": dict(_boost(pair) for pair in _listed(http, "boosts")),
    }
    try:
        return msgspec.convert(values, Request)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _listed(http: web.Request, name: str) -> list[str]:
    return [item for given in http.query.getall(name, []) for item in given.split(",") if item]


def _boost(pair: str) -> tuple[str, float]:
    item, _, text = pair.rpartition(":")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"boosts must be item:number pairs, got {pair[:40]!r}")
    return item, value


async def state_digest(http: web.Request) -> web.Response:
    """Answer with the digest of the state and the offsets folded; slow, for checks and not for monitoring."""
    return web.json_response(http.app[SERVICE].digest())


async def healthz(http: web.Request) -> web.Response:
    """Answer 200 while the process works."""
    return web.json_response({"status": "ok"})


async def readyz(http: web.Request) -> web.Response:
    """Answer 200 once state is restored and caught up, else 503 with what is missing."""
    partitions = http.app[SERVICE].partitions
    ready = partitions.is_ready()
    return web.json_response(partitions.readiness(), status=200 if ready else 503)


async def metrics(http: web.Request) -> web.Response:
    """Answer with Prometheus's text format."""
    body, content_type = await http.app[SERVICE].render()
    return web.Response(body=body, headers={"Content-Type": content_type})
