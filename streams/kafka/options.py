"""Connection settings in the form that each Kafka client library wants."""

import ssl
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider

import streams.kafka.client_patches  # noqa: F401 - of all clients of the process, Faust's too
from streams.errors import ConfigurationError
from streams.kafka.tls_closing import close_at_once
from streams.settings import Settings


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the connection keywords of kafka-python's clients (consumer, producer, admin).

    Raises
    ------
    ConfigurationError
        Naming the file of the TLS settings or of the token that cannot be used, and why.
    """
    options = _common_options(settings)
    if "sasl_mechanism" in options and settings.sasl_mechanism == "OAUTHBEARER":
        from kafka.net.sasl.oauth import AbstractTokenProvider as SyncTokenProvider

        file = _token_file(settings)

        class FileToken(SyncTokenProvider):
            def token(self) -> str:
                return read_token(file)

        options["sasl_oauth_token_provider"] = FileToken()
    return options


def aiokafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the connection keywords of aiokafka's clients.

    Raises
    ------
    ConfigurationError
        Naming the file of the TLS settings or of the token that cannot be used, and why.
    """
    close_at_once()
    options = _common_options(settings)
    if "sasl_mechanism" in options and settings.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = FileToken(_token_file(settings))
    return options


class FileToken(AbstractTokenProvider):
    """The token of OAUTHBEARER, as its file has it now."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def token(self) -> str:
        """Read it."""
        return read_token(self._file)


def read_token(file: Path) -> str:
    """Return the token that a file holds.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or holds none.
    """
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"sasl_token_file {file}: {_reason(error)}") from None
    if not token:
        raise ConfigurationError(f"sasl_token_file {file} must hold a token, and is empty")
    return token


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of `ssl_cafile` (the system's authorities when unset); None without TLS.

    Raises
    ------
    ConfigurationError
        Naming the file that cannot be used, and why.
    """
    if not settings.security_protocol.endswith("SSL"):
        return None
    files = {name: getattr(settings, name) for name in ("ssl_cafile", "ssl_certificate", "ssl_key")}
    for name, file in files.items():
        _check_file(name, file)
    cafile, certificate, key = files.values()
    try:
        context = ssl.create_default_context(cafile=cafile)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"ssl_cafile {cafile} must hold certificates as PEM: {_reason(error)}"
        ) from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # else it asks at the terminal
        except ssl.SSLError as error:
            rule = "must be PEM, the key without a password and of this certificate"
            raise ConfigurationError(
                f"ssl_certificate {certificate} and ssl_key {key} {rule}: {_reason(error)}"
            ) from None
    return context


def _check_file(name: str, file: Path | None) -> None:
    if file is None:
        return
    try:
        file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} {file}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _token_file(settings: Settings) -> Path:
    assert settings.sasl_token_file is not None  # a rule of Settings
    return settings.sasl_token_file


def _common_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
    }
    if (context := ssl_context(settings)) is not None:
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER":
            read_token(_token_file(settings))  # a fault is told now, and not by a connection
        else:
            assert settings.sasl_password is not None  # a rule of Settings
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options
