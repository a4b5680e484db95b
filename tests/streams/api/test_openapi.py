"""The document says what a worker does: schemathesis asks a live one what the document allows, and more."""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator

import hypothesis
import jsonschema
import pytest
import schemathesis
from schemathesis import GenerationMode

from streams.api.openapi import UNREAD, document
from streams.api.routes import ROUTES, Route
from streams.metrics import tables
from streams.worker.http import HANDLERS
from tests.streams.conftest import Memory
from tests.streams.worker.test_http import listening

CONFIG = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 414, 415, 431]}}}
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A worker with items and a user, answering from a thread of its own."""
    started, loop, found = threading.Event(), asyncio.new_event_loop(), ""

    async def serve() -> None:
        nonlocal found
        memory = Memory.of(partitions=1, http_port=0)
        for item in "abcde":
            memory.events.content(item, attributes={"genre": ["Drama"]})
        memory.events.click("u", "a")
        async with memory.worker() as worker:
            await worker.deliver()
            async with listening(worker) as where:
                found = where.url
                started.set()
                await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(120)
    yield found
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
def test_every_answer_is_as_the_document_says(url: str, route: Route, mode: GenerationMode) -> None:
    api = schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)
    if mode is GenerationMode.NEGATIVE and not (route.parameters or route.body or "{" in route.path):
        return  # nothing can be asked for wrongly

    @hypothesis.given(case=api[route.path][route.method].as_strategy(generation_mode=mode))
    @hypothesis.settings(max_examples=20)
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate()

    ask()


def test_each_route_is_served_documented_and_counted() -> None:
    paths = json.loads(document())["paths"]
    assert {one["operationId"] for path in paths.values() for one in path.values()} == HANDLERS.keys()
    for route in ROUTES:
        counted = tables.ROUTES[route.path.removeprefix("/v1").partition("/{")[0].strip("/")]
        told = {int(status) for status in paths[route.path][route.method.lower()]["responses"]}
        assert told - set(UNREAD) <= set(counted), route.name
        assert set(UNREAD) <= set(tables.ROUTES["other"])


def test_what_a_slate_looks_like_is_in_the_document(url: str) -> None:
    said = json.loads(document())
    with urllib.request.urlopen(f"{url}/v1/recommendations/u?k=2&fields=title") as answer:
        slate = json.load(answer)
    schema = {"$ref": "#/components/schemas/Slate", "components": said["components"]}
    jsonschema.validate(slate, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**slate, "slate": [{"item_id": 3}]}, schema)
