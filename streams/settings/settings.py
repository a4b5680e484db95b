"""Every setting, read from one place: the environment or a TOML file.

`SLATESTREAM_K_DEFAULT=20` or `k_default = 20` in the file given with `--config`; the environment wins.
"""

import logging
import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from streams.errors import ConfigurationError
from streams.settings.faults import explain, explain_no_json, unknown_variables
from streams.settings.http import HttpSettings
from streams.settings.kafka import ENV_PREFIX, KafkaSettings
from streams.settings.learning import LearningSettings
from streams.settings.serving import ServingSettings
from streams.settings.sources import FieldSource
from streams.settings.state import StateSettings
from streams.settings.trainer import TrainerSettings

log = logging.getLogger("slatestream")


# Fields are in the order of the bases from the last to the first.
class Settings(
    HttpSettings,
    TrainerSettings,
    LearningSettings,
    ServingSettings,
    StateSettings,
    KafkaSettings,
    BaseSettings,
):
    """Every setting of slatestream with its default and its rule."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_not_blank(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what is given and says nothing: a path would be the folder here, an address any address."""
        if isinstance(value, str) and not value.strip() and info.field_name != "topic_prefix":
            raise ValueError("must not be empty: leave it out instead")
        return value

    @model_validator(mode="after")
    def _check_known_actions(self) -> Self:
        for name in (
            "seen_actions",
            "done_actions",
            "recommend_on",
            "dwell_half_ms",
            "attribution_windows_ms",
        ):
            unknown = set(getattr(self, name) or ()) - self.actions.keys()
            if unknown:
                raise ValueError(f"{name} names {sorted(unknown)}, which `actions` does not define")
        if self.budget_spent_by is not None and self.budget_spent_by not in self.actions:
            raise ValueError(
                f"budget_spent_by names {self.budget_spent_by!r}, which `actions` does not define"
            )
        return self

    @model_validator(mode="after")
    def _check_mapped_actions(self) -> Self:
        for source in self.sources:
            action = source.fields.get("action")
            if source.feeds != "clicks" or not isinstance(action, FieldSource):
                continue
            named = {action.constant, action.default, *(action.values or {}).values()} - {None}
            if unknown := named - self.actions.keys():
                raise ValueError(
                    f"mapping: source {source.topic} makes the actions {sorted(map(str, unknown))}, which "
                    "`actions` does not define"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values first, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file.get())


# Only while settings are loaded: those that are made by themselves have no file.
_config_file: ContextVar[Path | None] = ContextVar("_config_file", default=None)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings; `overrides` that are None are ignored.

    Variables of the environment that begin like settings and are none are warned of.

    Raises
    ------
    ConfigurationError
        Naming each setting at fault, its value and the rule it breaks.
    """
    _check_readable(config)
    for name, meant in unknown_variables(os.environ, ENV_PREFIX, Settings.model_fields).items():
        log.warning("%s is no setting%s", name, f": did you mean {meant}?" if meant else "")
    token = _config_file.set(config)
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings.model_fields)) from None
    except SettingsError as error:  # a variable that must be JSON and is not
        raise ConfigurationError(explain_no_json(error, ENV_PREFIX, Settings.model_fields)) from None
    finally:
        _config_file.reset(token)


def _check_readable(config: Path | None) -> None:
    if config is None:
        return
    if not config.is_file():
        raise ConfigurationError(f"--config {config}: {'a folder' if config.is_dir() else 'no such file'}")
    try:
        tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"--config {config}: no TOML: {error}") from None
