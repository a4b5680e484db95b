"""What is said of settings that break a rule, and of variables that are no settings."""

import difflib
import json
import os
import re
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError

Fields = Mapping[str, FieldInfo]


def explain(error: ValidationError, fields: Fields) -> str:
    """Name each setting at fault, its value and the rule it breaks, a line each."""
    lines = []
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        message = problem["msg"].removeprefix("Value error, ")
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
