"""The worker's HTTP server: recommendations, health and metrics. Bound to localhost unless told otherwise."""

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, get_args

from aiohttp import web

from streams.api.address import is_local, reachable_host, url_of
from streams.api.answers import ItemList, slate_body
from streams.api.asking import (
    MAX_BUCKETS,
    OF_LISTS,
    OF_STATE,
    Wanted,
    body_of,
    check_parameters,
    filters_of,
    ids_of_path,
    is_told,
    length_of,
    request_of_body,
    request_of_query,
    values_of,
    whole_number,
)
from streams.api.connections import Runner
from streams.api.cors import allow_origins
from streams.api.door import RETRY_AFTER
from streams.api.guard import Guard
from streams.api.handlers import Handler
from streams.api.openapi import document
from streams.api.problems import NO_STORE, Problem
from streams.api.routes import ROUTES, Place
from streams.api.tls import server_context
from streams.durability.state_rows import Bucket, Kind
from streams.errors import ConfigurationError, OwnershipLost
from streams.events import Recommendation, Request, encode
from streams.kafka.partitioner import partition_of
from streams.serving.explainer import ExplanationError
from streams.serving.gate import Overloaded
from streams.serving.lists import MAX_AGE_S, NAMES
from streams.serving.lists import Wanted as WantedOfList
from streams.serving.outbox import SlateTooLarge
from streams.settings import Settings
from streams.worker.http_door import slate_door
from streams.worker.http_metrics import measured
from streams.worker.http_quarantine import quarantine, quarantined
from streams.worker.http_release import check_handed_out, release, release_file
from streams.worker.http_service import SERVICE, Service, admin_shard, check_answered_here, partition_named

T = TypeVar("T")

log = logging.getLogger(__name__)

PLACES = web.AppKey("places", frozenset[Place])


@dataclass(frozen=True, slots=True)
class Listening:
    """HTTP of a worker, where it listens.

    Attributes
    ----------
    url : where other workers' clients reach it
    admin_url : where metrics and digest are; the same where they have no port of their own
    """

    runners: tuple[web.AppRunner, ...]
    url: str
    admin_url: str

    async def stop(self) -> None:
        """Answer what is being asked, and listen no more."""
        for runner in self.runners:
            await runner.cleanup()


async def start_http(service: Service) -> Listening:
    """Start to serve.

    Raises
    ------
    ConfigurationError
        If the file of tokens, the certificate or its key cannot be used, a port is taken, or no address of
        this machine is found.
    """
    settings, guard = service.settings, Guard.of(service.settings)
    host, port = settings.http_host, settings.http_port
    if settings.admin_port is None:
        runner, port = await _listen(service, guard, ("public", "admin", "both"), host, port)
        url = await _announced(settings, port)
        return Listening((runner,), url, url)
    runner, port = await _listen(service, guard, ("public", "both"), host, port)
    try:
        admin, admin_port = await _listen(
            service, guard, ("admin", "both"), settings.admin_host, settings.admin_port
        )
    except BaseException:
        await runner.cleanup()
        raise
    admin_url = url_of(settings.admin_host, admin_port, tls=settings.http_tls_key is not None)
    return Listening((runner, admin), await _announced(settings, port), admin_url)


async def _listen(
    service: Service, guard: Guard, places: Collection[Place], host: str, port: int
) -> tuple[web.AppRunner, int]:
    """Serve the routes of these places; return the runner and the port."""
    settings = service.settings
    app = web.Application(
        middlewares=[measured(service.metrics)], client_max_size=settings.http_max_body_bytes
    )
    app[SERVICE] = service
    app[PLACES] = frozenset(places)
    for route in ROUTES:
        if route.place in places:
            handler = HANDLERS[route.name]
            if route.scope is not None:
                handler = guard.before(handler, route.scope)
            app.router.add_route(route.method, route.path, handler)
            # A slate is published and learned from: who only looks (HEAD) gets none.
            if route.method == "GET" and route.name != "recommend":
                app.router.add_route("HEAD", route.path, handler)
    allow_origins(app, settings.http_cors_origins)
    runner = Runner(
        app,
        refused=partial(service.metrics.count_http, "other", seconds=0.0),
        door=slate_door(service.settings, service.partitions, service.server, service.metrics)
        if "public" in places
        else None,
        most=settings.http_max_connections,
        idle_s=settings.http_idle_s,
        shutdown_timeout=5.0,
    )
    certificate, key = settings.http_tls_certificate, settings.http_tls_key
    context = None if certificate is None or key is None else server_context(certificate, key)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no address can have
        await runner.cleanup()
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{host}:{port} cannot be listened on: {why}") from None
    if not is_local(host) and not guard.asks_for_tokens:
        log.warning(
            "EVERYBODY WHO REACHES %s:%d MAY ASK FOR SLATES: no bearer token is asked for. "
            "Set http_tokens or http_tokens_file, or bind to 127.0.0.1 behind something that does",
            host, runner.addresses[0][1],
        )  # fmt: skip
    return runner, runner.addresses[0][1]


