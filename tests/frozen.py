"""Processes that stand still without knowing it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 30.0


def freeze(pid: int) -> None:
    """Let a process stand still. Its threads stop one by one; on return all of them have."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + DEADLINE_S
    while not all(_stands(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def _stands(task: Path) -> bool:
    try:
        stat = (task / "stat").read_text()
    except OSError:  # a thread that has ended
        return True
    return stat.rpartition(")")[2].split()[0] in "TtZX"


@contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    """Let a process stand still, and go on afterwards."""
    assert pid is not None
    freeze(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
