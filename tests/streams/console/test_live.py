"""What is sampled of a worker once a second."""

import time

from streams.console.drift import Scored
from streams.console.live import Totals, read_totals, sample_of
from tests.streams.conftest import Memory


async def test_a_reading_has_what_the_metrics_have_counted(memory: Memory) -> None:
    for n in range(4):
        memory.events.content(f"i{n}", title=f"Film {n}")
    memory.events.click("u", "i1")
    memory.events.request("u", k=2)
    async with memory.worker() as worker:
        await worker.deliver()
        totals = read_totals(worker.parts.metrics.registry, time.time())
    assert totals.clicks == totals.slates == 1
    assert max(totals.latency.values()) == 1
    assert totals.fallbacks == 1  # there is no release


def test_a_sample_is_what_the_last_seconds_and_the_last_minute_had() -> None:
    def reading(at: float, slates: float, dead: float) -> Totals:
        scored = Scored({}, 0.0, 0.0)
        return Totals(at, 0, slates, 100 * at, 10 * at, 0, 0, {}, {}, dead, slates / 4, scored)

    sample = sample_of([reading(10, 0, 0), *(reading(at, 8 * (at - 10), 3) for at in range(20, 71))])
    assert sample is not None
    assert (sample.slates, sample.fallbacks, sample.click_through, sample.dead_letters) == (8, 0.25, 0.1, 3)


def test_a_minute_that_has_not_passed_yet_has_the_dead_letters_that_there_were() -> None:
    def reading(at: float, dead: float) -> Totals:
        return Totals(at, 0, 0, 0, 0, 0, 0, {}, {}, dead, 0, Scored({}, 0.0, 0.0))

    sample = sample_of([reading(10, 0), reading(15, 4), reading(20, 5)])
    assert sample is not None
    assert sample.dead_letters == 5
