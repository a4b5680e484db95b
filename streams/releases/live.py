"""What a worker serves when it starts: the release that was promoted last, if it can."""

import asyncio
import logging
import socket
from pathlib import Path

from model_core.release.folder import read_release
from streams.cache import cache_folder, writable_folder
from streams.errors import SlatestreamError
from streams.items.reading import check_settings
from streams.kafka.first_look import look
from streams.releases.changes import publish_change, read_changes, serving
from streams.releases.store import ReleaseStore
from streams.settings import Settings

log = logging.getLogger(__name__)

LONGEST_REASON = 500
TRIED = 3  # releases back, until a worker serves without any


async def with_live_release(settings: Settings) -> Settings:
    """Return settings with the folder of the release that serves, where a store is set and no folder is.

    A release that cannot be served is refused on `model-releases`, and what served before it is taken.

    Raises
    ------
    TopicError
        If the brokers cannot be reached.
    ConfigurationError
        If nothing knows the store's kind of URL.
    """
    if settings.release_store is None or settings.release is not None:
        return settings
    await look(settings)
    store = ReleaseStore(settings.release_store)
    versions = serving(await read_changes(settings))
    for version in reversed(versions[-TRIED:]):
        try:
            folder = await asyncio.to_thread(_fetch, settings, store, version)
        except (SlatestreamError, ValueError, OSError) as error:
            log.error("release %s cannot be served: %s", version, error)
            await publish_change(
                settings, "refuse", version, by=socket.gethostname(), reason=str(error)[:500]
            )
        else:
            log.info("release %s of %s serves", version, store.url)
            return settings.model_copy(update={"release": folder})
    if versions:
        log.error("none of the releases promoted last can be served: slates come from signals alone")
    else:
        log.warning("no release is promoted: `slatestream release put FOLDER`, then `promote`")
    return settings


def _fetch(settings: Settings, store: ReleaseStore, version: str) -> Path:
    folder = store.fetch(version, writable_folder(cache_folder() / "releases"))
    check_settings(settings, read_release(folder))
    return folder
