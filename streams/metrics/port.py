"""A port with the metrics of a command that is no worker."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from streams.errors import SlatestreamError


@contextmanager
def metrics_port(registry: CollectorRegistry, *, host: str, port: int) -> Iterator[str]:
    """Serve metrics while the body runs; give their URL. Port 0 takes any.

    Raises
    ------
    SlatestreamError
        If the address cannot be had.
    """
    try:
        server, _ = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no address can have
        why = getattr(error, "strerror", None) or error
        raise SlatestreamError(f"--host {host} --port {port}: {why}; name others, port 0 for any") from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
