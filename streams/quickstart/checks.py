"""Checks at the start of a quickstart: the work after them takes minutes."""

from typing import Any

from streams.broker.jars import find_java, kafka_jars
from streams.client.http import TOKEN_VARIABLE, token_of_environment
from streams.errors import ConfigurationError, SlatestreamError
from streams.items.text_encoder import NO_ENCODER, named_encoder
from streams.quickstart.steps import needs_no_encoder
from streams.settings import Settings
from streams.worker.process import free_port, port_is_free

HTTP_PORT = 6066
CONSOLE_PORT = 6070
OTHERS = (
    "mapping", "release", "release_store", "security_protocol", "http_tls_certificate", "admin_port",
)  # fmt: skip
"""Settings of another cluster, or of a worker that answers elsewhere."""


def check_settings(settings: Settings) -> None:
    """Refuse settings that a broker and a worker of one's own, on plain HTTP, make no sense with.

    Raises
    ------
    ConfigurationError
        Naming the setting, and why not.
    """
    for name in OTHERS:
        if (value := getattr(settings, name)) != Settings.model_fields[name].default:
            raise ConfigurationError(
                f"quickstart runs a broker and a worker of its own: {name} must not be set, got "
                f"{str(value)!r}"
            )
    if (settings.http_tokens or settings.http_tokens_file) and token_of_environment() is None:
        raise ConfigurationError(
            f"the settings ask for tokens, and quickstart asks its worker: set {TOKEN_VARIABLE} to one with "
            "the scopes recommend and admin"
        )


def check_tools(settings: Settings, *, train: bool) -> None:
    """Look for Java, Kafka's jars and the text encoder, and fetch or export what there is not yet.

    Parameters
    ----------
    train : whether a release is to be trained, which reads the items' texts

    Raises
    ------
    BrokerError
        Without Java 17, or where Maven cannot fetch the jars.
    ConfigurationError
        Without the text encoder of the settings, or with none where a release is to be trained.
    """
    if train and settings.text_encoder == NO_ENCODER:
        raise ConfigurationError(
            f"a release is trained on the items' texts: text_encoder must be one, got {NO_ENCODER!r}; "
            "without, say --train none"
        )
    find_java()
    kafka_jars()
    name: Any = needs_no_encoder(None).get("text_encoder", settings.text_encoder)
    if name == NO_ENCODER:
        return
    try:
        named_encoder(name)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"text_encoder: {error}") from None


def ports(http: int | None, console: int | None) -> tuple[int, int]:
    """Return the ports of HTTP and of the console: those that were said, else the usual or free ones.

    Raises
    ------
    SlatestreamError
        If one that was said is taken, or both are the same.
    """
    for option, port in (("--port", http), ("--console-port", console)):
        if port is not None and not port_is_free(port):
            raise SlatestreamError(
                f"{option} {port} on 127.0.0.1 is taken: stop what listens there, or name another"
            )
    if http is not None and http == console:
        raise SlatestreamError(f"--port and --console-port must differ, got {http} for both")
    first = http or _free(HTTP_PORT, console)
    return first, console or _free(CONSOLE_PORT, first)


def _free(usual: int, taken: int | None) -> int:
    return free_port(0 if usual == taken else usual)
