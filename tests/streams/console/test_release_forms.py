"""Forms of the page of releases act on what the page showed, or on nothing."""

from pathlib import Path
from typing import Any

import pytest

from streams.console.releases import act
from streams.errors import SlatestreamError
from streams.releases.changes import ReleaseChange, Trial
from streams.settings import Settings

OLD, LIVE, TRIED = "a" * 12, "b" * 12, "c" * 12
SERVE = [
    ReleaseChange("promote", OLD, "ann", 1),
    ReleaseChange("promote", LIVE, "ann", 2),
]
SHADOW = ReleaseChange("shadow", TRIED, "ann", 3, replaces=LIVE, trial=Trial(0.1, 10, 60.0, 0.1))
ENDED = ReleaseChange("reject", TRIED, "worker", 4, replaces=LIVE, decides_ms=3)
PINNED = ReleaseChange("pin", LIVE, "ann", 3)


@pytest.mark.parametrize(
    ("changes", "form", "found"),
    [
        ([*SERVE, SHADOW, ENDED], {"what": "rollback", "ends": TRIED}, LIVE),
        ([*SERVE, SHADOW], {"what": "rollback", "ends": LIVE}, TRIED),
        (SERVE, {"what": "pin", "version": OLD}, LIVE),
        ([*SERVE, PINNED], {"what": "unpin", "version": OLD}, LIVE),
    ],
    ids=["the shadow has ended by itself", "a shadow has begun", "another serves", "another is pinned"],
)
async def test_a_form_of_a_page_that_is_out_of_date_changes_nothing(
    changes: list[ReleaseChange],
    form: dict[str, str],
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(settings: Settings) -> list[ReleaseChange]:
        return changes

    async def publish(*args: Any, **fields: Any) -> None:
        raise AssertionError("a change was written")

    monkeypatch.setattr("streams.releases.actions.read_changes", read)
    monkeypatch.setattr("streams.releases.actions.publish_change", publish)
    settings = Settings(release_store=str(tmp_path))
    with pytest.raises(SlatestreamError, match=f"was meant, and by now it would be {found}"):
        await act(settings, form)
