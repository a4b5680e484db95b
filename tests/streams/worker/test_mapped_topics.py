"""A worker on topics of another shape does what it does on its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.partitioner import partition_of
from streams.testing.events import MemoryEvents
from tests.streams.conftest import Memory

NOW = 1_700_000_000_000
PLACE = partition_of("u", 2)
MAPPING = """
[[source]]
topic = "shop.events"
feeds = "clicks"
where = [{ path = "bot", is_not = true }]
[source.fields]
event_id = "id"
user_id = "who"
item_id = "object.sku"
action = { path = "type", values = { seen = "view", bought = "purchase" } }
timestamp_ms = { path = "at", unit = "s" }
request_id = "slate"

[[source]]
topic = "shop.items"
feeds = "content"
key = "$key.sku"
[source.fields]
item_id = "sku"
title = "name"
attributes.genre = { path = "tags", split = "," }

[[source]]
topic = "shop.people"
feeds = "users"
[source.fields]
user_id = "who"
preferences = "likes"

[[source]]
topic = "shop.asks"
feeds = "requests"
[source.fields]
user_id = "who"
request_id = "id"
timestamp_ms = { path = "at", unit = "s" }
k = { constant = 2 }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Memory:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    return Memory.of(mapping=tmp_path / "mapping.toml")


def say(shop: Memory, topic: str, value: Any, *, key: bytes | None = b"u") -> int:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return shop.log.append(topic, PLACE, [(key, raw)])


def bought(shop: Memory, sku: str, number: int, **changes: Any) -> int:
    at = int(shop.clock.time())
    event = {"id": f"e{number}", "who": "u", "object": {"sku": sku}, "type": "bought", "at": at}
    return say(shop, "shop.events", {**event, **changes})


def describe(shop: Memory, *skus: str) -> None:
    for sku in skus:
        item = {"sku": sku, "name": f"Item {sku}", "tags": "a, b"}
        say(shop, "shop.items", item, key=json.dumps({"sku": sku}).encode())


async def test_what_the_topics_say_is_folded_and_slates_come_back(shop: Memory) -> None:
    describe(shop, "i1", "i2", "i3")
    say(shop, "shop.people", {"who": "u", "likes": ["a"]})
    bought(shop, "i1", 1)
    bought(shop, "i2", 2, bot=True)
    say(shop, "shop.asks", {"who": "u", "id": "r1", "at": int(shop.clock.time())})
    async with shop.worker() as worker:
        await worker.deliver()
        await worker.flush()
        committed = worker.commit()
        (slate,) = shop.events.recommendations()
        assert (slate.request_id, sorted(item.item_id for item in slate.slate)) == ("r1", ["i2", "i3"])
        shard = await worker.parts.partitions.shard(PLACE)
        row = shard.profiles.row_of("u")
        assert shard.profiles.events(row) == 1
        assert shard.profiles.stated.of(row).preferences == ["a"]
        assert committed["shop.events", PLACE] == 2
        assert shop.events.dead_letters() == []
        catalogue, index = worker.parts.shared.catalogue, worker.parts.shared.index
        assert catalogue.n_live == 3
        assert index.row_of("i1") >= 0


async def test_users_by_keys_that_are_no_text_are_refused_and_the_next_start_succeeds(tmp_path: Path) -> None:
    fields = MAPPING.replace('user_id = "who"', 'user_id = "$key"', 1)
    (tmp_path / "mapping.toml").write_text(fields)
    shop = Memory.of(mapping=tmp_path / "mapping.toml")
    at = int(shop.clock.time())
    for number, key in enumerate((b"u", b"\xff", b"\xfe\xfe", "ü".encode(), b"\xed\xa0\x80", b"u")):
        event = {"id": f"e{number}", "object": {"sku": "i1"}, "type": "bought", "at": at}
        say(shop, "shop.events", event, key=key)
    for _ in range(2):
        async with shop.worker() as worker:
            await worker.deliver()
            await worker.flush()
            worker.commit()
            shard = await worker.parts.partitions.shard(PLACE)
            assert shard.profiles.events(shard.profiles.row_of("u")) == 2
            assert [letter.reason for letter in shop.events.dead_letters()] == ["invalid"] * 3


