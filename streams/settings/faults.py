"""Messages for settings that break a rule, and for variables that are no settings."""

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError

from streams.validation_messages import in_plain_words

Fields = Mapping[str, FieldInfo]
_NESTS = re.compile(r"dict|list|tuple|Mapping")


def explain(error: ValidationError, fields: Fields) -> str:
    """Name each setting at fault, its value and the rule it breaks, a line each."""
    lines = []
    for problem in _each_once(error, fields):
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        message = problem["msg"]
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
            message = "there is no such setting" + (f": did you mean {close[0]}?" if close else "")
        if problem["type"] in ("tuple_type", "dict_type") and isinstance(problem["input"], str):
            message += f" in JSON, such as {_example(fields[name])}"
        # A rule of ours says what it got; a secret is nobody's business.
        secret = "password" in name or "token" in name
        silent = problem["type"] in ("extra_forbidden", "value_error") or secret
        lines.append(f"{name}: {message}" + ("" if silent else f", got {problem['input']!r}"))
    return "Bad configuration:\n  " + "\n  ".join(lines)


def _each_once(error: ValidationError, fields: Fields) -> list[dict[str, Any]]:
    """Return the problems in plain words; those of a setting that may be one thing or another are one."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for problem in error.errors(include_url=False):
        place, message = problem["loc"], in_plain_words(problem["msg"])
        message = message.removeprefix(f"{place[0]} ") if place else message
        if place and place[0] in fields and not _NESTS.search(str(fields[str(place[0])].annotation)):
            place = place[:1]  # what follows names one of the things that it may be
        if place in found:
            message = f"{found[place]['msg']}, or {message}"
        found[place] = {**problem, "loc": place, "msg": message}
    return list(found.values())


def explain_no_json(error: SettingsError, prefix: str, fields: Fields) -> str:
    """Say which variable must be JSON, and how it would look."""
    found = re.search(r'field "(\w+)"', str(error))
    if found is None:
        return f"Bad configuration: {error}"
    name, variable = found[1], f"{prefix}{found[1].upper()}"
    example = _example(fields[name])
    return (
        f"Bad configuration:\n  {name}: {variable} must be JSON, such as {example}, got "
        f"{os.environ.get(variable)!r}"
    )


def unknown_variables(environment: Mapping[str, str], prefix: str, fields: Fields) -> dict[str, str | None]:
    """Return variables that begin like settings and are none, each with the one that is probably meant.

    Those that Kubernetes gives to every container, of a service whose name begins so, are not among them.
    """
    known = [f"{prefix}{name.upper()}" for name in fields]
    found: dict[str, str | None] = {}
    for name, value in sorted(environment.items()):
        if name.startswith(prefix) and name not in known and not _is_of_kubernetes(name, value):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found[name] = close[0] if close else None
    return found


def _is_of_kubernetes(name: str, value: str) -> bool:
    named = re.search(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)", name)
    return named is not None or (name.endswith("_PORT") and "://" in value)


def _example(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default:
        return json.dumps(default)
    return '{"like": 1000}' if "dict" in str(field.annotation) else '["like"]'
