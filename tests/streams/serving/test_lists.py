"""Lists of a worker whose log is in memory, over HTTP."""

import time

import pytest

from model_core.signals.horizons import DAY_MS, HOUR_MS
from streams.client.http import HttpError
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import listening
from tests.streams.worker.test_http_client import asking


async def test_an_explanation_says_how_often_an_item_was_taken_in_the_last_hour(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=2, http_port=0)
    memory.clock.now_ms = int(time.time() * 1000)
    for item in ("hot", "cold"):
        memory.events.content(item)
    for n in range(60):
        ago_ms = n * HOUR_MS // 20  # of a stream of 20 an hour
        memory.events.click(f"u{n}", "hot", "like", timestamp_ms=memory.clock.now_ms - ago_ms)
        memory.events.click(f"u{n}", "cold", "like", timestamp_ms=memory.clock.now_ms - DAY_MS)
    async with memory.worker() as worker:
        await worker.deliver()
        async with listening(worker) as found:
            hot = await asking(found.url, lambda client: client.explain("u59", "hot"))
            cold = await asking(found.url, lambda client: client.explain("u59", "cold"))
    (told,) = [one for one in hot.reasons if "last hour" in one]
    assert 15 <= int(told.removeprefix("taken by about ").split()[0]) <= 20
    assert not any("last hour" in one for one in cold.reasons)


async def test_each_list_has_its_own_order_and_filters_choose_from_it(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=2, http_port=0)
    now = memory.clock.now_ms
    ages = {"evergreen": 40, "hot": 9, "dated": None, "unmet": None}
    for item in ages:
        published = now - HOUR_MS if item == "dated" else None
        memory.events.content(item, item.title(), attributes={"kind": [item[0]]}, published_ms=published)
    for n in range(40):
        memory.events.click(f"u{n}", "evergreen", "like", timestamp_ms=now - 10 * DAY_MS + n * 6 * HOUR_MS)
    for n in range(9):
        memory.events.click(f"u{n}", "hot", "like", timestamp_ms=now - n * 60_000)
        memory.events.click(f"u{n}", "never described", "like", timestamp_ms=now)
    async with memory.worker() as worker:
        await worker.deliver()
        async with listening(worker) as found:

            async def named(name, k=10, **others):
                answer = await asking(found.url, lambda client: client.list(name, k, **others))
                assert answer.name == name
                assert answer.as_of_ms == now
                return [one.item_id for one in answer.items]

            assert await named("popular") == ["evergreen", "hot"]
            assert (await named("trending"))[0] == "hot"
            assert await named("fresh") == ["hot", "dated", "evergreen"]
            assert await named("fresh", k=1) == ["hot"]
            assert await named("fresh", exclude=["hot", "gone"]) == ["dated", "evergreen"]
            assert await named("fresh", filters={"kind": ["h", "e"]}) == ["hot", "evergreen"]
            assert await named("fresh", filters={"kind": ["none"]}) == []
            similar = await asking(found.url, lambda client: client.similar("hot", 5))
            assert [(one.item_id, one.title) for one in similar.items] == [("evergreen", "Evergreen")]
            assert similar.item_id == "hot"
            for ask, why in (
                (lambda client: client.list("best"), "list 'best' is not known; known: trending"),
                (lambda client: client.similar("nothing"), "item 'nothing' is not known"),
            ):
                with pytest.raises(HttpError, match=why) as refused:
                    await asking(found.url, ask)
                assert refused.value.status == 404
            for k in (10**12, 200_000_000_000_000, "0000000050000", "000000001" + "0" * 5000):
                with pytest.raises(HttpError, match="k must be a whole number") as refused:
                    await named("popular", k=k)
                assert refused.value.status == 400
            # What has come since is in the list a second later, and not before.
            memory.events.click("v", "unmet", "like", timestamp_ms=now)
            await worker.deliver()
            assert "unmet" not in await named("popular")
            memory.clock.move(1_000)
            assert "unmet" in await named("popular")
