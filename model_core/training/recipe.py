"""A recipe, a TOML file: sizes, training, signals and privacy of a model for one dataset."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from model_core.network.config import ModelConfig, TrainConfig
from model_core.privacy.config import Privacy
from model_core.signals.config import SignalConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a training; a table of the file for each, and what it leaves out keeps its default."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    signals: SignalConfig = field(default_factory=SignalConfig)
    privacy: Privacy = field(default_factory=Privacy)

    def changed(self, **settings: Mapping[str, Any]) -> "Recipe":
        """Return a copy with some settings of some tables replaced: ``changed(train={"epochs": 3})``."""
        return replace(self, **{name: replace(getattr(self, name), **of) for name, of in settings.items()})


TABLES = {field.name: field.default_factory for field in fields(Recipe)}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    ValueError
        If the file cannot be read or a setting is unknown, of another type or out of range; the message
        names it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"recipe {str(path)!r} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"recipe {str(path)!r} must be a TOML file: {error}") from None
    for name, table in tables.items():
        if name not in TABLES or not isinstance(table, dict):
            raise ValueError(f"recipe {str(path)!r} must hold the tables {list(TABLES)}, got {name!r}")
        known = {field.name for field in fields(TABLES[name])}  # type: ignore[arg-type]
        if unknown := sorted(table.keys() - known):
            raise ValueError(f"recipe {str(path)!r}: [{name}] has no setting {unknown[0]!r}")
    try:
        return msgspec.convert(tables, Recipe)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"recipe {str(path)!r}: {error}") from None


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write every setting that differs from its default."""
    tables: dict[str, dict[str, Any]] = {}
    for name, default in asdict(Recipe()).items():
        given = asdict(recipe)[name]
        tables[name] = {key: value for key, value in given.items() if value != default[key]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_toml(tables))


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> bytes:
    lines: list[str] = []
    for name, table in tables.items():
        if table:
            lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines).encode()


def _value(value: bool | int | float | str) -> str:
    return msgspec.json.encode(value).decode()  # of these types JSON's spelling is TOML's too
