"""Under which address a worker is reached by others."""

import ipaddress
import socket
from collections.abc import Iterable

from streams.errors import ConfigurationError

ANYWHERE = ("192.0.2.1", 9)  # reserved for documentation: nobody is there, and nothing is sent
WILDCARDS = ("", "0.0.0.0", "::")


def is_local(host: str) -> bool:
    """Whether only this machine reaches what is bound to a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable_host(host: str, *, toward: Iterable[str]) -> str:
    """Return the host by which others reach what is bound to `host`.

    What is bound to all addresses (0.0.0.0, ::) is reached by the one with which this machine speaks to the
    brokers, since every other worker reaches them, too.

    Parameters
    ----------
    toward : host:port of the brokers

    Raises
    ------
    ConfigurationError
        If no address is found.
    """
    if host not in WILDCARDS:
        return host
    brokers = [server.strip().rpartition(":") for server in toward]
    for name, port in [*((name, int(port)) for name, _, port in brokers if port.isdigit()), ANYWHERE]:
        try:
            found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_DGRAM)
        except OSError:
            continue
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(address)  # of a datagram socket: it chooses a route and sends nothing
                    return str(probe.getsockname()[0])
            except OSError:
                continue
    raise ConfigurationError(
        f"http_host is {host}, and no address of this machine is found: say with advertised_url how others "
        "reach this worker"
    )


def url_of(host: str, port: int, *, tls: bool) -> str:
    """Return the URL of a host and a port."""
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
