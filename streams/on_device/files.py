"""The files of a release that a device ranks with: fetched, verified and kept."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.errors import SlatestreamError

SCHEMA = 6
MANIFEST = "manifest.json"
VOCABULARY, EASE = "vocabulary.json", "ease.npz"
HISTORY, USER, RANKER = "history.onnx", "user.onnx", "ranker.onnx"
FILES = (VOCABULARY, EASE, HISTORY, USER, RANKER)
"""All but the manifest; see `model_core.release.folder`, which a device does not have."""


class DeviceError(SlatestreamError):
    """A device cannot rank: what it was sent is not what it needs, or nobody answers."""


def read_manifest(contents: bytes) -> dict[str, Any]:
    """Return what a manifest says.

    Raises
    ------
    DeviceError
        If it is none, or of a schema that this version does not know.
    """
    try:
        manifest: dict[str, Any] = json.loads(contents)
        schema, files = manifest["schema"], manifest["files"]
        lacking = [name for name in FILES if not isinstance(files.get(name), str)]
        manifest["version"], manifest["dims"], manifest["actions"], manifest["signals"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(f"the manifest of a release must be JSON as a release has it: {error!r}") from None
    if schema != SCHEMA:
        raise DeviceError(
            f"the release must have schema {SCHEMA} for this version of the device, got {schema}"
        )
    if lacking:
        raise DeviceError(f"the release must have {lacking[0]}, and its manifest does not name it")
    return manifest


def check_files(folder: Path) -> dict[str, Any]:
    """Return the manifest of a release that is kept in a folder, every file being as it says.

    Raises
    ------
    DeviceError
        If a file is missing, or of another release.
    """
    try:
        manifest = read_manifest((folder / MANIFEST).read_bytes())
        for name in FILES:
            check_file(manifest, name, (folder / name).read_bytes())
    except FileNotFoundError as error:
        raise DeviceError(f"the release in {str(folder)!r} must have all its files: {error}") from None
    return manifest


def check_file(manifest: dict[str, Any], name: str, contents: bytes) -> None:
    """Raise DeviceError if a file is not the one that the manifest vouches for."""
    wanted, got = manifest["files"][name], hashlib.sha256(contents).hexdigest()
    if got != wanted:
        raise DeviceError(
            f"{name} must be that of release {manifest['version']}, with SHA-256 {wanted[:12]}…, "
            f"got {got[:12]}…: it is of another release, or damaged"
        )


def place_of(releases: Path, version: str) -> Path:
    """Return the folder of a release among those that are kept."""
    if not version.isalnum():
        raise DeviceError(f"the version of a release must be letters and digits, got {version[:40]!r}")
    return releases / version


def keep_release(releases: Path, contents: bytes, fetch: Callable[[str, str], bytes]) -> Path:
    """Fetch the files of a release into a folder of its own, and delete those of other releases.

    Parameters
    ----------
    contents : of the manifest
    fetch : returns a file's contents, by version and name
    """
    manifest = read_manifest(contents)
    version = str(manifest["version"])
    kept = place_of(releases, version)
    partial = releases / f"{version}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in FILES:
        found = fetch(version, name)
        check_file(manifest, name, found)
        (partial / name).write_bytes(found)
    (partial / MANIFEST).write_bytes(contents)
    shutil.rmtree(kept, ignore_errors=True)
    partial.rename(kept)
    for other in releases.iterdir():
        if other != kept:
            shutil.rmtree(other, ignore_errors=True)
    return kept
