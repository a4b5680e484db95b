"""Errors that a caller acts on."""


class SlatestreamError(Exception):
    """Base of the errors that end a command with a message instead of a traceback."""


class ConfigurationError(SlatestreamError):
    """A setting is missing or breaks its rule; the message names it, its value and the rule."""


class BrokerError(SlatestreamError):
    """The embedded broker cannot be built, started or stopped; the message says what to do."""


class TopicError(SlatestreamError):
    """A topic is missing or differs from what is wanted."""
