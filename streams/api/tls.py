"""TLS of a worker's HTTP: the certificate that it shows, looked at before anybody else does."""

import ssl
from pathlib import Path

from streams.errors import ConfigurationError


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server of this certificate and key speaks: TLS 1.2 or later.

    Raises
    ------
    ConfigurationError
        Naming the file that cannot be used and why: not there, no PEM, the key of another certificate, one
        that asks for a password, a certificate that has expired or is not valid yet.
    """
    for name, path in (("http_tls_certificate", certificate), ("http_tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{name} {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # else it asks at the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"http_tls_key {key} is not the key of http_tls_certificate {certificate}"
        else:
            message = (
                f"http_tls_certificate {certificate} and http_tls_key {key} must be PEM, the key without a "
                f"password: {error.reason or error}"
            )
        raise ConfigurationError(message) from None
    _try(context, certificate)
    return context


def _try(server: ssl.SSLContext, certificate: Path) -> None:
    """Shake hands with ourselves in memory, as a client that trusts this certificate and nothing else."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # what it is called by is the caller's to know
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        while sides:
            for side in list(sides):
                try:
                    side.do_handshake()
                    sides.remove(side)
                except ssl.SSLWantReadError:
                    pass
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"http_tls_certificate {certificate} is of no use to a client: {error.verify_message}"
        ) from None
