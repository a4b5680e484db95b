"""Errors that a caller acts on."""


class SlatestreamError(Exception):
    """Base of the errors that end a command with a message instead of a traceback."""


class ConfigurationError(SlatestreamError):
    """A setting is missing or breaks its rule; the message names it, its value and the rule."""


class BrokerError(SlatestreamError):
    """A broker cannot be started, or does not do what is asked of it; the message says what to do."""


class TopicError(SlatestreamError):
    """A topic is missing or differs from what is wanted."""


class OwnershipLost(Exception):
    """Another worker answers for the partition now: what is held of it here counts no more."""
