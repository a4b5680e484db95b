import asyncio
import random
from collections import deque
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.serving.gate import (
    FIRST,
    PRODUCTIVE,
    STANDING,
    STANDING_S,
    Gate,
    Overloaded,
    Throughput,
    Ticket,
)


async def test_what_has_no_room_is_refused_until_there_is_room_again():
    gate = Gate(max_requests=2, max_bytes=100)
    with gate.admit(10):
        with gate.admit(10), pytest.raises(Overloaded, match="2 requests in flight"):
            gate.admit(10)
        assert gate.in_flight == 1
        with gate.admit(10):
            assert gate.nbytes == 20
    assert (gate.in_flight, gate.nbytes) == (0, 0)


async def test_bytes_are_bounded_but_one_request_alone_always_comes_in():
    gate = Gate(max_requests=10, max_bytes=100)
    with gate.admit(1000), pytest.raises(Overloaded):
        gate.admit(1)
    with gate.admit(60), pytest.raises(Overloaded):
        gate.admit(41)


async def test_what_waits_comes_in_in_order_and_is_not_passed_by():
    gate = Gate(max_requests=1, max_bytes=100)
    first = gate.admit(1)
    waiting = [asyncio.ensure_future(gate.wait(1)) for _ in range(2)]
    await asyncio.sleep(0)
    with first:
        pass
    with pytest.raises(Overloaded):
        gate.admit(1)
    with await waiting[0]:
        await asyncio.sleep(0)
        assert not waiting[1].done()
    with await waiting[1]:
        pass
    assert gate.in_flight == 0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_the_time_of_large_batches_is_told_from_small_ones_of_different_sizes():
    throughput = Throughput(32)
    for number in range(FIRST):
        assert throughput.seconds(32) == 0.0
        size = 1 + number % 3
        throughput.took(size, 0.010 + 0.001 * size)
    assert throughput.seconds(1) == pytest.approx(0.011)
    assert throughput.seconds(32) == pytest.approx(0.042)
    assert throughput.seconds(320) == pytest.approx(0.42)
    m = throughput.productive
    assert m / (0.010 + 0.001 * m) == pytest.approx(PRODUCTIVE * 32 / 0.042)


def test_of_batches_of_one_size_no_price_of_a_request_is_told_and_no_batch_costs_less_than_nothing():
    alike, falling, steep = Throughput(32), Throughput(32), Throughput(32)
    for number in range(4 * FIRST):
        alike.took(4, 0.02)
        falling.took(1 + number % 2, 0.02 - 0.005 * (number % 2))
        steep.took(10 + number % 2, 0.01 + 0.01 * (number % 2))
    assert alike.seconds(1) == alike.seconds(32) == pytest.approx(0.02)
    assert falling.seconds(1) == falling.seconds(32) > 0
    assert steep.seconds(0) == pytest.approx(0.0)
    assert steep.productive == pytest.approx(1.0, abs=1.0)
    assert alike.productive == pytest.approx(PRODUCTIVE * 32)
    assert 0 < steep.seconds(1) < steep.seconds(32)


def test_what_takes_longer_than_it_has_is_learned_and_forgotten():
    throughput = Throughput(32)
    for _ in range(200):
        throughput.took(20, 0.05)
    for _ in range(200):
        throughput.took(1, 0.5)
    assert throughput.seconds(1) == pytest.approx(0.5)


async def test_a_burst_may_be_as_long_as_the_bound_and_a_queue_that_stands_a_share_of_it():
    clock = Clock()
    gate = Gate(max_requests=1_000, max_bytes=10_000, max_queue_s=1.0, max_batch=10, now=clock)
    for _ in range(FIRST):
        gate.took(10, 0.01)  # a millisecond each

    def let_in(inside: list[Ticket], n: int) -> int:
        before = len(inside)
        for _ in range(n):
            with suppress(Overloaded):
                inside.append(gate.admit(1))
        return len(inside) - before

    inside: list[Ticket] = []
    assert let_in(inside, 900) == 900  # a burst
    for _ in range(int(900 - 1000 * STANDING)):
        inside.pop().__exit__()
    clock.s += 2 * STANDING_S
    assert let_in(inside, 10) == 0  # what is left of it has been there for long
    for _ in range(50):
        inside.pop().__exit__()
    assert let_in(inside, 100) == 50  # as long as more comes than that
    for _ in range(50):
        inside.pop().__exit__()
    assert let_in(inside, 50) == 50
    clock.s += 2 * STANDING_S
    for _ in range(50):
        inside.pop().__exit__()
    assert let_in(inside, 200) == 200


