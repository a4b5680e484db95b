"""What is told of a user and an item, over HTTP."""

import pytest

from streams.api.answers import decode_item_state, decode_user_state
from tests.streams.conftest import MakeMemory
from tests.streams.worker.test_http import http


async def test_a_user_is_told_with_history_affinities_and_what_is_stated(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, http_port=0)
    memory.events.content("a", "Alien", attributes={"genre": ["Horror", "Sci-Fi"]})
    memory.events.content("b", "Heat", attributes={"genre": ["Crime"]})
    memory.events.user("u", attributes={"age": "30"}, preferences=["Drama"], blocked_items=["b"])
    for item, action in (("b", "view"), ("a", "like"), ("a", "click")):
        memory.events.click("u", item, action)
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            base = url.removesuffix("/v1/recommendations/u")
            async with client.get(f"{base}/v1/users/u") as answer:
                user = decode_user_state(await answer.read())
            async with client.get(f"{base}/v1/users/nobody") as answer:
                assert answer.status == 404
                assert "'nobody' is not known" in (await answer.json())["detail"]
    assert (user.events, user.actions) == (3, {"view": 1, "click": 1, "like": 1})
    assert [(met.title, met.action) for met in user.history] == [
        ("Alien", "click"),
        ("Alien", "like"),
        ("Heat", "view"),
    ]
    weights = {one.name: one.weight for one in user.affinities}
    assert weights["Horror"] == weights["Sci-Fi"] == pytest.approx(3.0, rel=0.01)
    assert weights["Crime"] == pytest.approx(0.2, rel=0.01)
    assert [one.name for one in user.affinities][-1] == "Crime"
    assert (user.attributes, user.preferences, user.blocked_items) == ({"age": "30"}, ["Drama"], ["b"])


async def test_an_item_is_told_with_content_popularity_and_neighbours(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=2, http_port=0)
    memory.events.content("a", "Alien", attributes={"genre": ["Horror"]})
    memory.events.content("b", "Heat")
    for user in "uvw":
        memory.events.click(user, "a", "like")
        memory.events.click(user, "b", "like")
    memory.events.click("u", "never described")
    async with memory.worker() as worker:
        await worker.deliver()
        async with http(worker) as (client, url):
            base = url.removesuffix("/v1/recommendations/u")
            async with client.get(f"{base}/v1/items/a") as answer:
                item = decode_item_state(await answer.read())
            async with client.get(f"{base}/v1/items/never%20described") as answer:
                other = decode_item_state(await answer.read())
            async with client.get(f"{base}/v1/items/z") as answer:
                assert answer.status == 404
    assert (item.title, item.described, item.popularity) == ("Alien", True, 3)
    assert item.edges == [("genre", "Horror")]
    assert [(one.name, one.title) for one in item.neighbours][0] == ("b", "Heat")
    assert (other.described, other.eligible, other.popularity) == (False, False, 1)
