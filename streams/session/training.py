"""`slatestream train` in a process of its own."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.errors import SlatestreamError
from streams.worker.process import DIE_WITH_PARENT

COMMAND = (*DIE_WITH_PARENT, sys.executable, "-m", "streams.cli", "train")


def train(data: Path, out: Path, *, until: float, seed: int, epochs: int | None = None) -> Path:
    """Train a release on the first part of a dataset, in a process of its own; return its folder.

    `epochs` is that of `slatestream train`. There is no limit of time: how long it takes depends on the data
    and on the machine, and it prints its progress.
    """
    arguments = _arguments(data, out, until=until, seed=seed, epochs=epochs)
    _check(run_train(arguments), arguments)
    return out


async def train_beside(data: Path, out: Path, *, until: float, seed: int) -> Path:
    """Do as `train` while the event loop goes on; who is cancelled ends the training."""
    arguments = _arguments(data, out, until=until, seed=seed, epochs=None)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    _check(code, arguments)
    return out


def _arguments(data: Path, out: Path, *, until: float, seed: int, epochs: int | None) -> list[str]:
    """Return what `slatestream train` is told, with nothing in the way of what it makes."""
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["--data", str(data), "--until", str(until), "--seed", str(seed), "--out", str(out)]
    return arguments + ([] if epochs is None else ["--epochs", str(epochs)])


def _check(code: int, arguments: Sequence[str]) -> None:
    if code:
        raise SlatestreamError(f"`slatestream train {' '.join(arguments)}` ended with code {code}")


def run_train(arguments: Sequence[str], *, variables: Mapping[str, str] | None = None) -> int:
    """Run `slatestream train` in a process of its own; return its exit code.

    Its memory and threads end with it, and it ends with us. Ctrl-C reaches it through us alone.
    """
    environment = {**os.environ, **(variables or {})}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, start_new_session=True, env=environment
    ) as process:
        try:
            return process.wait()
        finally:
            process.kill()
