"""`slatestream config`: what the settings are, where each comes from, and whether they are sound."""

import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from streams.errors import ConfigurationError, SlatestreamError
from streams.settings import ENV_PREFIX, Settings, load_settings
from streams.settings.faults import unknown_variables

DEFAULT = "default"

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]

config_app = typer.Typer(
    no_args_is_help=True,
    help="""See the settings, and where each comes from.

    A setting comes from SLATESTREAM_<NAME> in the environment, else from the file given with --config, else
    it has its default. `show` lists them, `check` tells whether a worker would start with them.""",
)


@config_app.command("show")
def show_command(
    name: Annotated[
        str | None, typer.Argument(help="One setting, with all that is known of it; all without.")
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are given.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object, by name.")] = False,
    config: ConfigFile = None,
) -> None:
    """Show every setting with its value and where that comes from; secrets stay hidden.

    slatestream config show --changed

    slatestream config show max_queue_ms
    """
    settings = load_settings(config)
    rows = described(settings, origins(os.environ, config))
    if name is not None and name not in rows:
        raise SlatestreamError(f"there is no setting {name!r}: `slatestream config show` lists them")
    kept = {
        one: row
        for one, row in rows.items()
        if (name is None or one == name) and not (changed and row["from"] == DEFAULT)
    }
    if as_json:
        print(json.dumps(kept, indent=2))
    elif name is not None:
        _print_one(name, kept)
    else:
        _print_all(kept)


@config_app.command("check")
def check_command(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: ConfigFile = None,
) -> None:
    """Tell whether the settings are sound: exit code 2 and every fault by name when they are not.

    A variable that begins like a setting and is none is a fault here, and so is a file that is not there; a
    worker only warns of the one, and ends over the other once it needs it.

    slatestream config check --config worker.toml
    """
    settings = load_settings(config)
    unknown = unknown_variables(os.environ, ENV_PREFIX, Settings.model_fields)
    if unknown:
        raise ConfigurationError(f"no settings: {', '.join(unknown)}")
    if faults := list(_found_when_started(settings)):
        raise ConfigurationError("Bad configuration:\n  " + "\n  ".join(faults))
    changed = sum(where != DEFAULT for where in origins(os.environ, config).values())
    known = len(type(settings).model_fields)
    if as_json:
        print(json.dumps({"sound": True, "settings": known, "given": changed}))
    else:
        print(f"the settings are sound: {known}, of them {changed} given")


def _found_when_started(settings: Settings) -> Iterator[str]:
    """Say what a worker or a trainer would find wrong only once it needs it."""
    for name, value in settings:
        if isinstance(value, Path) and not value.exists():
            yield f"{name}: no such file or folder: {str(value)!r}"
    learning = Learning.of(settings.policy, LinearPrior(np.zeros(1)))
    policies = [("incumbent", settings.incumbent)] if settings.apprentice else []
    for name, text in policies + [("candidate_policies", text) for text in settings.candidate_policies]:
        try:
            PolicySpec.parse(text).check_served_with(learning, settings.policy)
        except ValueError as error:
            yield f"{name}: {error}"


def origins(environment: Mapping[str, str], config: Path | None) -> dict[str, str]:
    """Return where each setting comes from, by name: a variable, the file, or its default."""
    in_file = set() if config is None else set(tomllib.loads(config.read_text(encoding="utf-8")))
    found = {}
    for name, field in Settings.model_fields.items():
        given = [variable for variable in variables(name, field) if variable in environment]
        found[name] = given[0] if given else str(config) if name in in_file else DEFAULT
    return found


def variables(name: str, field: FieldInfo) -> list[str]:
    """Return the variables that give a setting its value, the strongest first."""
    choices = getattr(field.validation_alias, "choices", None)
    return (
        [f"{ENV_PREFIX}{name.upper()}"] if choices is None else [str(one) for one in choices if one != name]
    )


def described(settings: Settings, where: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return value, origin, default and description of each setting, by name, as JSON has them."""
    values = settings.model_dump(mode="json")
    return {
        name: {
            "value": values[name],
            "from": where[name],
            "default": _plain(field.get_default(call_default_factory=True)),
            "variables": variables(name, field),
            "about": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _print_all(rows: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(title_justify="left")
    for column in ("setting", "value", "from"):
        table.add_column(column, overflow="fold")
    for name, row in rows.items():
        given = row["from"] != DEFAULT
        table.add_row(name, escape(_text(row["value"])), escape(row["from"]), style="bold" if given else "")
    _console().print(table)


def _print_one(name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    for row in rows.values():
        for label, value in (
            ("setting", name),
            ("value", _text(row["value"])),
            ("from", row["from"]),
            ("default", _text(row["default"])),
            ("variable", " or ".join(row["variables"])),
            ("about", row["about"] or "-"),
        ):
            _console().print(f"[bold]{label:10}[/]{escape(value)}", soft_wrap=True)


def _text(value: Any) -> str:
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
