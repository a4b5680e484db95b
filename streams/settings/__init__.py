"""What can be set: a worker's settings, mapped topics, tokens, and what is said of mistakes."""

from streams.settings.worker import DEFAULT_ACTIONS, ENV_PREFIX, Settings, load_settings

__all__ = ["DEFAULT_ACTIONS", "ENV_PREFIX", "Settings", "load_settings"]
