"""What a worker serves when it starts: the release that was promoted last, if it can."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from aiokafka.errors import KafkaError

from model_core.release.folder import read_release
from streams.cache import cache_folder, writable_folder
from streams.errors import SlatestreamError
from streams.items.reading import check_settings
from streams.items.text_encoder import open_text_encoder
from streams.kafka.first_look import look
from streams.releases.changes import ReleaseChange, publish_change, read_changes, serving
from streams.releases.store import ReleaseStore, StoreUnreachable
from streams.settings import Settings

log = logging.getLogger(__name__)

LONGEST_REASON = 500
TRIED = 3  # releases back, until a worker serves without any


async def with_live_release(settings: Settings) -> Settings:
    """Return settings with the folder of the release that serves, where a store is set and no folder is.

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
        return settings
    await look(settings)
    store = ReleaseStore(settings.release_store)
    changes = await read_changes(settings)
    versions = serving(changes)
    unreachable: StoreUnreachable | None = None
    for version in list(dict.fromkeys(reversed(versions)))[:TRIED]:
        try:
            folder = await asyncio.to_thread(_fetch, settings, store, version)
        except StoreUnreachable as error:
            log.error("release %s cannot be fetched: %s", version, error)
            unreachable = error
        except OSError as error:  # of the disk here
            log.error("release %s cannot be kept: %s", version, error)
            unreachable = StoreUnreachable(f"release {version} cannot be kept on this machine: {error}")
        except (SlatestreamError, ValueError) as error:
            log.error("release %s cannot be served: %s", version, error)
            await _refuse(settings, changes, version, str(error)[:LONGEST_REASON])
        else:
            log.info("release %s of %s serves", version, store.url)
            return settings.model_copy(update={"release": folder})
    if unreachable is not None:
        raise unreachable
    if versions:
        log.error("none of the releases promoted last can be served: slates come from signals alone")
    else:
        log.warning("no release is promoted: `slatestream release put FOLDER`, then `promote`")
    return settings


def _fetch(settings: Settings, store: ReleaseStore, version: str) -> Path:
    folder = store.fetch(version, writable_folder(cache_folder() / "releases"))
    release = read_release(folder)
    check_settings(settings, release)
    open_text_encoder(settings.model_copy(update={"release": folder}), release)
    return folder


async def _refuse(settings: Settings, changes: Sequence[ReleaseChange], version: str, reason: str) -> None:
    """Write down that a release is refused on this machine, once for each time that it was to serve."""
    host = socket.gethostname()
    for change in reversed(changes):
        if change.version == version:
            if change.change != "refuse":
                break
            if change.by == host:
                return
    try:
        await publish_change(settings, "refuse", version, by=host, reason=reason)
    except (KafkaError, SlatestreamError) as error:  # it may not write there: no reason not to serve
        log.warning("the refusal of release %s is in this log only: %s", version, error)
