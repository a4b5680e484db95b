"""Prometheus's own programs, for what only they can judge."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """A program of Prometheus, where `make tools` put it or on the PATH; without it the test is skipped."""
    unpacked = ROOT / "build" / "prometheus" / "usr" / "bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here, and `make tools` could not get it from the package prometheus")
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return program("prometheus")