async def test_a_click_that_names_its_slate_is_rewarded_once_whatever_is_read_again(shop: Memory) -> None:
    describe(shop, "i1", "i2", "i3")
    say(shop, "shop.asks", {"who": "u", "id": "r1", "at": int(shop.clock.time())})
    async with shop.worker() as worker:
        await worker.deliver()
        (slate,) = shop.events.recommendations()
        bought(shop, slate.slate[0].item_id, 1, slate="r1")
        await worker.deliver()
        await worker.flush()
        rewards = worker.parts.metrics.render()[0].decode()
        assert 'slatestream_rewards_total{outcome="by_request"} 1.0' in rewards
        digest = worker.digest()
    async with shop.worker() as worker:  # nothing was committed: all is read again
        await worker.deliver()
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.profiles.events(shard.profiles.row_of("u")) == 1
        assert worker.digest() == digest
        assert len(shop.events.recommendations()) == 1


EVENT = {"id": "e", "who": "u", "object": {"sku": "i"}, "type": "seen", "at": 1_700_000_000}
BAD = [
    ("shop.events", {"id": "e", "who": "u"}, "mapping", "item_id: nothing at `object.sku`"),
    ("shop.events", {**EVENT, "type": "lost"}, "unknown_action", "'lost'"),
    ("shop.events", {**EVENT, "object": {"sku": 1}}, "invalid", "it comes from `object.sku`"),
    ("shop.events", {**EVENT, "at": 1_900_000_000}, "future", "ahead of the broker"),
    ("shop.events", None, "null_value", "means nothing on shop.events"),
    ("shop.events", b"\x00\x00\x00\x00\x01", "invalid", "schema registry"),
    ("shop.items", {"sku": "i"}, "mapping", "title: nothing at `name`: the value has sku"),
    ("shop.people", {"who": "u", "likes": "jazz"}, "invalid", "it comes from `likes`"),
    ("shop.asks", {"who": "u", "id": "r", "at": 1_900_000_000}, "future", "ahead of the broker"),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "value", "reason", "words"), BAD)
async def test_a_bad_record_is_a_dead_letter_of_its_own_bytes_and_place(
    shop: Memory, topic: str, value: Any, reason: str, words: str
) -> None:
    shop.log.skip(topic, PLACE, 2)
    offset = say(shop, topic, value)
    async with shop.worker() as worker:
        await worker.deliver()
        await worker.flush()
        committed = worker.commit()
        (letter,) = shop.events.dead_letters()
        assert (letter.topic, letter.partition, letter.offset) == (topic, PLACE, offset)
        assert letter.reason == reason
        assert words in letter.error
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        assert letter.value == (raw or b"")
        assert committed[topic, PLACE] == offset + 1


async def test_a_null_value_deletes_the_item_that_its_key_names(shop: Memory) -> None:
    describe(shop, "i1", "i2")
    async with shop.worker() as worker:
        await worker.deliver()
        say(shop, "shop.items", None, key=b'{"sku": "i1"}')
        say(shop, "shop.people", None)
        await worker.deliver()
        assert worker.parts.shared.catalogue.n_live == 1


async def test_the_fold_is_that_of_the_same_clicks_on_a_topic_of_our_own(shop: Memory) -> None:
    plain = Memory.of()
    events: MemoryEvents = plain.events
    async with shop.worker() as mapped, plain.worker() as worker:
        for number in range(30):
            bought(shop, f"i{number % 7}", number)
            events.raw("clicks", "u", json.dumps({
                "event_id": f"e{number}", "user_id": "u", "item_id": f"i{number % 7}", "action": "purchase",
                "timestamp_ms": int(shop.clock.time()) * 1000,
            }).encode())  # fmt: skip
        await mapped.deliver(most=8)
        await worker.deliver(most=11)
        assert mapped.digest() == worker.digest()
