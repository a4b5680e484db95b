"""The leading trainer's loop: wait for events, train, judge, announce."""

import asyncio
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from streams.errors import SlatestreamError
from streams.releases.actions import shadow_of, trial_of
from streams.releases.changes import Kind, Trial, fold_changes, publish_change, read_changes
from streams.releases.live import fetch_release, to_be_said
from streams.releases.options import whoami
from streams.releases.store import ReleaseStore, StoreError
from streams.settings import Settings
from streams.trainer.drift_follower import DriftFollower
from streams.trainer.leader_election import Seat
from streams.trainer.metrics import Told
from streams.trainer.plan import (
    PARENT,
    PLAN,
    VERDICT,
    TrainingPlan,
    Verdict,
    read_plan,
    read_verdict,
    waiting,
    write,
)
from streams.worker.process import DIE_WITH_PARENT

log = logging.getLogger(__name__)

LOOK_S = 1.0
CANARY_LOOK_S = 5.0
RETRY_S, LONGEST_RETRY_S = 30.0, 1800.0

OUTCOME_OF: dict[Kind, str] = {
    "promote": "promoted", "shadow": "shadow", "canary": "canary", "reject": "rejected"
}  # fmt: skip

Step = Callable[[Path], Awaitable[bool]]
"""Does what the plan in a folder says; returns whether there is a verdict."""


