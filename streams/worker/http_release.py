"""The release that serves over HTTP, for devices that rank by themselves."""

import asyncio

from aiohttp import web

from streams.api.asking import check_parameters, ids_of_path
from streams.api.problems import NO_STORE, Problem
from streams.on_device.files import FILES, MANIFEST
from streams.serving.lane import Lane
from streams.worker.http_service import SERVICE

FOR_EVER = {"Cache-Control": "max-age=31536000, immutable"}


def check_handed_out(http: web.Request) -> Lane:
    """Return the lane that serves; a problem where devices may have nothing of it, or there is no release."""
    service = http.app[SERVICE]
    lane = service.lanes.serving
    if not service.settings.http_release_files:
        raise Problem(404, "this worker hands out no release: http_release_files is off")
    if lane.folder is None:
        raise Problem(404, "no release serves: there is nothing that a device could rank by")
    return lane


async def release(http: web.Request) -> web.Response:
    """`GET /v1/release`: the manifest of the release that serves."""
    check_parameters(http.query, ())
    body = await _read(check_handed_out(http), MANIFEST)
    return web.Response(body=body, content_type="application/json", headers=NO_STORE)


async def release_file(http: web.Request) -> web.Response:
    """`GET /v1/release/{version}/{file}`: a file of it. A version's files never change."""
    check_parameters(http.query, ())
    ids = ids_of_path(http)
    lane = check_handed_out(http)
    if ids["version"] != lane.version:
        raise Problem(404, f"release {lane.version} serves, and not {ids['version'][:100]!r}")
    if ids["file"] not in FILES:
        raise Problem(404, f"a device reads {', '.join(FILES)}, and not {ids['file'][:100]!r}")
    body = await _read(lane, ids["file"])
    return web.Response(body=body, content_type="application/octet-stream", headers=FOR_EVER)


async def _read(lane: Lane, name: str) -> bytes:
    assert lane.folder is not None
    try:
        return await asyncio.to_thread((lane.folder / name).read_bytes)
    except FileNotFoundError:  # a worker needs no files once it serves
        raise Problem(404, f"{name} of release {lane.version} is not on this worker any more") from None
