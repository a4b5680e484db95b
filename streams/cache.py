"""Where this machine keeps what it made or fetched once and needs again."""

import logging
import os
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/slatestream`, by default `~/.cache/slatestream`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slatestream"


@cache
def writable_folder(folder: Path) -> Path:
    """Return the folder, made if need be, or a temporary one of this process if it cannot be written."""
    if (why := unwritable(folder)) is None:
        return folder
    instead = Path(tempfile.mkdtemp(prefix="slatestream-"))
    log.warning("%s cannot be written (%s): %s takes its place until this process ends", folder, why, instead)
    return instead


def unwritable(folder: Path) -> str | None:
    """Say why nothing can be written into a folder, which is made if need be; None if something can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
