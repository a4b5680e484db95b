"""Quarantine over HTTP, for operators."""

import msgspec
from aiohttp import web

from streams.api.asking import Holding, body_of, check_parameters, ids_of_path
from streams.api.problems import NO_STORE, Problem
from streams.errors import OwnershipLost
from streams.events import UNDECODABLE, encode
from streams.kafka.partitioner import partition_of
from streams.worker.http_service import SERVICE, admin_shard, partition_named

_decode = msgspec.json.Decoder(Holding).decode


async def quarantined(http: web.Request) -> web.Response:
    """`GET /v1/quarantined/{partition}`: who of an owned partition is or was in quarantine."""
    check_parameters(http.query, ())
    shard = await admin_shard(http, partition_named(http, ids_of_path(http)["partition"]))
    service = http.app[SERVICE]
    return _json(service.quarantines.of(shard, service.suspects.of(shard)))


async def quarantine(http: web.Request) -> web.Response:
    """`POST /v1/quarantine/{user_id}`: put a user into quarantine, or let one go (`Holding`)."""
    service = http.app[SERVICE]
    user_id = ids_of_path(http)["user_id"]
    try:
        wanted = _decode(await body_of(http))
    except UNDECODABLE as error:
        raise Problem(400, f"the body must be a Holding: {error}") from None
    shard = await admin_shard(http, partition_of(user_id, service.settings.partitions))
    try:
        if wanted.held:
            return _json(await service.quarantines.hold(shard, user_id, why=wanted.why))
        if (found := await service.quarantines.release(shard, user_id)) is not None:
            return _json(found)
    except OwnershipLost:
        raise Problem(503, f"partition {shard.partition} is going to another worker; try again") from None
    # Not a 404, which says that another worker is to be asked.
    raise Problem(409, f"user {user_id!r} has never been in quarantine")


def _json(answer: msgspec.Struct) -> web.Response:
    return web.Response(body=encode(answer), content_type="application/json", headers=NO_STORE)
