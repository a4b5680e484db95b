"""Kafka's partitioner: murmur2 of a key's UTF-8 bytes, as the Java client hashes it."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

_SEED, _MIX, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


@numba.njit(cache=True, nogil=True)
def _hash(data: NDArray[np.uint8], bounds: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """murmur2 of data[bounds[i]:bounds[i + 1]] without its sign bit, for every i."""
    mask, mix = np.uint64(_MASK), np.uint64(_MIX)
    for i in range(len(out)):
        begin, end = bounds[i], bounds[i + 1]
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
    bounds = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(key) for key in encoded], out=bounds[1:])
    out = np.empty(len(encoded), np.int64)
    _hash(np.frombuffer(b"".join(encoded), np.uint8), bounds, out)
    return out % partitions


def partition_of(key: str, partitions: int) -> int:
    """Partition of one key."""
    return int(partitions_of([key], partitions)[0])
