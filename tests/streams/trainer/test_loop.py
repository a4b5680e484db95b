"""What the trainer's loop makes of what is on `model-releases` already."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams.releases.changes import ReleaseChange
from streams.releases.store import ReleaseStore
from streams.settings import Settings
from streams.trainer.loop import Loop
from streams.trainer.metrics import Told
from streams.trainer.plan import TrainingPlan, Verdict

LIVE, MADE, OTHER = "a" * 12, "b" * 12, "c" * 12


@pytest.mark.parametrize("faster", [False, True])
async def test_who_goes_on_after_a_kill_takes_a_record_that_came_too_late_for_none(
    faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(version: str, at: int, replaces: str) -> ReleaseChange:
        return ReleaseChange("promote", version, "ann", at, replaces=replaces)

    changes = [
        said(LIVE, 1, ""),
        *([said(OTHER, 20, LIVE)] if faster else []),
        said(MADE, 21, LIVE),
    ]

    async def read(settings: Settings) -> list[ReleaseChange]:
        return changes

    async def step(folder: Path) -> bool:
        raise AssertionError("it was trained")

    monkeypatch.setattr("streams.trainer.loop.read_changes", read)
    seat: Any = SimpleNamespace()
    drift: Any = None
    loop = Loop(
        Settings(), seat, ReleaseStore(str(tmp_path / "store")), tmp_path / "work", step=step, told=Told(),
        say=print, drift=drift,
    )  # fmt: skip
    verdict = Verdict(TrainingPlan({}, {}, LIVE, 10), str(tmp_path), MADE, ())
    assert await loop._announce(verdict) is not faster
