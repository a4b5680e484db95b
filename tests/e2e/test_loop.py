"""The whole loop on a real broker: events in, slates out."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from streams.broker.embedded import EmbeddedBroker
from streams.events import Click, Recommendation, UserUpdate, encode
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import topic_name
from streams.worker.process import WorkerProcess
from tests.e2e.client import DEADLINE_S, Client, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker, site

CATALOGUE = (
    film("alien", "Alien (1979)", genre=["Horror", "Sci-Fi"], directed_by=["Ridley Scott"]),
    film("blade", "Blade Runner (1982)", genre=["Sci-Fi"], directed_by=["Ridley Scott"]),
    film("clue", "Clue (1985)", genre=["Comedy", "Sci-Fi"]),
    film("diner", "Diner (1982)", genre=["Comedy", "Drama"]),
    film("evita", "Evita (1996)", genre=["Musical"]),
)


def http(worker: WorkerProcess, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{worker.url}{path}", timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def published(client: Client, worker: WorkerProcess, *items: Any, timeout_s: float = DEADLINE_S) -> None:
    """Publish items and wait until they can be recommended."""
    client.content(*items)
    wanted = {item.item_id for item in items}
    wait_until(
        lambda: wanted <= set(item_ids(client.ask("nobody", k=100))),
        f"{sorted(wanted)} are recommendable",
        timeout_s=timeout_s,
    )


@pytest.fixture(scope="module")
def running(
    broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, WorkerProcess]]:
    """A worker with the catalogue; who uses it has users of their own, and leaves the catalogue as it is."""
    log = tmp_path_factory.mktemp("loop") / "worker.log"
    with site(broker, log, policy="greedy", seen_actions=["like"], recommend_on=["purchase"]) as found:
        published(*found, *CATALOGUE)
        yield found


def test_a_slate_changes_after_a_click_published_before_the_request(
    running: tuple[Client, WorkerProcess],
) -> None:
    client, _ = running
    for user in ("ann", "bob", "cyd"):
        client.click(user, "alien")
        client.click(user, "blade")
    client.click("dan", "diner")
    client.flush()
    before = client.ask("eve", k=3)
    assert len(before.slate) == 3
    client.click("eve", "alien")
    client.flush()
    # A request waits for its user's events; those of other partitions are folded a moment later.
    wait_until(
        lambda: item_ids(client.ask("eve", k=3))[0] == "blade", "what others took after it comes first"
    )
    after = client.ask("eve", k=3)
    assert "alien" not in item_ids(after)
    assert item_ids(after)[0] == "blade"
    reason = after.slate[0].reasons[0]
    assert "Alien (1979)" in reason
    assert "Ridley Scott" in reason


def test_new_content_is_recommendable_at_once_and_a_deleted_item_never_again(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(text_encoder="minilm")
    published(client, worker, *CATALOGUE, timeout_s=150)  # the transformer is loaded first
    client.content(film("fargo", "Fargo (1996)", genre=["Crime"]))
    wait_until(lambda: "fargo" in item_ids(client.ask("ann", k=100)), "fargo is recommendable")
    client.send("content", "alien", None)
    client.flush()
    wait_until(lambda: "alien" not in item_ids(client.ask("ann", k=100)), "alien is gone")
    client.click("ann", "blade")
    client.click("bob", "alien")
    client.flush()
    for user in ("ann", "bob", "cyd"):
        for _ in range(5):
            assert "alien" not in item_ids(client.ask(user, k=100))


def test_a_request_says_what_it_wants(running: tuple[Client, WorkerProcess]) -> None:
    client, _ = running
    later = client.now_ms + 3_600_000
    assert set(item_ids(client.ask("abe", candidates=["clue", "evita", "no such item"]))) == {"clue", "evita"}
    assert "clue" not in item_ids(client.ask("abe", k=100, exclude=["clue"]))
    assert set(item_ids(client.ask("abe", filters={"genre": ["Comedy"]}))) == {"clue", "diner"}
    assert set(item_ids(client.ask("abe", filters={"genre": ["Comedy"], "directed_by": ["nobody"]}))) == set()
    assert len(client.ask("abe", k=2).slate) == 2
    pinned = client.ask("abe", k=3, pinned=["evita", "no such item", "diner"], exclude=["diner"])
    assert item_ids(pinned)[0] == "evita"
    assert pinned.slate[0].propensity == 1.0
    assert not {"diner", "no such item"} & set(item_ids(pinned))
    assert item_ids(client.ask("abe", k=2, pinned=["diner"], boosts={"clue": 100.0})) == ["diner", "clue"]
    client.content(
        replace(CATALOGUE[2], available=False),
        replace(CATALOGUE[3], expires_ms=client.now_ms + 60_000),
        replace(CATALOGUE[4], published_ms=later),
    )
    wait_until(
        lambda: set(item_ids(client.ask("abe", k=100))) == {"alien", "blade", "diner"},
        "clue is unavailable and evita not yet published",
    )
    assert "diner" not in item_ids(client.ask("abe", k=100, timestamp_ms=client.now_ms + 120_000))
    assert "evita" in item_ids(client.ask("abe", k=100, timestamp_ms=later))
    published(*running, *CATALOGUE)


def test_seen_and_blocked_items_stay_away_and_a_slate_is_never_empty_without_need(
    running: tuple[Client, WorkerProcess],
) -> None:
    client, _ = running
    client.click("bea", "alien", "like")
    client.click("bea", "blade", "view")
    client.send("users", "bea", UserUpdate("bea", blocked_items=["clue"], preferences=["Drama"]))
    client.flush()
    wait_until(
        lambda: set(item_ids(client.ask("bea", k=100))) == {"blade", "diner", "evita"}, "clue is blocked"
    )
    pinned = item_ids(client.ask("bea", k=100, pinned=["clue", "alien"]))
    assert pinned[0] == "alien"  # seen and pinned; clue, which she has blocked, stays away
    assert set(pinned) == {"alien", "blade", "diner", "evita"}
    for item in ("blade", "diner", "evita"):
        client.click("bea", item, "like")
    client.flush()
    exhausted = client.ask("bea", k=100)
    assert exhausted.fallback == "all_seen"
    assert set(item_ids(exhausted)) == {"alien", "blade", "diner", "evita"}
    client.send("users", "bea", None)
    client.flush()
    wait_until(lambda: len(client.ask("bea", k=100).slate) == 5, "bea is forgotten")


def test_a_reward_reaches_the_policy_and_the_closed_slate_reaches_feedback(
    client: Client, start_worker: StartWorker
) -> None:
    client.now_ms -= 3_600_000  # a slate closes by event time, but never ahead of the broker's clock
    worker = start_worker(
        policy="softmax",
        attribution_window_ms=60_000,
        attribution_windows_ms={"purchase": 600_000},
        dwell_half_ms={"purchase": 1_000},
        position_bias="learned",
    )
    published(client, worker, *CATALOGUE)
    slate = client.ask("ann", k=3)
    assert all(0 < item.propensity <= 1 for item in slate.slate)
    assert slate.propensity_kind == "exact"
    assert len(slate.features) == 4 * 3 * slate.feature_dim
    chosen = slate.slate[1].item_id
    client.click("ann", chosen, "click", request_id=slate.request_id, position=1)
    client.flush()
    wait_until(
        lambda: worker.metrics().total("rewards_total", outcome="by_request") == 1, "the click is attributed"
    )

    def of_a_later_version() -> Recommendation | None:
        found = client.ask("ann", k=1)
        return found if found.policy_version > slate.policy_version else None

    later = wait_until(of_a_later_version, "the policy learned")
    assert later is not None
    client.click("ann", "evita", "view", timestamp_ms=client.now_ms + 120_000)  # moves the watermark on
    client.flush()
    (closed,) = wait_until(
        lambda: [one for one in client.feedback() if one.request_id == slate.request_id], "the slate closed"
    )
    assert closed.rewards == [0.0, 1.0, 0.0]
    assert closed.actions == [[], ["click"], []]
    assert closed.features == slate.features
    assert not closed.correction
    client.click("ann", chosen, "purchase", timestamp_ms=client.now_ms + 240_000, dwell_ms=3_000)
    client.flush()
    corrected = wait_until(
        lambda: [one for one in client.feedback() if one.correction], "the purchase corrects the feedback"
    )
    assert [(one.request_id, one.rewards) for one in corrected] == [(slate.request_id, [0.0, 4.0, 0.0])]
    versions = {one.request_id: one.policy_version for one in client.feedback()}
    served = (slate, later)
    assert [versions[one.request_id] for one in served] == [one.policy_version for one in served]
    wait_until(
        lambda: 0 < worker.metrics().total("position_examination", position="2") < 1,
        "it is learned that the third position, not taken, may have been overlooked",
    )


def test_the_same_request_id_is_answered_once(running: tuple[Client, WorkerProcess]) -> None:
    client, worker = running
    first = client.ask("ann", request_id="twice")
    client.request("ann", request_id="twice")
    client.ask("ann", request_id="after")
    answers = [slate for slate in client.recommendations() if slate.request_id == "twice"]
    assert answers == [first]
    assert worker.metrics().total("events_total", topic="requests", outcome="duplicate") == 1


def test_clicks_ask_for_slates_by_themselves_when_told_to(running: tuple[Client, WorkerProcess]) -> None:
    client, _ = running
    client.click("gil", "alien", "like")
    bought = client.click("gil", "blade", "purchase")
    client.click("gil", "blade", "view")
    client.flush()
    slate = client.recommendation(f"click:{bought.event_id}")
    assert "alien" not in item_ids(slate)
    client.ask("gil")
    assert [s for s in client.recommendations() if s.request_id.startswith("click:")] == [slate]


def test_http_answers_and_says_what_is_wrong(running: tuple[Client, WorkerProcess]) -> None:
    client, worker = running
    status, slate = http(worker, "/v1/recommendations/ann?k=2&exclude=alien,blade&request_id=h1")
    assert status == 200
    assert len(slate["slate"]) == 2
    assert {item["item_id"] for item in slate["slate"]} <= {"clue", "diner", "evita"}
    assert client.recommendation("h1").slate[0].item_id == slate["slate"][0]["item_id"]
    assert http(worker, "/v1/recommendations/ann?request_id=h1") == (200, slate)
    status, slate = http(worker, "/v1/recommendations/ann?k=2&pinned=evita&boosts=clue:100")
    assert [item["item_id"] for item in slate["slate"]] == ["evita", "clue"]
    for query, reason in (
        ("k=0", "from 1 to 200"),
        ("boosts=clue", "boosts must be item:number pairs, got 'clue'"),
        ("k=x", "whole number"),
        ("n=3", "unknown parameter 'n'"),
    ):
        status, answer = http(worker, f"/v1/recommendations/ann?{query}")
        assert status == 400
        assert reason in answer["detail"]
    assert http(worker, "/v1/recommendations/" + "u" * 600)[0] == 400
    assert http(worker, "/readyz")[0] == 200
    assert http(worker, "/healthz") == (200, {"status": "ok"})


def test_bad_records_go_to_dead_letters_and_the_ones_around_them_are_used(
    running: tuple[Client, WorkerProcess],
) -> None:
    client, worker = running
    bad: list[bytes | None] = [b"", b"{", b"[]", b'{"user_id": 7}', b"\xff\xfe", b'{"item_id": ""}', b"null"]
    bad.append(b'{"user_id":"' + b"u" * 1_000_000 + b'"}')
    sent = {
        "clicks": [*bad, None], "requests": [*bad, None], "content": bad, "users": bad,
    }  # fmt: skip
    client.click("hal", "alien")
    for topic, values in sent.items():
        for value in values:
            client.send(topic, "hal", value)
    client.click("hal", "blade")
    client.flush()
    assert set(item_ids(client.ask("hal", k=100))) == {"clue", "diner", "evita"}
    count = sum(map(len, sent.values()))
    wait_until(lambda: len(client.dead_letters()) >= count, f"{count} dead letters")
    for topic, values in sent.items():
        letters = [one for one in client.dead_letters() if one.topic == client.settings.topic_prefix + topic]
        assert [letter.value for letter in letters][:3] == [b"", b"{", b"[]"], topic
        assert len(letters) == len(values)
        assert all(letter.error for letter in letters)
        assert worker.metrics().total("dead_letters_total", topic=topic) == len(values)


def test_fausts_own_command_line_starts_the_same_worker(client: Client, start_worker: StartWorker) -> None:
    worker = start_worker(command=("faust", "-A", "streams.worker.faust_app", "worker", "--without-web"))
    published(client, worker, *CATALOGUE)
    client.click("ann", "alien")
    client.flush()
    assert "alien" not in item_ids(client.ask("ann", k=5))
    assert http(worker, "/readyz")[0] == 200
    assert worker.stop() == 0


def test_transactions_of_producers_are_read_as_they_were_meant(
    client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    """What was taken back never happened; the markers, which end the log, keep nobody waiting."""

    async def produce() -> None:
        settings = client.settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.topic_prefix
        )
        topic, time_ms = topic_name(settings, "clicks"), client.now_ms
        await producer.start()
        try:
            for number, (item, kept) in enumerate((("alien", True), ("blade", False), ("clue", True))):
                click = encode(Click(f"t{number}", "ann", item, "like", time_ms))
                await producer.begin_transaction()
                partition = partition_of("ann", settings.partitions)
                await producer.send_and_wait(topic, click, b"ann", partition=partition)
                await (producer.commit_transaction() if kept else producer.abort_transaction())
        finally:
            await producer.stop()

    asyncio.run(produce())
    worker = start_worker()  # and it is ready: all there is has been folded
    published(client, worker, *CATALOGUE)
    assert set(item_ids(client.ask("ann", k=5))) == {"blade", "diner", "evita"}
    client.now_ms += 1000
    asyncio.run(produce())  # the same events again, while it runs
    client.click("ann", "diner")
    client.flush()
    assert set(item_ids(client.ask("ann", k=5))) == {"blade", "evita"}
    assert "a request waited" not in (tmp_path / "worker-1.log").read_text()
