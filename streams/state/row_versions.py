"""Rows begin with the version of their schema: what is said of one that cannot be read."""

import msgspec

from streams.events import UNDECODABLE


def unreadable(what: str, value: bytes, newest: int, error: Exception | None = None) -> ValueError:
    """Return what to raise for a row that no schema up to `newest` is of, or that is damaged.

    A version that is not known may have other fields, so that decoding fails before the version is looked at.

    Parameters
    ----------
    what : names the row
    error : of the decoder, where it failed
    """
    version = _version(value)
    if version is None or version <= newest:
        return ValueError(f"{what} is damaged: {error}")
    return ValueError(f"{what} has schema version {version}; this worker reads up to {newest}")


def _version(value: bytes) -> int | None:
    try:
        fields = msgspec.msgpack.decode(value)
    except UNDECODABLE:
        return None
    return fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], int) else None
