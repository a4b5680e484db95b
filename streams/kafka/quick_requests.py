"""Requests as bytes, each made by a few calls: aiokafka's own are described field by field, and cost more."""

from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple

_HEADER = Struct(">hhih")  # what is asked, its version, the correlation id, and how long the client's name is
_CORRELATION = Struct(">i")
_SIZE = Struct(">h")


class _Encoded(NamedTuple):
    data: bytes

    def encode(self) -> bytes:
        return self.data


class _Header(NamedTuple):
    correlation_id: int


class QuickRequest:
    """A request of an old, inflexible version, as aiokafka's connection wants to see it.

    Parameters
    ----------
    data : the request after its header
    response : has a class method `decode`, which reads what follows a response's header
    """

    __slots__ = ("API_KEY", "API_VERSION", "RESPONSE_TYPE", "_data")

    def __init__(self, api_key: int, version: int, data: bytes, response: Any) -> None:
        self.API_KEY = api_key
        self.API_VERSION = version
        self.RESPONSE_TYPE = response
        self._data = data

    def prepare(self, versions: dict[int, tuple[int, int]]) -> "QuickRequest":
        """Return what goes over the wire."""
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        """Return the header, ready to be encoded."""
        name = client_id.encode()
        return _Encoded(_HEADER.pack(self.API_KEY, self.API_VERSION, correlation_id, len(name)) + name)

    def parse_response_header(self, data: BytesIO) -> _Header:
        """Read a response's header."""
        return _Header(*_CORRELATION.unpack(data.read(_CORRELATION.size)))

    def encode(self) -> bytes:
        """Return the request without its header."""
        return self._data


def text(view: memoryview, at: int) -> tuple[str, int]:
    """Read a string; return it and where the next field is."""
    (size,) = _SIZE.unpack_from(view, at)
    end = at + _SIZE.size + size
    return str(view[at + _SIZE.size : end], "utf-8"), end
