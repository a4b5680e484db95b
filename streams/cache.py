"""The cache folder of this machine: files that were made or fetched once and are needed again."""

import atexit
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/slatestream`, by default `~/.cache/slatestream`.

    A temporary one of this process for a user without a home, as containers have.
    """
    if said := os.environ.get("XDG_CACHE_HOME"):
        return Path(said) / "slatestream"
    home = _home()
    return _temporary() if home is None else home / ".cache" / "slatestream"


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


@cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="slatestream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def writable_folder(folder: Path) -> Path:
    """Return the folder, made if need be, or a temporary one of this process if it cannot be written."""
    if (why := unwritable(folder)) is None:
        return folder
    instead = _temporary()
    log.warning("%s cannot be written (%s): %s takes its place until this process ends", folder, why, instead)
    return instead


class Hold:
    """Keeps a folder of the cache from being deleted by `delete_unless_held`, of any process."""

    __slots__ = ("_descriptor",)

    def __init__(self, folder: Path) -> None:
        self._descriptor = _locked(folder, fcntl.LOCK_SH)

    def release(self) -> None:
        """Hold it no more; the end of the process does so, too."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def delete_unless_held(folder: Path) -> None:
    """Delete a folder with all that is in it, unless there is a `Hold` on it."""
    descriptor = _locked(folder, fcntl.LOCK_EX)
    if descriptor is not None:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _locked(folder: Path, how: int) -> int | None:
    """Lock a folder while what is returned is open; None where it is gone, locked, or cannot be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def keep_kernels_writable() -> None:
    """Give compiled kernels a place, before numba is imported: it dies at import where it finds none.

    It keeps them beside the sources, or where NUMBA_CACHE_DIR says; where that cannot be written, the cache
    folder takes its place, with those that are there already.
    """
    said = os.environ.get("NUMBA_CACHE_DIR")
    beside = [Path(said)] if said else [ROOT / name for name in ("streams", "model_core", "online_learning")]
    if any(unwritable(folder) is not None for folder in beside):
        place = writable_folder(cache_folder() / "kernels")
        for folder in beside:
            _copy_kernels(folder, place, by_source=not said)
        os.environ["NUMBA_CACHE_DIR"] = str(place)


def _copy_kernels(beside: Path, place: Path, *, by_source: bool) -> None:
    """Copy compiled kernels to where numba looks for them, unless newer ones are there.

    Parameters
    ----------
    by_source : they are beside their sources; else they are in folders that numba has named
    """
    for kernel in beside.rglob("*.nb[ci]"):
        named = _folder_of(kernel.parent.parent) if by_source else kernel.parent.name
        copy = place / named / kernel.name
        with contextlib.suppress(OSError):  # then it is compiled
            if not copy.exists() or copy.stat().st_mtime < kernel.stat().st_mtime:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(kernel, copy)


def _folder_of(sources: Path) -> str:
    """Name the folder of a cache for the kernels of a folder, as `numba.core.caching` does."""
    return f"{sources.name}_{hashlib.sha1(str(sources).encode()).hexdigest()}"


def unwritable(folder: Path) -> str | None:
    """Say why nothing can be written into a folder, which is made if need be; None if something can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