async def _announced(settings: Settings, port: int) -> str:
    if settings.advertised_url is not None:
        return settings.advertised_url
    host = await asyncio.to_thread(
        reachable_host, settings.http_host, toward=settings.bootstrap_servers.split(",")
    )
    return url_of(host, port, tls=settings.http_tls_key is not None)


async def recommendations(http: web.Request) -> web.Response:
    """`GET /v1/recommendations/{user_id}?k=10&exclude=a,b&pinned=c&boosts=d:0.2&request_id=...`: a slate.

    Answered by the worker that owns the user's partition; any other one redirects to it (307).
    """
    service = http.app[SERVICE]
    user_id = ids_of_path(http)["user_id"]
    wanted = request_of_query(user_id, http.query, k_default=service.settings.k_default)
    return await _slate(http, wanted)


async def posted_recommendations(http: web.Request) -> web.Response:
    """`POST /v1/recommendations/{user_id}`: a slate, what is asked for being in a JSON body (`Asked`)."""
    service = http.app[SERVICE]
    user_id = ids_of_path(http)["user_id"]
    if http.query:
        raise Problem(400, f"unknown parameter {sorted(http.query)[0]!r}; the body says what is asked for")
    body = await body_of(http)
    wanted = request_of_body(user_id, body, k_default=service.settings.k_default)
    return await _slate(http, wanted, nbytes=len(body))


async def _slate(http: web.Request, wanted: Wanted, *, nbytes: int = 0) -> web.Response:
    record = await _answer(http, wanted.request, nbytes=nbytes)
    body = slate_body(record, wanted.request, http.app[SERVICE].title, titles=wanted.titles)
    return web.Response(body=body, content_type="application/json", headers=NO_STORE)


async def _answer(http: web.Request, request: Request, *, nbytes: int = 0) -> Recommendation:
    service = http.app[SERVICE]
    partition = partition_of(request.user_id, service.settings.partitions)
    check_answered_here(http, partition)
    try:
        shard = await service.partitions.shard(partition)
        answer = await _in_time(
            service.server.answer(request, shard, received=time.time(), nbytes=nbytes),
            service.settings.session_timeout_ms / 1000,
        )
    except TimeoutError:
        raise Problem(503, "the broker did not take the slate in time; it may still be published") from None
    except OwnershipLost:
        raise Problem(503, f"partition {partition} is going to another worker; try again") from None
    except Overloaded as error:
        service.metrics.count_events("requests", "refused")
        detail = f"overloaded: {error}; try again"
        raise Problem(503, detail, headers=RETRY_AFTER) from None
    except SlateTooLarge as error:
        raise Problem(413, str(error)) from None
    if answer is None:
        raise Problem(
            409,
            f"request_id {request.request_id[:100]!r} has been answered, and its slate is not at hand any "
            "more, or another user's",
        )
    return answer


async def _in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Return what the work returns, or raise TimeoutError and let it go on: its slate may be on its way."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        raise TimeoutError
    if task.cancelled():  # with the first request of the same id
        raise OwnershipLost
    return task.result()


async def explanations(http: web.Request) -> web.Response:
    """`GET /v1/explanations/{user_id}/{item_id}`: what the item's score for the user is made of, now.

    Answered by the worker that owns the user's partition; any other one redirects to it (307).
    """
    service = http.app[SERVICE]
    ids = ids_of_path(http)
    check_parameters(http.query, ())
    partition = partition_of(ids["user_id"], service.settings.partitions)
    check_answered_here(http, partition)
    try:
        explainer = service.explainer(ids["user_id"])
        answer = await explainer.explain(ids["user_id"], ids["item_id"], partition)
    except ExplanationError as error:
        raise Problem(error.status, str(error)) from None
    return web.Response(body=encode(answer), content_type="application/json", headers=NO_STORE)


async def user_state(http: web.Request) -> web.Response:
    """`GET /v1/users/{user_id}`: what is known of a user.

    Answered by the worker that owns the user's partition; any other one redirects to it (307).
    """
    service = http.app[SERVICE]
    user_id = ids_of_path(http)["user_id"]
    partition = partition_of(user_id, service.settings.partitions)
    check_answered_here(http, partition)
    found = service.inspector.user(user_id, await service.partitions.shard(partition))
    if found is None:
        raise Problem(404, f"user {user_id!r} is not known: no click, and nothing stated")
    return web.Response(body=encode(found), content_type="application/json", headers=NO_STORE)


