"""Shared by the commands for releases: options, and opening a store."""

import getpass
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cache import cache_folder, writable_folder
from streams.errors import ConfigurationError, SlatestreamError
from streams.settings import Settings

if TYPE_CHECKING:  # it reads the files of releases, for which NumPy is imported: not for a --help
    from streams.releases.store import ReleaseStore, Stored

Version = Annotated[str, typer.Argument(help="Version, or enough of its beginning to be the only one.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
StoreUrl = Annotated[
    str | None, typer.Option("--store", help="Folder or fsspec URL; the setting `release_store` otherwise.")
]
By = Annotated[str | None, typer.Option("--by", help="Who says so; you on this machine otherwise.")]
Reason = Annotated[str, typer.Option("--reason", help="The reason, shown in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def open_store(settings: Settings, url: str | None) -> "ReleaseStore":
    """Return the store that is named, or that of the settings."""
    from streams.releases.store import ReleaseStore

    if (chosen := url or settings.release_store) is None:
        raise ConfigurationError("release_store must be set, or --store given: a folder or an fsspec URL")
    return ReleaseStore(chosen, settings.release_public_keys)


def one_of(store: "ReleaseStore", beginning: str) -> "Stored":
    """Return the one release of a store whose version begins so."""
    found = [one for one in store.list() if beginning and one.version.startswith(beginning)]
    if len(found) != 1:
        known = ", ".join(one.version for one in found or store.list()) or "none"
        which = "more than one" if found else "none"
        raise SlatestreamError(
            f"version must name one release of {store.url}, {beginning!r} names {which} of: {known}"
        )
    return found[0]


def check(settings: Settings, store: "ReleaseStore", version: str) -> None:
    """Fetch a release and load it as a worker with these settings would.

    Raises
    ------
    SlatestreamError
        If it cannot be served, with the reason.
    """
    from streams.items.table import load_scorer
    from streams.items.text_encoder import open_text_encoder

    with tempfile.TemporaryDirectory(dir=writable_folder(cache_folder())) as scratch:
        fetched = store.fetch(version, Path(scratch))
        there = settings.model_copy(update={"release": fetched.folder})
        open_text_encoder(there, load_scorer(there, fetched.release).release)


def whoami() -> str:
    """Return user@host, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def check_release(release: Path | None) -> None:
    """Refuse a release that is none, or is damaged, before anything is started with it.

    Raises
    ------
    SlatestreamError
        Saying what is wrong with it.
    """
    if release is None:
        return
    from model_core.release.folder import read_release

    try:
        read_release(release)
    except (ValueError, OSError) as error:
        raise SlatestreamError(f"--release: {error}") from None
