"""Connects to brokers as clients do, and says what is wrong, where clients only say that it failed."""

import asyncio
import contextlib
import logging
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import BrokersUnreachable, ClusterError, TopicError
from streams.kafka.options import aiokafka_client_options
from streams.settings import Settings

CONNECT_TIMEOUT_MS = 10_000
HINT = "set KAFKA_BOOTSTRAP_SERVERS, or start a broker with `slatestream broker`"
CLOSE_TIMEOUT_S = 1.0
AGAIN_S = 2.0

log = logging.getLogger(__name__)


def check_brokers_from_thread(settings: Settings) -> None:
    """Do what `check_brokers` does, for those who have no event loop, or must not hold it."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, check_brokers(settings)).result()


async def check_brokers(settings: Settings) -> None:
    """Connect to one of the brokers as every client will, and ask it something.

    Raises
    ------
    ClusterError
        If none answers: for each, whether it was not reached, speaks another protocol, showed a certificate
        that is not trusted, wants one, or does not know user and password. BrokersUnreachable if none was
        reached, or not where it says that it is.
    ConfigurationError
        If a file of the TLS settings or of the token cannot be used.
    """
    options = aiokafka_client_options(settings)
    options["request_timeout_ms"] = CONNECT_TIMEOUT_MS
    faults, reached, hint = [], False, f": {HINT}"
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        if not (host and port.isdecimal()):
            raise TopicError(
                f"bootstrap_servers must be host:port,host:port..., got {settings.bootstrap_servers!r}"
            )
        try:
            told = await _ask(host.strip("[]"), int(port), options)
            if (fault := await _unreachable(told)) is None:
                return
            hint = ""  # a name may be known in a while, as those of pods
        except (OSError, TimeoutError, errors.KafkaError) as error:
            reached |= isinstance(error, ssl.SSLError | errors.KafkaError)
            fault = _fault(error, settings)
            if fault is None:
                tls = await _speaks_tls(host.strip("[]"), int(port))
                fault = _closed(settings, tls=tls)
        faults.append(f"{server}: {fault}")
    text = f"Kafka cannot be reached ({'; '.join(faults)})"
    raise ClusterError(text) if reached else BrokersUnreachable(text + hint)


async def wait_for_brokers(settings: Settings, *, again_s: float = AGAIN_S) -> None:
    """Check until a broker answers, for `connect_timeout_ms`: they may start after whoever needs them.

    What waiting does not mend is told at once.

    Parameters
    ----------
    again_s : between two tries

    Raises
    ------
    ClusterError, ConfigurationError
        As `check_brokers`.
    """
    until = time.monotonic() + settings.connect_timeout_ms / 1000
    while True:
        try:
            return await check_brokers(settings)
        except BrokersUnreachable as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            log.warning("%s; waiting for up to %.0f s more (connect_timeout_ms)", error, left)
        await asyncio.sleep(min(again_s, left))


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1000):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), CLOSE_TIMEOUT_S)
    return True


async def _ask(host: str, port: int, options: dict[str, Any]) -> list[tuple[str, int]]:
    """Return where the brokers say that they are reached."""
    # The client's own words come before ours, say less, and are errors in its log.
    quiet = logging.getLogger("aiokafka.conn")
    quiet.disabled = True
    try:
        connection = AIOKafkaConnection(host, port, **options)
        try:
            await connection.connect()
            answer = await connection.send(MetadataRequest([]))
            # Nobody says that a token is refused: the next request is answered emptily, then the end.
            if not answer.brokers and options.get("sasl_mechanism") == "OAUTHBEARER":
                raise errors.SaslAuthenticationFailed("a token that has not expired is wanted, of its issuer")
            return [(broker[1], broker[2]) for broker in answer.brokers]
        finally:
            closed = connection.close()
            if connection._protocol is not None:  # a TLS connection takes a moment to close
                await asyncio.wait([closed], timeout=CLOSE_TIMEOUT_S)
    finally:
        quiet.disabled = False


async def _unreachable(told: list[tuple[str, int]]) -> str | None:
    """Say what keeps this machine from all the addresses that brokers tell; None where one can be reached."""
    faults = await asyncio.gather(*(_connects(host, port) for host, port in told))
    if not faults or None in faults:
        return None
    return (
        f"it answers, and says that brokers are reached at {told[0][0]}:{told[0][1]}, where they are not: "
        f"{faults[0]}. See advertised.listeners of the broker"
    )


async def _connects(host: str, port: int) -> str | None:
    """Say why no connection is made; None if one is."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1000):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return None


def _fault(error: Exception, settings: Settings) -> str | None:
    """Say what an error means to whoever wrote the settings; None of a connection taken and closed."""
    if isinstance(error, ssl.SSLError):
        return _tls_fault(error, settings)
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return f"it does not offer sasl_mechanism={settings.sasl_mechanism}"
    if isinstance(error, errors.IllegalSaslStateError):
        return f"it asks for no credentials, and security_protocol={settings.security_protocol} sends some"
    if isinstance(error, errors.AuthenticationFailedError | errors.SaslAuthenticationFailed):
        names = (
            "sasl_token_file" if settings.sasl_mechanism == "OAUTHBEARER" else "sasl_username, sasl_password"
        )
        return f"it refuses {names}: {error}"
    if isinstance(error, errors.KafkaConnectionError | ConnectionResetError | BrokenPipeError):
        return None
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own words are of addresses
    return str(error) or "no answer in time"


def _tls_fault(error: ssl.SSLError, settings: Settings) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = "the system's authorities" if settings.ssl_cafile is None else settings.ssl_cafile
        return f"ssl_cafile ({trusted}) does not vouch for its certificate: {error.verify_message}"
    if error.reason and "ALERT" in error.reason:
        return f"it refuses the TLS handshake, {error.reason}: see ssl_certificate and ssl_key"
    return f"it speaks no TLS, which security_protocol={settings.security_protocol} wants: {error.reason}"


def _closed(settings: Settings, *, tls: bool) -> str:
    with_tls = settings.security_protocol.endswith("SSL")
    if tls and not with_tls:
        wants = "it speaks TLS: set security_protocol to SSL or SASL_SSL"
    elif with_tls and not tls:
        wants = f"it speaks no TLS, which security_protocol={settings.security_protocol} wants"
    elif with_tls and settings.ssl_certificate is None:
        wants = "it wants a client certificate (ssl_certificate, ssl_key), or credentials (SASL_SSL)"
    else:
        wants = f"it wants credentials, or others (security_protocol={settings.security_protocol})"
    return f"it takes the connection and closes it; {wants}"
