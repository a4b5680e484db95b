"""Trainings in processes of their own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from streams.errors import SlatestreamError
from streams.session import training
from streams.session.training import train_beside


async def test_who_is_cancelled_ends_the_training_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "pid"
    endless = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", endless))
    work = asyncio.create_task(train_beside(tmp_path, tmp_path / "out", until=0.5, seed=0))
    async with asyncio.timeout(60):
        while not told.exists() or not told.read_text():
            await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_a_training_that_fails_says_with_which_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", "raise SystemExit(2)"))
    with pytest.raises(SlatestreamError, match=r"`slatestream train --data .*none --until 0.5 .* code 2"):
        await train_beside(tmp_path / "none", tmp_path / "out", until=0.5, seed=0)