async def item_state(http: web.Request) -> web.Response:
    """`GET /v1/items/{item_id}`: what is known of an item, by any worker."""
    item_id = ids_of_path(http)["item_id"]
    found = http.app[SERVICE].inspector.item(item_id)
    if found is None:
        raise Problem(404, f"item {item_id!r} is not known: never described, and never met")
    return web.Response(body=encode(found), content_type="application/json", headers=NO_STORE)


async def item_list(http: web.Request) -> web.Response:
    """`GET /v1/lists/{name}?k=10&exclude=a,b&filter=genre:Crime`: what is trending, popular or fresh."""
    name = ids_of_path(http)["name"]
    if name not in NAMES:
        raise Problem(
            404, f"list {name[:100]!r} is not known; known: {', '.join(NAMES)}, similar/{{item_id}}"
        )
    wanted = _wanted_of_list(http)
    return await _listed(http, await http.app[SERVICE].lists.of(name, wanted))


async def similar_items(http: web.Request) -> web.Response:
    """`GET /v1/lists/similar/{item_id}?k=10`: what is met together with an item, by any worker."""
    item_id = ids_of_path(http)["item_id"]
    found = await http.app[SERVICE].lists.similar(item_id, _wanted_of_list(http))
    if found is None:
        raise Problem(404, f"item {item_id!r} is not known: never described, and never met")
    return await _listed(http, found)


def _wanted_of_list(http: web.Request) -> WantedOfList:
    check_parameters(http.query, OF_LISTS)
    if is_told(http.query, "ranking"):
        check_handed_out(http)
    k = length_of(http.query, http.app[SERVICE].settings.k_default)
    return WantedOfList(k, filters_of(http.query), values_of(http.query, "exclude"))


async def _listed(http: web.Request, found: ItemList) -> web.Response:
    if is_told(http.query, "ranking"):
        found = await http.app[SERVICE].ranking.beside(found)
    headers = {"Cache-Control": f"max-age={MAX_AGE_S:.0f}"}
    return web.Response(body=encode(found), content_type="application/json", headers=headers)


async def state_digest(http: web.Request) -> web.Response:
    """Answer with the digest of the state and the offsets folded; slow, for checks and not for monitoring."""
    return web.json_response(http.app[SERVICE].digest(), headers=NO_STORE)


async def partition_state(http: web.Request) -> web.Response:
    """`GET /v1/state/{partition}/{kind}?bucket=3&of=64&rows=true`: a part of an owned partition's state.

    A worker that does not own the partition redirects to the one that does (307), where both answer on one
    port; else each must be asked.
    """
    service = http.app[SERVICE]
    ids = ids_of_path(http)
    check_parameters(http.query, OF_STATE)
    of = whole_number(http.query, "of", 1, least=1, most=MAX_BUCKETS)
    bucket = whole_number(http.query, "bucket", 0, least=0, most=MAX_BUCKETS - 1)
    if (rows := http.query.get("rows", "false")) not in ("true", "false"):
        raise Problem(400, f"rows must be true or false, got {rows[:20]!r}")
    if ids["kind"] not in get_args(Kind):
        raise Problem(404, f"there is no such state; there is that of kinds {', '.join(get_args(Kind))}")
    shard = await admin_shard(http, partition_named(http, ids["partition"]))
    found = await service.state(shard, ids["kind"], Bucket(bucket, of), tell_rows=rows == "true")
    return web.Response(body=encode(found), content_type="application/json", headers=NO_STORE)


async def healthz(http: web.Request) -> web.Response:
    """Answer 200 while the process works."""
    return web.json_response({"status": "ok"}, headers=NO_STORE)


async def readyz(http: web.Request) -> web.Response:
    """Answer 200 once state is restored and caught up, else 503 with what is missing."""
    partitions = http.app[SERVICE].partitions
    ready = partitions.is_ready()
    return web.json_response(partitions.readiness(), status=200 if ready else 503, headers=NO_STORE)


async def metrics(http: web.Request) -> web.Response:
    """Answer with Prometheus's text format."""
    body, content_type = await http.app[SERVICE].render()
    return web.Response(body=body, headers={"Content-Type": content_type, **NO_STORE})


async def openapi(http: web.Request) -> web.Response:
    """Answer with the OpenAPI document of what this port answers."""
    headers = {"Cache-Control": "public, max-age=300"}
    return web.Response(body=document(http.app[PLACES]), content_type="application/json", headers=headers)


HANDLERS: dict[str, Handler] = {
    "recommend": recommendations,
    "recommendByBody": posted_recommendations,
    "explain": explanations,
    "user": user_state,
    "item": item_state,
    "list": item_list,
    "similar": similar_items,
    "release": release,
    "releaseFile": release_file,
    "digest": state_digest,
    "state": partition_state,
    "quarantined": quarantined,
    "quarantine": quarantine,
    "metrics": metrics,
    "healthz": healthz,
    "readyz": readyz,
    "openapi": openapi,
}
"""The handler of each of `streams.api.routes.ROUTES`."""
