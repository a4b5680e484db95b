"""Whoever asks with a token or a password follows no redirect with it."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from streams.mapping.registry import Registry, RegistryError
from streams.on_device.files import DeviceError
from streams.on_device.source import HttpSource


class Elsewhere(ThreadingHTTPServer):
    """Sends every caller on to another path of its own, and notes the paths asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Redirecting)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Redirecting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(307)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def by_device(url: str) -> object:
    return HttpSource(url, token="secret").manifest()


def by_registry(url: str) -> object:
    return Registry(url, username="me", password="secret").by_id(1)


@pytest.mark.parametrize(
    ("ask", "refusal"), [(by_device, DeviceError), (by_registry, RegistryError)], ids=["device", "registry"]
)
def test_a_redirect_is_an_error_and_takes_no_secret_along(
    server: Elsewhere, ask: Callable[[str], object], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal, match="307") as said:
        ask(server.url)
    assert len(server.asked) == 1
    assert "secret" not in str(said.value)
