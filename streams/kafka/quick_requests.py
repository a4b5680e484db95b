"""Requests as bytes, each made by a few calls: aiokafka's own are described field by field, and cost more."""

from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion

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
    response : has a method `decode`, which reads what follows a response's header
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


class FlexibleRequest(QuickRequest):
    """A request of a flexible version (KIP-482), without tagged fields.

    Raises
    ------
    aiokafka.errors.IncompatibleBrokerVersion
        When it is prepared for a broker that is too old for it.
    """

    __slots__ = ()

    def prepare(self, versions: dict[int, tuple[int, int]]) -> "FlexibleRequest":
        """Return what goes over the wire."""
        oldest, newest = versions.get(self.API_KEY, (0, -1))
        if not oldest <= self.API_VERSION <= newest:
            raise IncompatibleBrokerVersion(
                f"request {self.API_KEY} must have a version from {oldest} to {newest}, "
                f"got {self.API_VERSION}"
            )
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        """Return the header, ready to be encoded."""
        return _Encoded(super().build_request_header(correlation_id, client_id).data + b"\0")

    def parse_response_header(self, data: BytesIO) -> _Header:
        """Read a response's header."""
        header = super().parse_response_header(data)
        data.seek(after_tags(data.getbuffer(), data.tell()))
        return header


def number(view: memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned varint; return it and where the next field is."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def compact_text(view: memoryview, at: int) -> tuple[str, int]:
    """Read a compact string, "" where there is none; return it and where the next field is."""
    size, at = number(view, at)
    end = at + max(0, size - 1)
    return str(view[at:end], "utf-8"), end


def varint(value: int) -> bytes:
    """Return a number as an unsigned varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def after_tags(view: memoryview, at: int) -> int:
    """Return where the field after some tagged ones is."""
    n, at = number(view, at)
    for _ in range(n):
        _, at = number(view, at)
        size, at = number(view, at)
        at += size
    return at


def text(view: memoryview, at: int) -> tuple[str, int]:
    """Read a string; return it and where the next field is."""
    (size,) = _SIZE.unpack_from(view, at)
    end = at + _SIZE.size + size
    return str(view[at + _SIZE.size : end], "utf-8"), end
