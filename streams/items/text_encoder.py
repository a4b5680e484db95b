"""The text encoder of a worker: its release's own, or one exported once on this machine."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from model_core.release.folder import Release
from model_core.release.text_encoder import TextEncoder, find_source
from streams.cache import cache_folder, writable_folder
from streams.errors import ConfigurationError
from streams.settings import Settings

log = logging.getLogger(__name__)

NO_ENCODER = "none"
FORM = 1
"""Counts changes of what an export writes: another number is another folder in the cache."""
EXPORT_TIMEOUT_S = 600


def open_text_encoder(settings: Settings, release: Release) -> TextEncoder | None:
    """Return the encoder that a worker encodes its items with; None when it is to keep no text vectors.

    Raises
    ------
    ConfigurationError
        If it is missing, damaged, not to be had, or not the one that the release was trained with.
    """
    name = release.text_encoder or settings.text_encoder
    if name == NO_ENCODER:
        return None
    try:
        if settings.release is None:
            return named_encoder(name)
        return release_encoder(settings.release, release)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"text_encoder: {error}") from error


def release_encoder(folder: Path, release: Release, *, threads: int = 1) -> TextEncoder:
    """Return the encoder that a release was trained with: its own, or one of the same name when it has none.

    Raises
    ------
    ValueError
        If it is not to be had, or has another fingerprint than the release's.
    """
    if release.carries_text_encoder:
        encoder = TextEncoder(folder, threads=threads)
    else:
        encoder = named_encoder(release.text_encoder, threads=threads)
    if encoder.fingerprint != release.text_encoder_fingerprint:
        raise ValueError(
            f"{encoder.name!r} must be the release's text encoder, with the fingerprint "
            f"{release.text_encoder_fingerprint}, got {encoder.fingerprint}"
        )
    return encoder


def named_encoder(name: str, *, threads: int = 1) -> TextEncoder:
    """Return an encoder by name: 'minilm', a folder in Hugging Face layout, or a Hugging Face name.

    Its export is kept in the cache folder and made when it is not there, or cannot be read.

    Raises
    ------
    ValueError
        If there is no such encoder.
    """
    folder = writable_folder(cache_folder() / "text-encoders") / _key(name)
    if folder.is_dir():
        try:
            return TextEncoder(folder, threads=threads)
        except ValueError as error:
            log.warning("exporting %r again: %s", name, error)
            shutil.rmtree(folder, ignore_errors=True)
    log.info("exporting the text encoder %r, once on this machine, to %s", name, folder)
    _export(name, folder)
    return TextEncoder(folder, threads=threads)


def _key(name: str) -> str:
    """Tell contents apart, not places: two environments with the same encoder share its export."""
    digest = hashlib.sha256(f"{FORM}\0{name}".encode())
    source = Path(find_source(name))
    if source.is_dir():
        for path in sorted(path for path in source.iterdir() if path.suffix in (".json", ".safetensors")):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _export(name: str, folder: Path) -> None:
    """Export in a process of its own, which gives its memory back; the folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as scratch:
        partial = Path(scratch) / folder.name
        partial.mkdir()
        command = [sys.executable, "-m", "streams.items.export_encoder", name, str(partial)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S,
                check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ValueError(f"{name!r} must be exported within {EXPORT_TIMEOUT_S} s, was not") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
            raise ValueError(f"{name!r} cannot be exported: {said[-1]}")
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another worker was first
                raise
