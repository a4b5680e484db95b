"""Settings: of a worker, of mapped topics and of tokens, and the messages for mistakes."""

from streams.settings.kafka import ENV_PREFIX
from streams.settings.settings import Settings, load_settings
from streams.settings.state import DEFAULT_ACTIONS

__all__ = ["DEFAULT_ACTIONS", "ENV_PREFIX", "Settings", "load_settings"]