async def test_a_better_pace_lets_in_what_waits():
    gate = Gate(max_requests=10, max_bytes=100, max_queue_s=0.1)
    for _ in range(FIRST):
        gate.took(1, 1.0)
    with gate.admit(1):
        waiting = asyncio.ensure_future(gate.wait(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        for _ in range(100):
            gate.took(1, 0.001)
        await asyncio.sleep(0)
        with await waiting:
            assert gate.in_flight == 2


async def test_who_is_on_the_way_in_counts_as_inside():
    gate = Gate(max_requests=3, max_bytes=100)
    with gate.admit(1):
        assert gate.has_room(1, coming=2)
        assert not gate.has_room(1, coming=3)
        with gate.admit(1), gate.admit(1):
            assert not gate.has_room(1)


@pytest.mark.parametrize("already_let_in", [False, True])
async def test_who_gives_up_waiting_takes_no_room(already_let_in):
    gate = Gate(max_requests=1, max_bytes=100)
    ticket = gate.admit(1)
    waiting = asyncio.ensure_future(gate.wait(1))
    await asyncio.sleep(0)
    if already_let_in:
        with ticket:
            pass
        waiting.cancel()
    else:
        waiting.cancel()
        await asyncio.sleep(0)
        with ticket:
            pass
    await asyncio.gather(waiting, return_exceptions=True)
    assert (gate.in_flight, gate.nbytes, gate.waiting) == (0, 0, 0)
    gate.admit(1)


async def test_a_closed_gate_drains():
    gate = Gate(max_requests=5, max_bytes=100)
    with gate.admit(1):
        gate.close()
        with pytest.raises(Overloaded):
            gate.admit(1)
        drained = asyncio.ensure_future(gate.drained())
        await asyncio.sleep(0)
        assert not drained.done()
    await asyncio.wait_for(drained, 120)


@pytest.mark.parametrize("bound", ["max_requests", "max_bytes"])
def test_a_gate_has_bounds(bound):
    with pytest.raises(ValueError, match=f"{bound} must be at least 1, got 0"):
        Gate(**({"max_requests": 1, "max_bytes": 1} | {bound: 0}))


@given(st.lists(st.one_of(st.integers(1, 60), st.none()), max_size=40))
async def test_the_bounds_hold_whatever_comes_and_goes(script):
    """A number is a request of that size, None the end of the oldest one."""
    gate = Gate(max_requests=3, max_bytes=100)
    inside, waiting = [], []
    for size in script:
        if size is not None:
            waiting.append(asyncio.ensure_future(gate.wait(size)))
        elif inside:
            inside.pop(0).__exit__()
        for _ in range(3):
            await asyncio.sleep(0)
        inside += [task.result() for task in waiting if task.done()]
        waiting = [task for task in waiting if not task.done()]
        assert len(inside) == gate.in_flight <= 3
        assert gate.nbytes <= 100
        assert not waiting or gate.in_flight
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.floats(2.0, 10.0),
    st.floats(0.0005, 0.005),
    st.floats(0.0, 0.01),
    st.floats(0.0, 0.00002),
)
def test_at_many_times_the_load_what_is_admitted_is_answered_soon_and_hardly_fewer_are_answered(
    seed: int, overload: float, each_s: float, batch_s: float, refusal_s: float
) -> None:
    """A worker of one processor, asked as by a Poisson process.

    Its batches take `batch_s` and `each_s` a request, and every refusal takes time from them.
    """
    rng, most, bound_s, clock = random.Random(seed), 32, 0.25, Clock()
    gate = Gate(max_requests=256, max_bytes=10**9, max_queue_s=bound_s, max_batch=most, now=clock)
    longest = batch_s + most * each_s
    rate = overload * most / longest
    queued: deque[tuple[float, Ticket]] = deque()
    batch: list[tuple[float, Ticket]] = []
    began = ends = 0.0
    answered: list[tuple[float, float]] = []
    refused = 0
    while len(answered) < 4_000:
        clock.s += rng.expovariate(rate)
        while batch and ends <= clock.s:
            gate.took(len(batch), ends - began)
            for came, ticket in batch:
                ticket.__exit__()
                answered.append((ends, ends - came))
            batch, began = [queued.popleft() for _ in range(min(most, len(queued)))], ends
            ends += batch_s + len(batch) * each_s
        try:
            queued.append((clock.s, gate.admit(1)))
        except Overloaded:
            refused += 1
            ends += refusal_s
        if not batch:
            batch, began = [queued.popleft()], clock.s
            ends = clock.s + batch_s + each_s
    settled_at = (clock.s + 100.0) / 2  # before, the gate learns the pace
    settled = [wait for at, wait in answered if at > settled_at]
    assert len(settled) / (clock.s - settled_at) >= 0.8 * most / longest
    slowest = longest * (1 + refusal_s * rate)
    two = batch_s + 2 * most * each_s if batch_s else 0.0
    assert max(settled) <= max(STANDING * bound_s, min(two, bound_s)) + 2 * slowest
    assert refused
