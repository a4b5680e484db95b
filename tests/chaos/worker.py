"""A worker whose wall clock is off by what a file says, in seconds; it may change while the worker runs.

With SIGUSR1 it prints what its tasks wait for. With CHAOS_NO_DISK it can write no byte to any file.
"""

import asyncio
import atexit
import os
import resource
import signal
import time
from pathlib import Path

CLOCK = "CHAOS_CLOCK"
NO_DISK = "CHAOS_NO_DISK"


def shift_clock(file: Path) -> None:
    """Let `time.time` be off, for whoever asks from now on; clocks that never go back are left alone."""
    right = time.time

    def shifted() -> float:
        try:
            return right() + float(file.read_text())
        except (OSError, ValueError):  # it is being written
            return right()

    time.time = shifted


def print_tasks(*_: object) -> None:
    """Print what each task of the event loop that is running waits for."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=12)


if __name__ == "__main__":
    if NO_DISK in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.signal(signal.SIGUSR1, print_tasks)
    # Python gives up its handlers before it has ended: whoever asks then would kill it.
    atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    shift_clock(Path(os.environ[CLOCK]))
    from streams.cli import main  # after: modules take the clock as they find it

    main()
