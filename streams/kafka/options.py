"""How each Kafka client library wants the connection settings said."""

import ssl
from typing import Any

from streams.settings import Settings


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the connection keywords of kafka-python's clients (consumer, producer, admin)."""
    options = _common_options(settings)
    if settings.security_protocol.endswith("SSL") and settings.ssl_cafile is not None:
        options["ssl_cafile"] = str(settings.ssl_cafile)
    return options


def aiokafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the connection keywords of aiokafka's clients, which want a ready-made TLS context."""
    options = _common_options(settings)
    if (context := ssl_context(settings)) is not None:
        options["ssl_context"] = context
    return options


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of `ssl_cafile` (the system's authorities when unset); None without TLS."""
    if not settings.security_protocol.endswith("SSL"):
        return None
    cafile = None if settings.ssl_cafile is None else str(settings.ssl_cafile)
    return ssl.create_default_context(cafile=cafile)


def _common_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL"):
        assert settings.sasl_password is not None  # a rule of Settings
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options
