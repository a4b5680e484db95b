"""The release that serves over HTTP, for devices that rank by themselves."""

import asyncio
from pathlib import Path

from aiohttp import web

from streams.api.asking import check_parameters, ids_of_path
from streams.api.problems import NO_STORE, Problem
from streams.on_device.files import FILES, MANIFEST
from streams.serving.lane import Lane
from streams.worker.http_service import SERVICE

FOR_EVER = {"Cache-Control": "max-age=31536000, immutable", "Content-Type": "application/octet-stream"}


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
    lane = check_handed_out(http)
    file = await _found(lane, MANIFEST)
    try:
        body = await asyncio.to_thread(file.read_bytes)
    except FileNotFoundError:
        raise _gone(lane, MANIFEST) from None
    return web.Response(body=body, content_type="application/json", headers=NO_STORE)


async def release_file(http: web.Request) -> web.FileResponse:
    """`GET /v1/release/{version}/{file}`: a file of it, in pieces. A version's files never change."""
    check_parameters(http.query, ())
    ids = ids_of_path(http)
    lane = check_handed_out(http)
    if ids["version"] != lane.version:
        raise Problem(404, f"release {lane.version} serves, and not {ids['version'][:100]!r}")
    if ids["file"] not in FILES:
        raise Problem(404, f"a device reads {', '.join(FILES)}, and not {ids['file'][:100]!r}")
    return web.FileResponse(await _found(lane, ids["file"]), headers=FOR_EVER)


async def _found(lane: Lane, name: str) -> Path:
    assert lane.folder is not None
    file = lane.folder / name
    if not await asyncio.to_thread(file.is_file):  # a worker needs no files once it serves
        raise _gone(lane, name)
    return file


def _gone(lane: Lane, name: str) -> Problem:
    return Problem(404, f"{name} of release {lane.version} is not on this worker any more")
