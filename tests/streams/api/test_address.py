import ipaddress
import socket

import pytest

from streams.api import address
from streams.api.address import is_local, reachable_host, url_of
from streams.errors import ConfigurationError
from streams.settings import load_settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_what_is_bound_to_all_addresses_announces_one_that_answers(host: str) -> None:
    found = reachable_host(host, toward=["127.0.0.1:9092"])
    assert found == "127.0.0.1"
    with (
        socket.create_server(("0.0.0.0", 0)) as server,
        socket.create_connection((found, server.getsockname()[1])),
    ):
        pass


def test_towards_brokers_elsewhere_it_is_an_address_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANYWHERE", ("127.0.0.2", 9))
    found = reachable_host("0.0.0.0", toward=["no-such-broker.invalid:9092", "nonsense"])
    with socket.create_server((found, 0)):  # binding works for own addresses only
        assert not ipaddress.ip_address(found).is_unspecified
    monkeypatch.setattr(address, "ANYWHERE", ("no-such-host.invalid", 9))
    with pytest.raises(ConfigurationError, match="say with advertised_url how others reach"):
        reachable_host("0.0.0.0", toward=["no-such-broker.invalid:9092"])


def test_a_host_that_was_named_is_announced_as_it_is() -> None:
    assert reachable_host("worker-1.internal", toward=[]) == "worker-1.internal"
    assert url_of("::1", 80, tls=True) == "https://[::1]:80"
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "0.0.0.0")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("url", ["http://0.0.0.0:6066", "http://[::]:6066"])
def test_nobody_may_advertise_what_leads_to_everybody(url: str) -> None:
    with pytest.raises(ConfigurationError, match="advertised_url: must be an address that others reach"):
        load_settings(advertised_url=url)
