"""The machine that figures are taken on."""

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> str:
    """Describe the machine that the figures were taken on, and what else it was doing."""
    facts = machine_facts()
    return (
        f"{facts['cores']} cores, {facts['cpu']}, {facts['memory_gib']:.0f} GiB, {facts['system']}, "
        f"Python {facts['python']}, load {facts['load_1_min']:.1f}"
    )


def machine_facts() -> dict[str, Any]:
    """Return the same as fields; the load is the average of processes that ran or waited in a minute."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _named("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def _named(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
