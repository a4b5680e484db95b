"""The release that a worker serves when it starts: the last promoted one that can be loaded."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka.errors import KafkaError

from model_core.release.folder import Release
from model_core.signals.config import SignalConfig
from streams.cache import cache_folder, delete_unless_held, writable_folder
from streams.errors import ConfigurationError, SlatestreamError
from streams.items.table import AnyScorer, load_scorer
from streams.items.text_encoder import NO_ENCODER, open_text_encoder
from streams.kafka.startup_check import check_cluster
from streams.releases.changes import (
    LONGEST_TEXT,
    WANT,
    Kind,
    ReleaseChange,
    fold_changes,
    publish_change,
    read_changes,
)
from streams.releases.store import VERSION, Fetched, ReleaseStore, StoreUnreachable
from streams.settings import Settings

log = logging.getLogger(__name__)

NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory", "out of memory")
"""How ONNX Runtime and the system word it in errors of other kinds."""
CACHED = 8
"""Releases that stay on a machine, those asked for last."""
TRIED = 3  # releases back, until a worker serves without any


@dataclass(frozen=True, slots=True)
class Live:
    """The initial state of a worker that follows `model-releases`.

    Attributes
    ----------
    settings : with the folder of the release, None where there is none
    refused : versions that cannot be served here, and why
    read : changes that were known
    """

    settings: Settings
    scorer: AnyScorer
    refused: Mapping[str, str]
    read: int


async def live_release(settings: Settings) -> Live | None:
    """Return what serves, where a store is set and no folder is; None where nothing is followed.

    A release that cannot be served is refused on `model-releases`, and what served before it is taken. Where
    the store does not answer, that is no fault of the release: what was fetched before is served.

    Raises
    ------
    StoreUnreachable
        If the store does not answer, and none of the releases was fetched before.
    TopicError
        If the brokers cannot be reached.
    ConfigurationError
        If nothing knows the store's kind of URL.
    """
    if settings.release_store is None or settings.release is not None:
        return None
    await check_cluster(settings)
    store = ReleaseStore(settings.release_store, settings.release_public_keys)
    changes = await read_changes(settings)
    versions = fold_changes(changes).served
    unreachable: StoreUnreachable | None = None
    refused: dict[str, str] = {}
    for version in list(dict.fromkeys(reversed(versions)))[:TRIED]:
        try:
            folder, scorer = await asyncio.to_thread(_load, settings, store, version)
        except StoreUnreachable as error:
            log.error("release %s cannot be fetched: %s", version, error)
            unreachable = error
        except (SlatestreamError, ValueError) as error:
            if passing(error):
                raise
            log.error("release %s cannot be served: %s", version, error)
            refused[version] = str(error)[:LONGEST_TEXT]
            await _refuse(settings, changes, version, refused[version])
        else:
            log.info("release %s of %s serves", version, store.url)
            there = settings.model_copy(update={"release": folder})
            return Live(there, scorer, refused, len(changes))
    if unreachable is not None:
        raise unreachable
    if versions:
        log.error("none of the releases promoted last can be served: slates come from signals alone")
    else:
        log.warning("no release is promoted: `slatestream release put FOLDER`, then `promote`")
    return Live(settings, load_scorer(settings), refused, len(changes))


def fetch_release(store: ReleaseStore, version: str) -> Fetched:
    """Return a release on this machine, fetched if it is not here yet as it should be.

    Raises
    ------
    StoreUnreachable
        If the store does not answer, or this machine cannot keep it: no fault of the release.
    StoreError
        If the store does not hold it, or holds something else under its name.
    """
    try:
        fetched = store.fetch(version, writable_folder(cache_folder() / "releases"))
        os.utime(fetched.folder)
    except OSError as error:
        raise StoreUnreachable(f"release {version} cannot be kept on this machine: {error}") from error
    _keep_few(fetched.folder.parent)
    return fetched


def _keep_few(cache: Path) -> None:
    """Delete what was not asked for lately and serves nowhere on this machine."""
    found = [path for path in cache.iterdir() if VERSION.fullmatch(path.name)]
    with contextlib.suppress(OSError):  # another worker deletes the same
        for old in sorted(found, key=lambda path: path.stat().st_mtime_ns)[:-CACHED]:
            delete_unless_held(old)


def _load(settings: Settings, store: ReleaseStore, version: str) -> tuple[Path, AnyScorer]:
    fetched = fetch_release(store, version)
    there = settings.model_copy(update={"release": fetched.folder})
    scorer = load_scorer(there, fetched.release)
    open_text_encoder(there, scorer.release)
    return fetched.folder, scorer


def check_swap(release: Release, *, fingerprint: str | None, signals: SignalConfig) -> None:
    """Refuse a release for which what is folded and encoded would have to be made anew.

    Parameters
    ----------
    fingerprint : of the text encoder that items were encoded with
    signals : of the release that serves

    Raises
    ------
    ConfigurationError
        If it cannot follow that release without a restart.
    """
    wanted = None if release.text_encoder in ("", NO_ENCODER) else release.text_encoder_fingerprint
    if wanted not in (None, fingerprint):
        raise ConfigurationError(
            f"text_encoder of a release that is to serve without a restart must be that of the items, "
            f"with the fingerprint {fingerprint}, got {wanted}: restart the workers"
        )
    ours, theirs = (one.pairing | {"neighbours": one.neighbours} for one in (signals, release.signals))
    if ours != theirs:
        raise ConfigurationError(
            f"signals of a release that is to serve without a restart must pair events as co-visits are "
            f"counted, {ours}, got {theirs}: restart the workers"
        )


def passing(error: BaseException | None) -> bool:
    """Return whether an error may be transient, rather than the fault of the release's files."""
    while error is not None:
        if isinstance(error, StoreUnreachable | KafkaError | OSError | MemoryError):
            return True
        if any(said in str(error) for said in NO_MEMORY):
            return True
        error = error.__cause__
    return False


def to_be_said(kind: Kind, changes: Sequence[ReleaseChange], version: str, by: str) -> bool:
    """Return whether `by` has not recorded this change yet since the release was last to serve."""
    for change in reversed(changes):
        if change.version == version:
            if change.change in WANT:
                return True
            if change.change == kind and change.by == by:
                return False
    return True


async def _refuse(settings: Settings, changes: Sequence[ReleaseChange], version: str, reason: str) -> None:
    """Write down that a release is refused on this machine, once for each time that it was to serve."""
    host = socket.gethostname()
    if not to_be_said("refuse", changes, version, host):
        return
    try:
        await publish_change(settings, "refuse", version, by=host, reason=reason)
    except (KafkaError, SlatestreamError) as error:  # it may not write there: no reason not to serve
        log.warning("the refusal of release %s is in this log only: %s", version, error)
