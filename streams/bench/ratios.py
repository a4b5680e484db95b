"""Ratios of a run against those that were committed: what became worse, whatever the machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.errors import ConfigurationError

TOLERATED = 0.2  # a fall of so much is warned of


@dataclass(frozen=True, slots=True)
class Compared:
    """A ratio now and as committed; None where there was none. Higher is better."""

    name: str
    now: float
    committed: float | None

    @property
    def change(self) -> float | None:
        """Share by which it has risen, negative when it fell."""
        return None if not self.committed else self.now / self.committed - 1.0

    @property
    def fell(self) -> bool:
        """Whether it fell by as much as is warned of."""
        return self.committed is not None and self.now <= self.committed * (1 - TOLERATED)


def compare(now: Mapping[str, float], committed: Mapping[str, float]) -> list[Compared]:
    """Put each ratio beside the committed one of the same name."""
    return [Compared(name, value, committed.get(name)) for name, value in now.items()]


def warnings_of(compared: list[Compared]) -> list[str]:
    """Say which ratios fell by a fifth or more."""
    return [
        f"WARNING: {one.name} fell by {-(one.change or 0.0):.0%}, from {one.committed:.3f} to {one.now:.3f}"
        for one in compared
        if one.fell and one.committed is not None
    ]


def read_ratios(path: Path, *, missing: bool = False) -> dict[str, float]:
    """Read committed ratios.

    Parameters
    ----------
    missing : whether the file may be: there are none then

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is not of that kind.
    """
    if missing and not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())["ratios"]
        return {str(name): float(value) for name, value in found.items()}
    except OSError as error:
        raise ConfigurationError(f"{path} must hold ratios to compare with: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} must hold ratios by name in JSON: {error!r}") from None
