"""Decompresses batches of records up to a bound: a few kilobytes may stand for gigabytes of zeros.

aiokafka's own reading is given the same decoders.
"""

import threading
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import numpy as np
from aiokafka.codec import snappy_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as compiled_default_records
from aiokafka.record._crecords import legacy_records as compiled_legacy_records

MOST_BYTES = 64 << 20
"""Of a batch. Producers bound theirs before they compress: at 1 MB by default."""

_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_room = threading.local()


def gzip(data: Any) -> bytes:
    """Decompress members of gzip.

    Raises
    ------
    CorruptRecordException
        If it is none, or stands for more than `MOST_BYTES`; so the others.
    """
    pieces: list[bytes] = []
    left, rest = MOST_BYTES, bytes(data)
    while rest:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            pieces.append(member.decompress(rest, left + 1))
        except zlib.error as error:
            raise CorruptRecordException(f"a batch is no gzip: {error}") from None
        left -= len(pieces[-1])
        if left < 0:
            raise _too_large()
        if not member.eof:
            raise CorruptRecordException("a batch ends within its gzip")
        rest = member.unused_data
    return b"".join(pieces)


def snappy(data: Any) -> bytes:
    """Decompress snappy, as one block or as Java's framed ones, which say how long they are."""
    view = memoryview(data)
    framed = bytes(view[: len(_XERIAL)]) == _XERIAL
    size, at = 0, _XERIAL_HEADER if framed else 0
    while at < len(view):
        end = len(view)
        if framed:
            at, end = at + 4, at + 4 + int.from_bytes(view[at : at + 4], "big")
        size += cramjam.snappy.decompress_raw_len(view[at:end])
        if size > MOST_BYTES:
            raise _too_large()
        at = end
    return bytes(snappy_decode(data))


def lz4(data: Any) -> bytes:
    """Decompress frames of LZ4."""
    return _into_room(cramjam.lz4.decompress_into, data)


def zstd(data: Any) -> bytes:
    """Decompress frames of Zstandard."""
    return _into_room(cramjam.zstd.decompress_into, data)


def _into_room(decompress: Callable[[Any, Any], int], data: Any) -> bytes:
    """Decompress into memory that is asked for once a thread; only what is written to is taken."""
    room = getattr(_room, "bytes", None)
    if room is None:
        room = _room.bytes = np.empty(MOST_BYTES, np.uint8)
    try:
        n = decompress(data, room)
    except cramjam.DecompressionError as error:
        raise CorruptRecordException(
            f"a batch cannot be decompressed, or not into {MOST_BYTES >> 20} MiB: {error}"
        ) from None
    return room[:n].tobytes()


def _too_large() -> CorruptRecordException:
    return CorruptRecordException(f"a batch stands for more than {MOST_BYTES >> 20} MiB")


DECODERS: dict[int, Callable[[Any], bytes]] = {1: gzip, 2: snappy, 3: lz4, 4: zstd}
"""By the number that a batch's attributes have."""

# For every consumer of the process.
for _module in (default_records, legacy_records, compiled_default_records, compiled_legacy_records):
    for _decoder in DECODERS.values():
        if hasattr(_module, f"{_decoder.__name__}_decode"):
            setattr(_module, f"{_decoder.__name__}_decode", _decoder)
