"""A store of releases: a folder, or any URL that fsspec knows (s3://, gs://, ...).

Each release lies under its version, which is a hash of its contents: a version never means two things, and
who reads one can tell whether it is what was written. The manifest is written last, so what has none is no
release yet, and what a writer left behind when it was killed is written over by the next.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_core.release.folder import MANIFEST, WEIGHTS, Release, read_release
from model_core.release.signature import SIGNATURE, PublicKeys, check_signature, read_public_keys
from streams.errors import ConfigurationError, SlatestreamError

log = logging.getLogger(__name__)

VERSION = re.compile(r"[0-9a-f]{12}")
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
EXTRA = "for S3: pip install 'slatestream[s3]'"


class StoreError(SlatestreamError):
    """A store cannot be used, or does not hold what is asked for; the message says which, and what to do."""


class StoreUnreachable(StoreError):
    """A store does not answer, or is not there: that says nothing of the releases in it."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """A release in a store: its version, the bytes of all its files, and what its manifest says."""

    version: str
    nbytes: int
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A release on this machine: its folder, and what its files, which were verified there, say."""

    folder: Path
    release: Release


class ReleaseStore:
    """Puts releases into a store and fetches them from it.

    Parameters
    ----------
    url : a folder, or a URL of fsspec's with its options in the environment, such as AWS_ENDPOINT_URL
    public_keys : PEM file of the keys by one of which each release must be signed; None asks for none

    Raises
    ------
    StoreError
        If nothing here knows that kind of URL.
    StoreUnreachable
        If the keys cannot be read.
    ConfigurationError
        If the file of keys holds anything else.
    """

    def __init__(self, url: str, public_keys: Path | None = None) -> None:
        import fsspec  # with its registry of file systems: only for who has a store

        self.url = url
        self._keys = None if public_keys is None else _keys(public_keys)
        with self._explained("opened"):
            self._files, self._root = fsspec.core.url_to_fs(url)

    def put(self, folder: Path) -> Release:
        """Copy a release folder into the store, if it is not there yet as it is; return the release.

        Raises
        ------
        StoreError
            If the folder is no whole release, or the store cannot be written.
        """
        try:
            release = self._read(folder)
        except (ValueError, OSError) as error:
            raise StoreError(f"release: {error}") from None
        names = list(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        if (folder / SIGNATURE).is_file():
            names.append(SIGNATURE)
        if self._holds(release.version, folder, [*names, MANIFEST]):
            return release
        if (folder / WEIGHTS).is_file():
            names.append(WEIGHTS)
        with self._explained(f"written ({release.version})"):
            self._files.makedirs(self._path(release.version), exist_ok=True)
            for name in (*names, MANIFEST):
                self._files.put_file(str(folder / name), self._path(release.version, name))
        return release

    def has(self, version: str) -> bool:
        """Return whether the store holds a release."""
        with self._explained("read"):
            self._files.invalidate_cache()
            return bool(self._files.exists(self._path(version, MANIFEST)))

    def _holds(self, version: str, folder: Path, names: Sequence[str]) -> bool:
        """Return whether the store has each file of a folder, by size, and the manifest and signature."""
        if not self.has(version):
            return False
        with self._explained(f"read ({version})"):
            sizes = {name: (folder / name).stat().st_size for name in names}
            try:
                found = {name: self._files.info(self._path(version, name))["size"] for name in names}
            except FileNotFoundError:
                return False
            return found == sizes and all(
                self._files.cat_file(self._path(version, name)) == (folder / name).read_bytes()
                for name in (MANIFEST, SIGNATURE)
                if name in names
            )

    def list(self) -> list[Stored]:
        """Return what the store holds, by version; what has no readable manifest is left out.

        Raises
        ------
        StoreUnreachable
            If there is no store at that place, as where a disk is not mounted; `put` makes one.
        """
        with self._explained("read"):
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                raise StoreUnreachable(
                    f"release store {self.url} is not there; the first `slatestream release put` makes it"
                )
            names = [Path(path).name for path in self._files.ls(self._root, detail=False)]
        found = []
        for version in sorted(name for name in names if VERSION.fullmatch(name)):
            try:
                found.append(self.about(version))
            except StoreError as error:
                log.warning("left out: %s", error)
        return found

    def about(self, version: str) -> Stored:
        """Return what is said of a release, without its files.

        Raises
        ------
        StoreError
            If the store does not hold it, or its manifest is none.
        """
        if not self.has(version):
            with self._explained("read"):
                there = self._files.exists(self._root)
            if not there:  # a disk that is not mounted
                raise StoreUnreachable(f"release store {self.url} is not there")
            raise StoreError(f"release {version} must be in {self.url}, which does not hold it")
        with self._explained(f"read ({version})"):
            text = self._files.cat_file(self._path(version, MANIFEST))
            sizes = [entry["size"] for entry in self._files.ls(self._path(version), detail=True)]
        try:
            manifest = json.loads(text)
            names = list(manifest["files"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"release {version} in {self.url} has no manifest in JSON: {error}") from None
        if not all(isinstance(name, str) and PLAIN.fullmatch(name) for name in names):
            raise StoreError(f"release {version} in {self.url} must name plain files, got {names}")
        return Stored(version, sum(size or 0 for size in sizes), manifest)

    def fetch(self, version: str, cache: Path) -> Fetched:
        """Return a folder below `cache` that holds the release, every file as the manifest says.

        A file that another release there has as well is not fetched again: the two share it.

        Raises
        ------
        StoreError
            If the store does not hold it, or holds something else under its name; `StoreUnreachable` if that
            cannot be told now.
        """
        self._path(version)  # else `cache / version` may be anywhere
        folder = cache / version
        try:
            return self._verified(folder, version)
        except (ValueError, OSError) as error:
            if folder.exists():
                log.warning("%s is fetched again: %s", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
        manifest = self.about(version).manifest
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{version}-", dir=cache) as partial:
            there = Path(partial) / version
            try:
                try:
                    release = self._filled(there, manifest, _files_of(cache))
                except ValueError:  # what was damaged here, and not in the store, is no fault of the release
                    shutil.rmtree(there)
                    release = self._filled(there, manifest, {})
            except (ValueError, OSError) as error:
                raise StoreError(f"release {version} in {self.url} is not what it says: {error}") from None
            try:
                there.rename(folder)
            except OSError as error:
                try:
                    return self._verified(folder, version)  # another process has put it there meanwhile
                except ValueError:
                    raise error from None
        return Fetched(folder, release)

    def _filled(self, there: Path, manifest: dict[str, Any], shared: Mapping[str, Path]) -> Release:
        """Fill a new folder with the files of a release; return it, verified.

        Parameters
        ----------
        shared : files on this machine by the checksum that they should have, which need not be fetched
        """
        there.mkdir()
        version, checksums = there.name, dict(manifest["files"])
        for name in (*checksums, MANIFEST):
            if _linked(shared.get(str(checksums.get(name))), there / name):
                continue
            with self._explained(f"read ({version})"):
                try:
                    self._files.get_file(self._path(version, name), str(there / name))
                except FileNotFoundError:
                    raise StoreError(f"release {version} in {self.url} lacks {name}") from None
        with self._explained(f"read ({version})"), suppress(FileNotFoundError):
            self._files.get_file(self._path(version, SIGNATURE), str(there / SIGNATURE))
        return self._verified(there, version).release

    def _verified(self, folder: Path, version: str) -> Fetched:
        release = self._read(folder)
        if release.version != version:
            raise ValueError(f"it holds {release.version}")
        return Fetched(folder, release)

    def _read(self, folder: Path) -> Release:
        release = read_release(folder)
        if self._keys is not None:
            check_signature(folder, self._keys)
        return release

    def fetch_weights(self, version: str, folder: Path) -> bool:
        """Fetch what a training that goes on from a release begins with; return whether the store has it."""
        with self._explained(f"read ({version})"):
            if not self._files.exists(self._path(version, WEIGHTS)):
                return False
            partial = folder / f"{WEIGHTS}.partial"
            self._files.get_file(self._path(version, WEIGHTS), str(partial))
            partial.replace(folder / WEIGHTS)
        return True

    def delete(self, version: str) -> None:
        """Take a release out of the store: its manifest first, so that nobody begins to read it."""
        with self._explained(f"deleted ({version})"):
            self._files.rm_file(self._path(version, MANIFEST))
            self._files.rm(self._path(version), recursive=True)

    def _path(self, version: str, name: str | None = None) -> str:
        if not VERSION.fullmatch(version):
            raise StoreError(f"version must be 12 hexadecimal digits, got {version!r}")
        return "/".join((self._root.rstrip("/"), version, *([name] if name else [])))

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Say of any error of a file system which store it is of: they have classes of their own."""
        try:
            yield
        except SlatestreamError:
            raise
        except ImportError as error:
            raise StoreError(f"release store {self.url} needs a package: {error} ({EXTRA})") from None
        except Exception as error:
            raise StoreUnreachable(
                f"release store {self.url} cannot be {done}: {type(error).__name__}: {error}"
            ) from error


def _keys(file: Path) -> PublicKeys:
    """Read the keys; what is wrong with them is no fault of a release."""
    try:
        return read_public_keys(file)
    except OSError as error:
        raise StoreUnreachable(f"release_public_keys cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"release_public_keys: {error}") from None


def _files_of(cache: Path) -> dict[str, Path]:
    """Files of the releases that were fetched to a folder, by the checksum that they should have."""
    found: dict[str, Path] = {}
    for manifest in cache.glob(f"*/{MANIFEST}"):
        with suppress(OSError, ValueError, KeyError, AttributeError):  # another process deletes it
            files = json.loads(manifest.read_bytes())["files"]
            found |= {str(checksum): manifest.parent / name for name, checksum in files.items()}
    return found


def _linked(file: Path | None, name: Path) -> bool:
    """Give a file another name, if it is there and the file system can; return whether it has it."""
    if file is None:
        return False
    try:
        os.link(file, name)
    except OSError:
        return False
    return True