class Loop:
    """Trains for as long as it leads.

    Parameters
    ----------
    folder : where a training is, until it is announced; whoever starts on it again goes on
    step : see `Step`
    say : is told of what happens, in a line
    """

    def __init__(
        self,
        settings: Settings,
        seat: Seat,
        store: ReleaseStore,
        folder: Path,
        *,
        drift: DriftFollower,
        step: Step,
        told: Told,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._seat = seat
        self._drift = drift
        self._store = store
        self._folder = folder
        self._step = step
        self._told = told
        self._say = say
        self._since = time.monotonic()
        self._retry_s = RETRY_S

    async def run(self) -> None:
        """Train whenever enough is new, for ever."""
        self._say("waiting for its turn among the trainers")
        try:
            await self._train_again_and_again()
        finally:
            await self._drift.stop()

    async def _train_again_and_again(self) -> None:
        while True:
            self._told.leads.set(int(self._seat.leading.is_set()))
            await self._seat.leading.wait()
            self._told.leads.set(1)
            try:
                plan = await self._due()
                if plan is None:
                    await asyncio.sleep(LOOK_S)
                elif await self.do(plan) is None and self._seat.leading.is_set():
                    self._told.runs.labels("failed").inc()
                    if self._retry_s > RETRY_S:  # not the first time: perhaps with what has come since
                        (self._folder / PLAN).unlink(missing_ok=True)
                    await self._pause()
            except SlatestreamError as error:  # a store or a broker that is away, or a store that is full
                log.error("%s", error)
                self._told.runs.labels("failed").inc()
                await self._pause()

    async def _pause(self) -> None:
        self._say(f"trying again in {self._retry_s:.0f} s")
        await asyncio.sleep(self._retry_s)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    async def once(self, candidate: Path | None = None) -> Verdict | None:
        """Train on all there is, or judge a release; return the verdict, None where there is none."""
        if candidate is not None:  # for which nobody has to lead: nothing is trained
            return await self.do(await self._plan(candidate))
        await self._seat.leading.wait()
        return await self.do(await self._kept() or await self._plan(None))

    async def do(self, plan: TrainingPlan) -> Verdict | None:
        """Do what a plan says and announce what comes of it; return None if nothing does."""
        began = time.monotonic()
        verdict = read_verdict(self._folder)
        if verdict is None or verdict.plan != plan:
            await asyncio.to_thread(self._prepare, plan)
            what = "judging" if plan.candidate else "training"
            self._say(f"{what}: {plan.events:,} events are new, {plan.parent or 'no release'} serves")
            done = self._while_leading() if plan.candidate is None else self._step(self._folder)
            if not await done:
                return None
            if (verdict := read_verdict(self._folder)) is None:
                return None
        told = await self._announce(verdict)
        self._told.seconds.set(time.monotonic() - began)
        if plan.candidate is None and told:
            await self._seat.commit(plan.ends)
        (self._folder / PLAN).unlink(missing_ok=True)
        (self._folder / VERDICT).unlink(missing_ok=True)
        self._since, self._retry_s = time.monotonic(), RETRY_S
        return verdict

    async def _due(self) -> TrainingPlan | None:
        """Return the training that was begun, or a new one if it is time for it."""
        if (plan := await self._kept()) is not None:
            return plan
        new = waiting(await self._seat.trained(), await self._seat.ends())
        self._told.waiting.set(new)
        drifted = await self._drifted()
        late = time.monotonic() - self._since >= 60.0 * self._settings.trainer_every_minutes
        if new >= self._settings.trainer_every_events:
            cause = "events"
        elif late and new:
            cause = "minutes"
        elif drifted and new:
            cause = "drift"
        else:
            return None
        self._told.begun.labels(cause).inc()
        if drifted:
            self._drift.answer()
        return await self._plan(None, why=drifted)

    async def _drifted(self) -> str:
        """Say that scores have drifted so far that it is time to train; "" where they have not."""
        found, most = await self._drift.look(), self._settings.trainer_drift
        self._told.drift.set(math.nan if found is None else found)
        if found is None or most is None or found < most:
            return ""
        return f"scores have drifted: stability index {found:.2f}, {most:g} is asked for"

    async def _nothing_tried(self) -> None:
        """Wait until no canary serves, and no shadow answers."""
        said = False
        while (tried := fold_changes(await read_changes(self._settings)).tried) is not None:
            self._told.waiting.set(0)
            if not said:
                self._say(f"waiting for what becomes of {tried.change} {tried.version}")
                said = True
            await asyncio.sleep(CANARY_LOOK_S)

    async def _kept(self) -> TrainingPlan | None:
        """Return the training that was begun, if what it was begun for is still so."""
        plan = read_plan(self._folder)
        if plan is None or plan.candidate is not None:
            return None
        changes, ends = await read_changes(self._settings), await self._seat.ends()
        said = {change.version for change in changes if change.timestamp_ms >= plan.made_ms}
        verdict = read_verdict(self._folder)
        there = all(a <= b for name in plan.ends for a, b in zip(plan.ends[name], ends[name], strict=True))
        live = fold_changes(changes).live
        if there and (plan.parent == live or (verdict is not None and verdict.version in said)):
            return plan
        return None

    async def _plan(self, candidate: Path | None, *, why: str = "") -> TrainingPlan:
        changes = await read_changes(self._settings)
        plan = TrainingPlan(
            await self._seat.trained(), await self._seat.ends(), fold_changes(changes).live,
            int(1000 * time.time()),
            None if candidate is None else str(candidate.resolve()), why,
        )  # fmt: skip
        return plan

    def _prepare(self, plan: TrainingPlan) -> None:
        """Lay out what a training needs: its plan, and what it goes on from."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / VERDICT).unlink(missing_ok=True)
        parent = self._folder / PARENT
        shutil.rmtree(parent, ignore_errors=True)
        if plan.parent is not None:
            shutil.copytree(fetch_release(self._store, plan.parent).folder, parent)
            self._store.fetch_weights(plan.parent, parent)
        write(self._folder / PLAN, plan)

    async def _while_leading(self) -> bool:
        """Run the step for as long as this trainer leads."""
        step = asyncio.ensure_future(self._step(self._folder))
        lost = asyncio.ensure_future(self._seat.lost.wait())
        try:
            await asyncio.wait((step, lost), return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                self._say("another trainer leads: this training ends")
                return False
            return step.result()
        finally:
            for task in (step, lost):
                task.cancel()
            await asyncio.gather(step, lost, return_exceptions=True)

    async def _announce(self, verdict: Verdict) -> bool:
        """Write what came of it on `model-releases`, once; the release goes into the store before.

        Returns False where it came too late: what is new is to be trained on again, from what serves by now.
        """
        plan, version = verdict.plan, verdict.version
        if not version:
            self._say(f"{verdict.folder} is no release: {verdict.reason}")
            self._told.runs.labels("failed").inc()
            return True
        changes = await read_changes(self._settings)
        said = [
            number
            for number, change in enumerate(changes)
            if change.timestamp_ms >= plan.made_ms
            and change.version == version
            and change.change in OUTCOME_OF
        ]
        if said:  # by who was killed before it could say how far it had come
            return not fold_changes(changes).void.issuperset(said)
        if version == plan.parent:
            self._say(f"{version} serves already: nothing was learned")
            return True
        if not verdict.passed:
            return await self._write("reject", verdict, verdict.reason)
        try:
            await asyncio.to_thread(self._store.put, Path(verdict.folder))
        except StoreError as error:
            by = f"trainer {whoami()}"
            if to_be_said("delay", changes, version, by):
                await publish_change(self._settings, "delay", version, by=by, reason=str(error))
            raise
        await self._nothing_tried()
        now = fold_changes(await read_changes(self._settings))
        if now.pinned is not None and now.pinned == now.live:
            return await self._write("reject", verdict, f"{now.pinned} is pinned; {verdict.reason}")
        return await self._write(self._kind(plan), verdict, verdict.reason)

    def _kind(self, plan: TrainingPlan) -> Kind:
        if plan.parent is None:  # there is nothing that it could be compared with
            return "promote"
        if self._settings.trainer_shadow:
            return "shadow"
        return "canary" if self._settings.trainer_canary else "promote"

    def _trial(self, kind: Kind) -> Trial | None:
        if kind == "shadow":
            return shadow_of(self._settings, then_canary=self._settings.trainer_canary)
        return trial_of(self._settings) if kind == "canary" else None

    async def _write(self, kind: Kind, verdict: Verdict, reason: str) -> bool:
        """Write a record; return whether it counts."""
        version = verdict.version
        made = await publish_change(
            self._settings, kind, version, by=f"trainer {whoami()}", reason=reason, gates=verdict.gates,
            replaces=None if kind == "reject" else verdict.plan.parent or "",
            trial=self._trial(kind),
        )  # fmt: skip
        changes = await read_changes(self._settings)
        outcome = OUTCOME_OF[kind]
        if changes.index(made) in fold_changes(changes).void:
            outcome = "void"
        elif kind == "promote":
            self._told.promoted.set(time.time())
        self._told.runs.labels(outcome).inc()
        self._say(f"{version} is {outcome}: {reason}")
        return outcome != "void"


async def run_step(folder: Path, *, config: Path | None, threads: int) -> bool:
    """Do what a folder's plan says in a process of its own, which ends with us or when this is cancelled."""
    threads_of = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    arguments = [str(folder), *([] if config is None else [str(config)])]
    process = await asyncio.create_subprocess_exec(
        *DIE_WITH_PARENT, sys.executable, "-m", "streams.trainer.training_run", *arguments,
        stdin=asyncio.subprocess.DEVNULL, start_new_session=True, env={**os.environ, **threads_of},
    )  # fmt: skip
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        log.error("the training ended with code %d", code)
    return code == 0
