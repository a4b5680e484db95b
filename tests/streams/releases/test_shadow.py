"""A release that serves nobody answers live requests as well, and what that says decides on it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgspec
import pytest

from streams.releases.changes import ReleaseChange, Trial, fold_changes
from streams.releases.shadow_trial import ShadowTrial
from streams.serving.shadowing import Shadow, Shadowed
from streams.testing.worker import MemoryWorker
from streams.why.slate_reasons import ON_TRIAL
from tests.streams.releases.life import Life, serves, until

USERS = [f"u{n}" for n in range(48)]  # of whom half, about, are of a share
CANARY = Trial(0.5, 60, 86_400.0, 0.1)
ALL = Trial(share=0.5, least_slates=30, longest_s=86_400.0, harm=0.1)
FEW = Trial(share=0.5, least_slates=8, longest_s=86_400.0, harm=0.1)
MakeLife = Callable[..., Life]


async def answers_beside(worker: MemoryWorker, version: str) -> None:
    """Wait until a release answers requests as well."""
    lanes, decider = worker.parts.lanes, worker.parts.decider
    assert decider is not None
    await decider.look()
    await until(worker, lambda: lanes.shadow is not None and lanes.shadow.version == version)


async def one_by_one(life: Life, worker: MemoryWorker, liked: Callable[[Any], bool]) -> list[Any]:
    """Let users ask when nobody else does, and take the first item of slates that are liked; all close."""
    found = []
    for user in USERS:
        found.append(slate := await life.slate(worker, user))
        await shadowed(worker)
        if liked(slate):
            life.take(slate)
    await worker.deliver()
    life.memory.clock.move(life.memory.settings.attribution_window_ms + 1)
    life.memory.events.click("somebody", "i0", "view")
    await worker.deliver()
    await worker.flush()
    return found


async def shadowed(worker: MemoryWorker) -> None:
    """Wait until what is answered beside the work is answered."""
    task = worker.parts.server._shadowing._task
    if task is not None:
        await asyncio.gather(task, return_exceptions=True)


async def looks(worker: MemoryWorker) -> None:
    """Let the worker look once it has read what slates have earned so far."""
    decider = worker.parts.decider
    assert decider is not None
    await decider.look()
    await until(worker, lambda: decider._tail is not None and decider._tail.caught_up.is_set())
    await decider.look()


async def decided(life: Life, worker: MemoryWorker) -> ReleaseChange:
    """Let the worker look until it has written what becomes of the shadow."""
    assert worker.parts.decider is not None
    for _ in range(1000):
        await worker.parts.decider.look()
        if life.changes()[-1].change != "shadow":
            return life.changes()[-1]
        await asyncio.sleep(0.001)
    raise AssertionError("nothing was decided")


@pytest.mark.parametrize("then", [None, CANARY], ids=["promoted", "canary"])
async def test_a_shadow_that_passes_is_promoted_or_serves_as_a_canary_with_what_was_found_on_the_record(
    then: Trial | None, make_life: MakeLife
) -> None:
    life = make_life(partitions=1, policy="softmax", temperature=0.5)
    first, second = life.put(), life.put()
    life.say("promote", first)
    trial = Trial(FEW.share, FEW.least_slates, FEW.longest_s, FEW.harm, then)
    async with life.worker(first) as worker:
        life.say("shadow", second, trial=trial, replaces=first)
        await answers_beside(worker, second)
        served = await one_by_one(life, worker, lambda slate: crc32(slate.request_id.encode()) % 2 == 0)
        assert {slate.model_version for slate in served} == {first}
        last = await decided(life, worker)
        assert (last.change, last.version) == ("promote" if then is None else "canary", second)
        assert (last.trial, last.replaces) == (then, first)
        (gate,) = last.gates
        assert (gate.name, gate.passed) == ("shadow", True)
        assert 8 <= gate.figures["slates"] < len(served)  # of the share
        assert 0.0 < gate.figures["agreement"] <= 1.0
        assert gate.figures["p99_ms"] > 0
        assert value_of(worker, "answered") == gate.figures["slates"]
        if then is None:
            await serves(worker, second)
        else:
            await until(worker, lambda: worker.parts.lanes.canary is not None)
        assert worker.parts.lanes.shadow is None


def trial_of(n: int, taken: Callable[[int], bool], **shadow: Any) -> ShadowTrial:
    """A trial of n closed slates of one item out of two, which the live policy shows by a toss.

    The shadow would show the first in nine of ten.
    """
    begun = ReleaseChange("shadow", "b" * 12, "ann", 1_000, replaces="a" * 12, trial=ALL)
    found = Shadow("b" * 12, 1_000, **shadow)
    trial = ShadowTrial(begun, "a" * 12, lambda: found, positive=["like"])
    records = []
    for number in range(n):
        ours = 0.9 if number % 2 == 0 else 0.1
        found.answers[f"r{number}"] = Shadowed(ours, 0.004, 0.020, [ours])
        told = {
            "request_id": f"r{number}", "user_id": f"u{number % 100}", "slate": [{"propensity": 0.5}],
            "actions": [["like"] if taken(number) else []],
        }  # fmt: skip
        records.append(SimpleNamespace(value=msgspec.json.encode(told)))
    other = {"request_id": "another", "user_id": "u", "slate": [{"propensity": 0.5}], "actions": [["like"]]}
    strange = [SimpleNamespace(value=value) for value in (None, b"{", msgspec.json.encode(other))]
    trial.add("feedback", 0, [*records, *strange, *records])
    return trial


def test_a_shadow_is_worth_what_off_policy_evaluation_says_and_a_worse_one_is_rejected() -> None:
    better, worse = trial_of(400, lambda n: n % 4 == 0), trial_of(400, lambda n: n % 4 == 1)
    for trial, value, passed in ((better, 0.45, True), (worse, 0.05, False)):
        outcome = trial.outcome(2_000)
        assert outcome is not None
        assert outcome.promote is outcome.gate.passed is passed
        figures = outcome.gate.figures
        assert figures["value"] == pytest.approx(value)
        assert figures["low"] <= value <= figures["high"]
        assert (figures["slates"], figures["live"]) == (400, 0.25)
        assert (figures["agreement"], figures["p99_ms"]) == (pytest.approx(0.5), pytest.approx(4.0))
        assert "the first 1 positions of its slates would earn" in outcome.gate.reason


def test_a_shadow_that_is_slow_is_rejected_and_of_few_slates_nothing_is_said() -> None:
    assert trial_of(29, lambda n: True).outcome(2_000) is None
    few = trial_of(40, lambda n: True).outcome(2_000)
    assert few is not None
    assert few.promote
    assert "cannot be told" in few.gate.reason
    slow = trial_of(400, lambda n: n % 4 == 0)
    found = slow._shadow()
    assert found is not None
    found.answers |= {f"r{n}": Shadowed(0.5, 0.040, 0.020, [0.5]) for n in range(10)}
    outcome = slow.outcome(2_000)
    assert outcome is not None
    assert not outcome.promote


async def test_a_shadow_that_fails_is_rejected_and_nobody_notices(make_life: MakeLife) -> None:
    life = make_life(partitions=1, policy="softmax")
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("shadow", second, trial=ALL, replaces=first)
        await answers_beside(worker, second)
        lane = worker.parts.lanes.shadow
        assert lane is not None

        def fails(prepared: Any) -> Any:
            raise RuntimeError("no slate today")

        makes, lane.slates.candidates = lane.slates.candidates, fails  # type: ignore[method-assign]
        served = await one_by_one(life, worker, lambda slate: False)
        assert {slate.model_version for slate in served} == {first}
        last = await decided(life, worker)
        assert (last.change, last.version) == ("reject", second)
        assert "no slate today" in last.reason
        assert value_of(worker, "error") > 0

        # Tried again, it is not held against it; and a third record, while it is tried, has another share.
        lane.slates.candidates = makes  # type: ignore[method-assign]
        for trial in (FEW, msgspec.structs.replace(FEW, share=0.3)):
            life.say("shadow", second, trial=trial, replaces=first)
            await answers_beside(worker, second)
            await until(worker, lambda share=trial.share: worker.parts.lanes.shadow_share == share)
            await looks(worker)
            assert life.changes()[-1].change == "shadow"
        await one_by_one(life, worker, lambda slate: False)
        assert worker.parts.server._shadowing.shadow is not None
        assert worker.parts.server._shadowing.shadow.error == ""


async def test_a_busy_worker_passes_requests_over_and_a_shadow_with_too_few_is_rejected_in_the_end(
    make_life: MakeLife,
) -> None:
    life = make_life(partitions=1, policy="softmax")
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("shadow", second, trial=ALL, replaces=first)
        await answers_beside(worker, second)
        for user in USERS:
            life.memory.events.request(user, k=3)
        await worker.deliver()  # all at once
        await shadowed(worker)
        assert value_of(worker, "skipped") >= 4
        assert value_of(worker, "answered") <= 2
        assert life.changes()[-1].change == "shadow"
        life.memory.clock.move(int(1000 * ALL.longest_s) + 1)
        last = await decided(life, worker)
        assert (last.change, last.version) == ("reject", second)
        assert "at least 30 are asked for" in last.reason


async def test_only_the_worker_that_decides_loads_a_shadow_and_whoever_comes_after_begins_anew(
    make_life: MakeLife,
) -> None:
    life = make_life(partitions=2, policy="softmax")
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        await worker.assign([1])
        life.say("shadow", second, trial=ALL, replaces=first)
        assert worker.parts.decider is not None
        await worker.parts.decider.look()
        await worker.settle()
        assert len(list(worker.parts.lanes)) == 1
        await worker.assign([0, 1])
        await answers_beside(worker, second)
        await worker.assign([1])
        await worker.parts.decider.look()
        await until(worker, lambda: worker.parts.lanes.shadow is None)


def test_a_shadow_is_tried_by_itself_and_ends_with_whatever_is_decided() -> None:
    def said(change: str, version: str, at: int, **fields: Any) -> ReleaseChange:
        return ReleaseChange(change, version * 12, "ann", at, **fields)  # type: ignore[arg-type]

    begun = [said("promote", "a", 1), said("shadow", "b", 2, trial=ALL, replaces="a" * 12)]
    assert fold_changes(begun).shadow is begun[1]
    second = said("shadow", "c", 3, trial=ALL, replaces="a" * 12)
    assert fold_changes([*begun, second]).void == {2}
    assert fold_changes([*begun, said("canary", "c", 3, trial=CANARY)]).void == {2}
    passed = said("canary", "b", 3, trial=CANARY, replaces="a" * 12, decides_ms=2)
    now = fold_changes([*begun, passed])
    assert (now.canary, now.shadow) == (passed, None)
    assert fold_changes([*begun, passed, said("shadow", "b", 4, trial=ALL)]).void == {3}
    assert fold_changes([*begun, said("reject", "b", 3)]).shadow is begun[1]  # of another training
    rejected = said("reject", "b", 3, decides_ms=2)
    assert fold_changes([*begun, rejected]).tried is None
    assert fold_changes([*begun, rejected, rejected]).void == {3}
    for ends in (said("promote", "c", 3), said("rollback", "a", 3, decides_ms=2), said("pin", "a", 3)):
        assert fold_changes([*begun, ends]).tried is None


def value_of(worker: MemoryWorker, outcome: str) -> float:
    found = worker.parts.metrics.registry.get_sample_value(
        "slatestream_release_shadowed_total", {"outcome": outcome}
    )
    return found or 0.0


async def test_what_is_on_trial_is_as_probable_under_a_shadow_and_not_among_what_the_two_agree_on(
    make_life: MakeLife,
) -> None:
    life = make_life(partitions=1, policy="softmax", temperature=0.5, trial_share=0.01)
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        for n in range(20):  # all are believed to be liked: each release draws others of them
            for _ in range(10):
                worker.parts.shared.trials.show([f"i{n}"], f"i{n}")
                worker.parts.shared.trials.take([f"i{n}"], 0)
        life.say("shadow", second, trial=ALL, replaces=first)
        await answers_beside(worker, second)
        answers, tried = worker.parts.server._shadowing, 0
        for user in USERS:
            life.memory.clock.move(1_001)
            slate = await life.slate(worker, user)
            await shadowed(worker)
            answer = None if answers.shadow is None else answers.shadow.answers.get(slate.request_id)
            if answer is None:
                continue
            assert len(answer.propensities) == len(slate.slate)
            chosen = sum(item.reasons[0] != ON_TRIAL for item in slate.slate)
            assert answer.agreement * chosen == pytest.approx(round(answer.agreement * chosen))
            for item, propensity in zip(slate.slate, answer.propensities, strict=True):
                if item.reasons[0] == ON_TRIAL:
                    assert (item.propensity, propensity) == (1.0, 1.0)
                    tried += 1
                else:
                    assert 0.0 < propensity < 1.0
        assert tried > 5
        assert answers.shadow is not None
        assert not answers.shadow.error
