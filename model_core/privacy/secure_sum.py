"""Sums over sites of which nobody reads a site's own share: pairwise masks that cancel.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", section 4,
without the recovery from sites that drop out: a sum that lacks a share is refused, and a new round is begun.
Each two sites agree on a secret (X25519), draw a stream of numbers from it (HKDF, ChaCha20), and one adds
what the other subtracts, modulo 2**64. So a share alone is uniformly random, and the sum of all is exact.

What is promised holds if the sites have each other's true keys, a round is used once, and at least two sites
tell nothing to whoever adds the shares up. Of two sites each would know the other's share from the sum, so
there are at least three.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

UNIT = float(1 << 24)
"""Numbers are summed as whole ones of 1 / UNIT."""
LARGEST = float(1 << 34)
"""The largest number that a sum may hold: what is beyond is no sum of counts, but masks that do not cancel.
A sum of masks has a number beyond it with a chance of 31 in 32 each."""
MIN_SITES = 3

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Round:
    """Parameters that all sites agree on before they share anything.

    name : of the round; one name is used once, for a site's masks depend on it
    subject : what is summed, of which model: shares of another are refused
    size : numbers in a share
    sites : public keys, (32 bytes), by the site's name
    """

    name: str
    subject: str
    size: int
    sites: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if len(self.sites) < MIN_SITES:
            raise ValueError(f"sites must be at least {MIN_SITES}, got {len(self.sites)}")
        if len(set(self.sites.values())) < len(self.sites):
            raise ValueError("sites must have a key each, got one twice")
        for site, key in self.sites.items():
            if len(key) != 32:
                raise ValueError(f"the key of site {site!r} must be of 32 bytes, got {len(key)}")

    @property
    def digest(self) -> str:
        """Hash of all of it, by which sites see that they mean the same."""
        sites = sorted((site, key.hex()) for site, key in self.sites.items())
        return hashlib.sha256(json.dumps([self.name, self.subject, self.size, sites]).encode()).hexdigest()


def masked(values: NDArray[np.floating], own: X25519PrivateKey, asked: Round) -> tuple[str, Words]:
    """Return which site a key is of, and the site's share of a round: (size,) uint64 that look random.

    Parameters
    ----------
    values : (size,) finite numbers, rounded to 1 / UNIT

    Raises
    ------
    ValueError
        If the key is no site's, or values are too many, too few, too large or not finite.
    """
    public = own.public_key().public_bytes_raw()
    me = next((site for site, key in asked.sites.items() if key == public), None)
    if me is None:
        raise ValueError(f"the key must be of one of the sites {sorted(asked.sites)}, and is of none")
    if values.shape != (asked.size,):
        raise ValueError(f"values must be {asked.size}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite, got NaN or infinity")
    if np.abs(values).max(initial=0.0) > LARGEST:
        raise ValueError(f"values must be at most {LARGEST:g}, got {np.abs(values).max():g}")
    share = np.rint(values.astype(np.float64) * UNIT).astype(np.int64).view(np.uint64)
    for site, key in asked.sites.items():
        if site != me:
            mask = _stream(own, key, asked)
            share = share + mask if me < site else share - mask
    return me, share


def unmasked(shares: Mapping[str, Words], asked: Round) -> NDArray[np.float64]:
    """Return the sum of the shares of all sites: (size,) float64.

    Raises
    ------
    ValueError
        If a site's share is missing or of another size, a share is of no site, or they do not cancel.
    """
    if missing := sorted(asked.sites.keys() - shares.keys()):
        raise ValueError(
            f"shares of {missing} are missing: without them nothing can be read; begin a new round without "
            "these sites"
        )
    if strange := sorted(shares.keys() - asked.sites.keys()):
        raise ValueError(f"shares must be of the sites {sorted(asked.sites)}, got one of {strange}")
    total = np.zeros(asked.size, np.uint64)
    for site, share in shares.items():
        if share.dtype != np.uint64 or share.shape != (asked.size,):
            raise ValueError(f"the share of {site!r} must be {asked.size} masked numbers, got {share.shape}")
        total += share
    summed: NDArray[np.float64] = total.view(np.int64) / UNIT
    if np.abs(summed).max(initial=0.0) > LARGEST:
        raise ValueError("shares do not cancel: a site used another key or round, or its share was changed")
    return summed


def _stream(own: X25519PrivateKey, theirs: bytes, asked: Round) -> Words:
    """Numbers that two sites of a round have in common, and nobody else knows.

    They depend on both keys as they are written, too: one key can be written in several ways, which all have
    the same secret with another's (RFC 7748, section 5). If a site gave out another's key in such a way, the
    masks of a third one with the two would cancel.
    """
    secret = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    both = b"".join(sorted((own.public_key().public_bytes_raw(), theirs)))
    info = b"slatestream mask" + both
    key = HKDF(SHA256(), 32, salt=bytes.fromhex(asked.digest), info=info).derive(secret)
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * asked.size)), "<u8")


def triangle(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the lower triangle of a symmetric matrix by rows: (n, n) to (n (n + 1) / 2,)."""
    return matrix[np.tril_indices(len(matrix))].astype(np.float64)


def symmetric(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return what `triangle` was made of: (n, n)."""
    matrix = np.zeros((n, n))
    matrix[np.tril_indices(n)] = values
    return matrix + np.tril(matrix, -1).T
