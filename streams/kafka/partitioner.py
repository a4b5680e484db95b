"""Kafka's partitioner: murmur2 of a key's UTF-8 bytes, as the Java client hashes it."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

_SEED, _MIX, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


@numba.njit(cache=True, nogil=True)
def _hash(data: NDArray[np.uint8], spans: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """murmur2 of each key without its sign bit; spans : (n, 2) begin and size."""
    mask, mix = np.uint64(_MASK), np.uint64(_MIX)
    for i in range(len(out)):
        begin, end = spans[i, 0], spans[i, 0] + spans[i, 1]
        h = np.uint64(_SEED) ^ np.uint64(end - begin)
        whole = end - (end - begin) % 4
        for at in range(begin, whole, 4):
            k = np.uint64(0)
            for byte in range(4):
                k |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            k = (k * mix) & mask
            k ^= k >> np.uint64(24)
            k = (k * mix) & mask
            h = ((h * mix) & mask) ^ k
        if whole < end:
            for byte in range(end - whole):
                h ^= np.uint64(data[whole + byte]) << np.uint64(8 * byte)
            h = (h * mix) & mask
        h ^= h >> np.uint64(13)
        h = (h * mix) & mask
        h ^= h >> np.uint64(15)
        out[i] = np.int64(h & np.uint64(0x7FFFFFFF))


def partitions_of(keys: Sequence[str], partitions: int) -> NDArray[np.int64]:
    """Partition of each key on a topic of `partitions` partitions: (n,) int64."""
    encoded = [key.encode() for key in keys]
    sizes = np.array([len(key) for key in encoded], np.int64)
    spans = np.stack((np.cumsum(sizes) - sizes, sizes), axis=1)
    return partitions_of_bytes(np.frombuffer(b"".join(encoded), np.uint8), spans, partitions)


def partitions_of_bytes(
    data: NDArray[np.uint8], spans: NDArray[np.int64], partitions: int
) -> NDArray[np.int64]:
    """Partition of each key, whose UTF-8 bytes lie in `data` at (n, 2) begin and size: (n,) int64."""
    out = np.empty(len(spans), np.int64)
    _hash(data, spans, out)
    return out % partitions


def partition_of(key: str, partitions: int) -> int:
    """Partition of one key: NumPy would cost more than the hash."""
    data = key.encode()
    whole = len(data) & ~3
    h = _SEED ^ len(data)
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _MIX & _MASK
        h = h * _MIX & _MASK ^ ((k ^ k >> 24) * _MIX & _MASK)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MIX & _MASK
    h = (h ^ h >> 13) * _MIX & _MASK
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions
