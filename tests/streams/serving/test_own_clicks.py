import asyncio
import logging
import time
from types import SimpleNamespace

import pytest
from aiokafka.errors import NodeNotReadyError

from streams.kafka.progress import Progress
from streams.serving.own_clicks import ASKED_APART_S, OwnClicks


def shard(partition=0, position=0):
    return SimpleNamespace(partition=partition, clicks=Progress(position))


class Broker:
    """Answers one question at a time, when told to."""

    def __init__(self):
        self.asked = []
        self.answers = asyncio.Queue()

    async def ends(self, partitions):
        self.asked.append(sorted(partitions))
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_request_waits_until_the_clicks_before_it_are_folded():
    broker, one = Broker(), shard(position=3)
    own = OwnClicks(broker.ends, timeout_ms=60_000)
    waiting = asyncio.ensure_future(own.wait(one, "u"))
    broker.answers.put_nowait({0: 5})
    await turn()
    one.clicks.advance(4)
    await turn()
    assert not waiting.done()
    one.clicks.advance(5)
    await asyncio.wait_for(waiting, 120)


async def test_requests_that_come_during_a_question_share_the_next_one_whatever_their_partition():
    broker = Broker()
    own = OwnClicks(broker.ends, timeout_ms=60_000)
    first = asyncio.ensure_future(own.wait(shard(0), "u"))
    await turn()
    rest = [asyncio.ensure_future(own.wait(shard(partition), "u")) for partition in (1, 0, 1)]
    await turn()
    assert broker.asked == [[0]]
    broker.answers.put_nowait({0: 0})
    await turn()
    assert first.done()
    assert broker.asked == [[0], [0, 1]]
    broker.answers.put_nowait({0: 0, 1: 0})
    await asyncio.wait_for(asyncio.gather(*rest), 120)


async def test_every_wait_ends_in_time(caplog):
    broker = Broker()
    own = OwnClicks(broker.ends, timeout_ms=5)
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(own.wait(shard(), "u"), 120)  # the broker says nothing
        broker.answers.put_nowait({0: 9})
        await asyncio.wait_for(own.wait(shard(), "u"), 120)  # nor are the clicks ever folded
    assert [record.message for record in caplog.records] == [
        "partition 0: the broker did not say in time where clicks end"
    ], "said once for a burst"
    await own.stop()


async def test_where_the_broker_does_not_answer_a_request_goes_on_without_and_the_log_says_so(caplog):
    broker, one = Broker(), shard(position=3)
    own = OwnClicks(broker.ends, timeout_ms=60_000)
    broker.answers.put_nowait(NodeNotReadyError("away"))
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(own.wait(one, "u"), 120)
    assert "does not say where clicks end" in caplog.text
    broker.answers.put_nowait({0: 3})
    await asyncio.wait_for(own.wait(one, "u"), 120)
    assert broker.asked == [[0], [0]]


async def test_without_a_time_to_wait_nobody_is_asked():
    broker = Broker()
    await OwnClicks(broker.ends, timeout_ms=0).wait(shard(), "u")
    assert broker.asked == []


async def test_where_the_end_is_known_nobody_is_asked():
    broker, one = Broker(), shard(position=3)
    own = OwnClicks(broker.ends, timeout_ms=60_000)
    waiting = asyncio.ensure_future(own.wait(one, "u", end=5))
    await turn()
    assert not waiting.done()
    one.clicks.advance(5)
    await asyncio.wait_for(waiting, 120)
    assert broker.asked == []


class Reads:
    """Clicks, 1,000 a second, that are read every 10 ms of a clock moved by hand; of partition 0 few."""

    def __init__(self):
        self.now_s = 100.0
        self.broker = Broker()
        self.own = OwnClicks(self.broker.ends, timeout_ms=60_000, now=lambda: self.now_s)
        self.others = 0

    def read(self, times=1, *, end=5, asked_before_s=0.0, others=10):
        for _ in range(times):
            self.now_s += 0.01
            self.others += others
            self.own.told(self.now_s - asked_before_s, {0: end, 1: self.others})


async def test_where_clicks_are_read_all_the_time_the_next_fetch_says_where_they_end():
    clicks, one = Reads(), shard(position=3)
    clicks.read(40)
    waiting = asyncio.ensure_future(clicks.own.wait(one, "u"))
    await turn()
    clicks.read(end=3, asked_before_s=0.011)  # sent before the request came: it may have missed a click
    await turn()
    assert not waiting.done()
    clicks.read(end=5)
    await turn()
    assert not waiting.done()
    one.clicks.advance(5)
    await asyncio.wait_for(waiting, 5)


async def test_the_broker_is_asked_where_the_next_fetch_does_not_come():
    clicks, one = Reads(), shard(position=3)
    clicks.read(40)
    clicks.broker.answers.put_nowait({0: 3})
    await asyncio.wait_for(clicks.own.wait(one, "u"), 5)
    assert clicks.broker.asked == [[0]]


@pytest.mark.parametrize(("others", "pause_s"), [(1, 0.0), (10, 0.5)])
async def test_the_broker_is_asked_at_once_where_clicks_come_seldom(others, pause_s):
    clicks = Reads()
    clicks.read(40, others=others)
    clicks.now_s += pause_s
    waiting = asyncio.ensure_future(clicks.own.wait(shard(), "u"))
    await turn()
    assert clicks.broker.asked == [[0]]
    clicks.broker.answers.put_nowait({0: 0})
    await asyncio.wait_for(waiting, 5)


async def test_who_has_asked_the_broker_does_not_stay_with_those_who_hope_for_the_next_read():
    broker, now = Broker(), 0.0
    own = OwnClicks(broker.ends, timeout_ms=60_000, now=lambda: now)
    for n in range(60):  # clicks are read all the time
        now += 0.001
        own.told(now, {0: 100 * n})
    for n in range(1, 4):
        waiting = asyncio.ensure_future(own.wait(shard(position=6_000), "u"))
        broker.answers.put_nowait({0: 0})
        await asyncio.wait_for(waiting, 120)
        assert (len(broker.asked), len(own._hoping[0])) == (n, 1)


async def test_questions_lie_as_far_apart_as_batches_take_and_those_who_wait_share_one():
    broker = Broker()
    own = OwnClicks(broker.ends, timeout_ms=60_000)
    for _ in range(50):
        own.took(1.0)
    broker.answers.put_nowait({0: 0})
    await asyncio.wait_for(own.wait(shard(), "u"), 120)
    began = time.monotonic()
    for _ in range(3):
        broker.answers.put_nowait({0: 0, 1: 0})
    waiting = [asyncio.ensure_future(own.wait(shard(partition), "u")) for partition in (0, 1, 0)]
    await asyncio.wait_for(asyncio.gather(*waiting), 120)
    assert broker.asked == [[0], [0, 1]]
    assert time.monotonic() - began >= 0.9 * ASKED_APART_S
