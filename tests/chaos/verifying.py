"""`slatestream verify` in this process: another takes seconds to begin."""

import asyncio

from streams.settings import Settings
from streams.verify.command import KINDS, compare
from streams.verify.run import Scope


def verified_here(settings: Settings, url: str | None, *, from_changelog: bool = False) -> set[str]:
    """Kinds of state of all partitions that are equal, of a worker or, without a url, as stored."""
    scope = Scope(kinds=KINDS, from_changelog=from_changelog)
    partitions = range(settings.partitions)
    work = compare(settings, scope, partitions, None if url is None else [url], quiet=True)
    results = asyncio.run(work)
    assert not [one for result in results for one in result.differences]
    return set.intersection(*(set(result.rows) for result in results))
