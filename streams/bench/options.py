"""Options that several benchmarks have: lists, and settings of the workers that they measure."""

import math
from collections.abc import Collection
from typing import Annotated, Any

import typer

from streams.errors import ConfigurationError
from streams.settings import Settings

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the worker, name=value, such as policy=greedy; repeatable."),
]


def split(text: str) -> list[str]:
    """Parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def kinds_among(known: Collection[str], text: str) -> list[str]:
    """Read `--kinds`, a comma-separated list of some of those that are known."""
    found = split(text)
    if not found or not set(found) <= set(known):
        raise ConfigurationError(f"--kinds must be among {', '.join(known)}, got {text!r}")
    return found


def numbers(text: str) -> list[float]:
    """Read a comma-separated list of numbers from 0 on."""
    try:
        found = [float(part) for part in split(text)]
    except ValueError:
        raise ConfigurationError(f"expected numbers, comma-separated, got {text!r}") from None
    if not found or not all(0 <= number < math.inf for number in found):
        raise ConfigurationError(f"expected numbers from 0 on, comma-separated, got {text!r}")
    return found


def whole_numbers(text: str) -> list[int]:
    """Read a comma-separated list of whole numbers from 1 on."""
    found = [int(number) for number in numbers(text)]
    if min(found) < 1:
        raise ConfigurationError(f"expected numbers from 1 on, comma-separated, got {text!r}")
    return found


def settings_given(pairs: list[str]) -> dict[str, Any]:
    """Read name=value pairs as settings of the worker.

    Raises
    ------
    ConfigurationError
        If there is no such setting, or a pair has no value.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Settings.model_fields:
            raise ConfigurationError(f"--set must be name=value with a name of the settings, got {pair!r}")
        given[name] = value
    return given
