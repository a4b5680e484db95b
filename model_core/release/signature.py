"""Signatures of releases: who has the private key vouches for a manifest, and so for the files that it names.

They are of Ed25519 (RFC 8032), 64 bytes over those of manifest.json, as `openssl pkeyutl -sign -rawin` makes
them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_core.release.folder import MANIFEST

SIGNATURE = "manifest.sig"

_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Ed25519 keys, and the PEM file that they are of."""

    file: Path
    keys: tuple[Any, ...]


def sign_release(folder: Path, private_key: Path) -> None:
    """Write the signature of a release's manifest as it is now.

    Parameters
    ----------
    private_key : PEM file of an Ed25519 key without a password

    Raises
    ------
    ValueError
        If the file holds no such key.
    OSError
        If a file cannot be read or written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _loaded(load_pem_private_key, private_key, private_key.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(private_key)
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))


def check_signature(folder: Path, public: PublicKeys) -> None:
    """Refuse a folder whose manifest none of some keys has signed.

    Raises
    ------
    ValueError
        If there is no signature, or none of the keys made it for this manifest.
    OSError
        If a file cannot be read.
    """
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} must be signed: it has no {SIGNATURE}")
    signature, manifest = path.read_bytes(), (folder / MANIFEST).read_bytes()
    for key in public.keys:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    raise ValueError(f"{str(path)!r} must sign {MANIFEST} by a key of {str(public.file)!r}, and does not")


def read_public_keys(file: Path) -> PublicKeys:
    """Return the keys of a PEM file, of which there is at least one.

    Raises
    ------
    ValueError
        If the file holds anything but Ed25519 keys.
    OSError
        If it cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = [one + _END for one in file.read_bytes().split(_END) if one.strip()]
    keys = tuple(_loaded(load_pem_public_key, file, one) for one in blocks)
    if not keys or not all(isinstance(key, Ed25519PublicKey) for key in keys):
        raise _no_key(file)
    return PublicKeys(file, keys)


def _loaded(load: Any, file: Path, pem: bytes, **options: Any) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(pem, **options)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # what they say may quote the file
        raise _no_key(file) from None


def _no_key(file: Path) -> ValueError:
    return ValueError(f"{str(file)!r} must hold Ed25519 keys in PEM, without a password")
