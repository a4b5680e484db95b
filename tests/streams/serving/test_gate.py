import asyncio
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.serving.gate import FIRST, Gate, Overloaded, Ticket


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


async def test_no_more_is_let_in_than_can_be_answered_in_time_at_the_pace_of_the_last_batches():
    gate = Gate(max_requests=1_000, max_bytes=10_000, max_queue_s=0.102)
    assert gate.pace_s == 0.0
    inside = [gate.admit(1) for _ in range(50)]
    for _ in range(FIRST):
        assert gate.pace_s == 0.0
        gate.took(10, 0.05)
    assert gate.pace_s == pytest.approx(0.005)
    with pytest.raises(Overloaded):
        gate.admit(1)
    waiting = asyncio.ensure_future(gate.wait(1))
    while gate.in_flight > 20:
        inside.pop().__exit__()
        await asyncio.sleep(0)
        assert not waiting.done()
    inside.pop().__exit__()
    inside.append(await asyncio.wait_for(waiting, 5))
    assert gate.in_flight == 20
    for _ in range(200):  # it has become twice as fast, and then a hundred times as slow
        gate.took(20, 0.05)
    with gate.admit(1):
        pass
    for _ in range(200):
        gate.took(1, 0.5)
    assert gate.pace_s == pytest.approx(0.5)
    with pytest.raises(Overloaded):
        gate.admit(1)
    for ticket in inside:
        ticket.__exit__()
    with gate.admit(1), pytest.raises(Overloaded):  # one alone always comes in
        gate.admit(1)


async def test_a_better_pace_lets_in_what_waits():
    gate = Gate(max_requests=10, max_bytes=100, max_queue_s=0.1)
    for _ in range(FIRST):
        gate.took(1, 1.0)
    with gate.admit(1):
        waiting = asyncio.ensure_future(gate.wait(1))
        await asyncio.sleep(0)
        for _ in range(100):
            gate.took(100, 0.1)
        await asyncio.sleep(0)
        with await waiting:
            assert gate.in_flight == 2


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
@given(st.integers(0, 10_000), st.floats(2.0, 10.0), st.floats(0.0005, 0.005), st.floats(0.0, 0.01))
def test_at_many_times_the_load_what_is_admitted_is_answered_within_the_bound(
    seed: int, overload: float, each_s: float, batch_s: float
) -> None:
    """A worker whose batches take `batch_s` and `each_s` a request, asked as by a Poisson process."""
    rng, most, bound_s = random.Random(seed), 32, 0.25
    gate = Gate(max_requests=256, max_bytes=10**9, max_queue_s=bound_s)
    longest = batch_s + most * each_s
    rate = overload * most / longest
    queued: deque[tuple[float, Ticket]] = deque()
    batch: list[tuple[float, Ticket]] = []
    began = ends = now = 0.0
    waits: list[float] = []
    refused = 0
    while len(waits) < 2_000:
        now += rng.expovariate(rate)
        while batch and ends <= now:
            gate.took(len(batch), ends - began)
            for came, ticket in batch:
                ticket.__exit__()
                waits.append(ends - came)
            batch, began = [queued.popleft() for _ in range(min(most, len(queued)))], ends
            ends += batch_s + len(batch) * each_s
        try:
            queued.append((now, gate.admit(1)))
        except Overloaded:
            refused += 1
        if not batch:
            batch, began = [queued.popleft()], now
            ends = now + batch_s + each_s
    settled = waits[FIRST * most + 256 :]  # before, the gate learns the pace
    assert max(settled) <= bound_s + longest
    assert refused
