"""Pseudonyms of users: what is published of them names them by a keyed hash.

The same id has the same pseudonym by the same key, so a user's events still belong together. Nobody without
the key can tell whose they are, nor test a guess.
"""

import base64
import hmac
from pathlib import Path
from typing import Any

import msgspec

from streams.errors import ConfigurationError

MIN_BYTES, MAX_BYTES = 32, 4096
MIN_DISTINCT_BYTES = 8
"""Of a key; a random one has more."""
ID_BYTES, HASH_BYTES = 2, 20


class Pseudonyms:
    """Makes pseudonyms: four hexadecimal digits that name the key, a hyphen, and 32 letters and digits.

    They are the first 20 bytes of HMAC-SHA256 of the id in UTF-8, as lower-case base32 (RFC 4648).

    Parameters
    ----------
    key : secret bytes, at least `MIN_BYTES` of them

    Attributes
    ----------
    key_id : four hexadecimal digits
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hmac.digest(key, b"\0slatestream key", "sha256")[:ID_BYTES].hex()

    def of(self, user_id: str) -> str:
        """Return the pseudonym of a user."""
        digest = hmac.digest(self._key, user_id.encode(), "sha256")[:HASH_BYTES]
        return f"{self.key_id}-{base64.b32encode(digest).decode().lower()}"

    def in_event(self, event: Any) -> Any:
        """Return an event with pseudonyms for its `user_id` and, where it names any, for `friends`."""
        named: dict[str, Any] = {"user_id": self.of(event.user_id)}
        if friends := getattr(event, "friends", None):
            named["friends"] = [self.of(friend) for friend in friends]
        return msgspec.structs.replace(event, **named)


def pseudonyms_of(key_file: Path | None) -> Pseudonyms | None:
    """Return what makes pseudonyms by the key in a file; None without one.

    Space around the key is no part of it.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or the key is short, long or not random. The message has nothing of the
        key.
    """
    if key_file is None:
        return None
    try:
        with key_file.open("rb") as file:
            key = file.read(MAX_BYTES + 1).strip()
    except OSError as error:
        raise ConfigurationError(
            f"pseudonym_key_file {str(key_file)!r} cannot be read: {error.strerror}"
        ) from None
    if len(key) < MIN_BYTES:
        raise ConfigurationError(
            f"pseudonym_key_file {str(key_file)!r} must hold a key of at least {MIN_BYTES} bytes, got "
            f"{len(key)}: make one with `openssl rand -hex 32`"
        )
    if len(key) > MAX_BYTES or len(set(key)) < MIN_DISTINCT_BYTES:
        raise ConfigurationError(
            f"pseudonym_key_file {str(key_file)!r} must hold a random key of at most {MAX_BYTES:,} bytes: "
            "make one with `openssl rand -hex 32`"
        )
    return Pseudonyms(key)
