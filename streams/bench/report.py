"""What every benchmark says beside its figures."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def machine() -> str:
    """Describe the machine that the figures were taken on."""
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {python}"


def write_report(path: Path, figures: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Write figures and the machine as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**figures, "machine": machine()}, indent=2) + "\n")
    say(f"Figures in {path}")
