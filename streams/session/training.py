"""`slatestream train` in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.errors import SlatestreamError
from streams.worker.process import DIE_WITH_PARENT

TRAIN_TIMEOUT_S = 600.0


def train(data: Path, out: Path, *, until: float, seed: int, epochs: int | None = None) -> Path:
    """Train a release on the first part of a dataset, in a process of its own; return its folder.

    `epochs` is that of `slatestream train`.
    """
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["--data", str(data), "--until", str(until), "--seed", str(seed), "--out", str(out)]
    arguments += [] if epochs is None else ["--epochs", str(epochs)]
    code = run_train(arguments, timeout_s=TRAIN_TIMEOUT_S)
    if code:
        raise SlatestreamError(f"`slatestream train {' '.join(arguments)}` ended with code {code}")
    return out


def run_train(
    arguments: Sequence[str], *, variables: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> int:
    """Run `slatestream train` in a process of its own; return its exit code.

    Its memory and threads end with it, and it ends with us. Ctrl-C reaches it through us alone.
    """
    command = [*DIE_WITH_PARENT, sys.executable, "-m", "streams.cli", "train", *arguments]
    environment = {**os.environ, **(variables or {})}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
    ) as process:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SlatestreamError(f"training took longer than {timeout_s:.0f} s") from None
        finally:
            process.kill()
