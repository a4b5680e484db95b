"""XXH3 for compiled code: what `xxhash.xxh3_64_intdigest` gives, of up to `LONGEST` bytes.

The algorithm is that of the xxHash specification (doc/xxhash_spec.md, "XXH3 algorithm overview").
"""

import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inlined, inner

LONGEST = 128

U = np.uint64
_PRIME_1, _PRIME_2, _PRIME_3 = U(0x9E3779B185EBCA87), U(0xC2B2AE3D27D4EB4F), U(0x165667B19E3779F9)
_MIX_1, _MIX_2, _LOW = U(0x165667919E3779F9), U(0x9FB21C651E98DF25), U(0xFFFFFFFF)
# The default secret: 64-bit words at bytes 0, 8, ... 120 of it.
_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
        "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    ),
    "<u8",
).astype(np.uint64)
_SHORT = U(int(_SECRET[0] & _LOW) ^ int(_SECRET[0] >> U(32)))
_EMPTY = U(int(_SECRET[7]) ^ int(_SECRET[8]))
_FLIP_8 = U(int(_SECRET[1]) ^ int(_SECRET[2]))
_FLIP_LOW, _FLIP_HIGH = U(int(_SECRET[3]) ^ int(_SECRET[4])), U(int(_SECRET[5]) ^ int(_SECRET[6]))


@inlined
def _read(data: NDArray[np.uint8], at: int, size: int) -> np.uint64:
    """Little-endian integer."""
    value = U(0)
    for k in range(size):
        value |= U(data[at + k]) << U(8 * k)
    return value


@inlined
def _swapped(value: np.uint64) -> np.uint64:
    """The bytes the other way round."""
    out = U(0)
    for k in range(8):
        out |= ((value >> U(8 * k)) & U(255)) << U(56 - 8 * k)
    return out


@inlined
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    """Low and high half of the 128-bit product, xored."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> U(32), b & _LOW, b >> U(32)
    low, cross, other = a_low * b_low, a_high * b_low, a_low * b_high
    middle = (low >> U(32)) + (cross & _LOW) + other
    high = a_high * b_high + (cross >> U(32)) + (middle >> U(32))
    return ((middle << U(32)) | (low & _LOW)) ^ high


@inlined
def _avalanche(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> U(37))) * _MIX_1
    return h ^ (h >> U(32))


@inlined
def _mixed(data: NDArray[np.uint8], at: int, word: int) -> np.uint64:
    return U(_fold(_read(data, at, 8) ^ _SECRET[word], _read(data, at + 8, 8) ^ _SECRET[word + 1]))


@inner
def xxh3(data: NDArray[np.uint8], at: int, size: int) -> np.uint64:
    """Hash data[at:at + size]; size must not exceed `LONGEST`."""
    n = U(size)
    if size > 16:
        h = n * _PRIME_1
        for k in range((size - 1) // 32, -1, -1):
            h += _mixed(data, at + 16 * k, 4 * k) + _mixed(data, at + size - 16 * (k + 1), 4 * k + 2)
        return U(_avalanche(h))
    if size > 8:
        low, high = _read(data, at, 8) ^ _FLIP_LOW, _read(data, at + size - 8, 8) ^ _FLIP_HIGH
        return U(_avalanche(n + _swapped(low) + high + _fold(low, high)))
    if size > 3:
        h = (_read(data, at + size - 4, 4) + (_read(data, at, 4) << U(32))) ^ _FLIP_8
        h ^= ((h << U(49)) | (h >> U(15))) ^ ((h << U(24)) | (h >> U(40)))
        h *= _MIX_2
        h ^= (h >> U(35)) + n
        h *= _MIX_2
        return U(h ^ (h >> U(28)))
    h = _EMPTY
    if size > 0:
        first, middle, last = U(data[at]), U(data[at + size // 2]), U(data[at + size - 1])
        h = ((first << U(16)) | (middle << U(24)) | last | (n << U(8))) ^ _SHORT
    h = (h ^ (h >> U(33))) * _PRIME_2
    h = (h ^ (h >> U(29))) * _PRIME_3
    return h ^ (h >> U(32))
