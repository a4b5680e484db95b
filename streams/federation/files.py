"""The files that sites and whoever adds their shares up hand to each other: keys, a round, shares."""

import os
import zlib
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from model_core.privacy.secure_sum import Round, Words

SCHEMA_VERSION = 1

Kind = Literal["pairs", "policy"]
"""What may be summed; see `streams.federation.sums`."""


class _Round(msgspec.Struct, frozen=True):
    v: int
    name: str
    release: str
    sums: tuple[Kind, ...]
    size: int
    sites: dict[str, str]


class RoundPlan(msgspec.Struct, frozen=True):
    """A round as its file has it.

    release : version of the release whose items are counted; sums : what is summed
    """

    release: str
    sums: tuple[Kind, ...]
    round: Round


def round_plan(
    name: str, release: str, sums: tuple[Kind, ...], size: int, sites: dict[str, bytes]
) -> RoundPlan:
    """Return the plan of a round; ValueError if it promises nothing."""
    return RoundPlan(release, sums, Round(name, f"{' and '.join(sums)} of release {release}", size, sites))


def write_round(path: Path, plan: RoundPlan) -> None:
    """Write a round, for all sites to have."""
    asked = plan.round
    keys = {site: key.hex() for site, key in asked.sites.items()}
    told = _Round(SCHEMA_VERSION, asked.name, plan.release, plan.sums, asked.size, keys)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def read_round(path: Path) -> RoundPlan:
    """Read a round; ValueError if it is none, or promises nothing."""
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Round)
        sites = {site: bytes.fromhex(key) for site, key in told.sites.items()}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must hold a round: {error}") from None
    if told.v != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema {told.v}; this version reads {SCHEMA_VERSION}")
    return round_plan(told.name, told.release, told.sums, told.size, sites)


def write_key(path: Path) -> str:
    """Make a site's key, which nobody else may read; return the public part, in hex."""
    own = X25519PrivateKey.generate()
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise ValueError(f"{path} cannot be made: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(own.private_bytes_raw().hex() + "\n")
    return own.public_key().public_bytes_raw().hex()


def read_key(path: Path) -> X25519PrivateKey:
    """Read a site's key."""
    try:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().split()[0]))
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path} must hold a key that `federate key` made: {error}") from None


def use_once(path: Path, asked: Round) -> None:
    """Note beside a key that a round has had its share: two shares of one round tell their difference.

    Raises
    ------
    ValueError
        If it has had one.
    """
    used = path.with_name(path.name + ".used")
    before = used.read_text().split() if used.exists() else []
    if asked.digest in before:
        raise ValueError(
            f"a share of round {asked.name!r} was made with {path} already: a second one would tell what has "
            "changed since; begin a new round"
        )
    with used.open("a") as file:
        file.write(asked.digest + "\n")


def write_share(path: Path, site: str, asked: Round, share: Words) -> None:
    """Write a site's share."""
    with path.open("wb") as file:
        np.savez(file, site=np.array(site), round=np.array(asked.digest), share=share)


def read_share(path: Path, asked: Round) -> tuple[str, Words]:
    """Read a share; ValueError if it is none, or of another round, model or kind of sum."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            site, of_round, share = str(arrays["site"]), str(arrays["round"]), arrays["share"]
    except (OSError, KeyError, ValueError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must hold a share that `federate share` made: {error}") from None
    if of_round != asked.digest:
        raise ValueError(
            f"{path} is a share of another round: that of {site!r} has fingerprint {of_round[:16]}, this "
            f"round {asked.digest[:16]}"
        )
    if share.dtype != np.uint64:
        raise ValueError(f"{path} must hold masked numbers (uint64), got {share.dtype}")
    return site, share
