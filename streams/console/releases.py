"""The life of releases, read when somebody looks, in a thread: `model-releases`, and what the store holds."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from streams.errors import SlatestreamError
from streams.releases import actions
from streams.releases.actions import Actor, Done
from streams.releases.changes import ReleaseChange, read_changes, standing
from streams.releases.opening import open_store, whoami
from streams.releases.store import Stored
from streams.settings import Settings

SHOWN = 20
WITHIN_S = 10.0
ACTIONS = ("promote", "shadow", "canary", "rollback", "pin", "unpin")


@dataclass(frozen=True, slots=True)
class Life:
    """The latest changes, newest first, and what is in the store.

    Attributes
    ----------
    changes : each, and whether it came too late and changes nothing
    n : of all there are
    live : version that is to serve, None where none was ever promoted
    since_ms : when it was made to
    before : version that a rollback brings back, None where there is none
    pinned : version that is to stay what serves, None where none is pinned
    canary : the change by which a release serves a share of the users; None where none does
    away : why the topic could not be read, "" where it was
    shadow : the change by which a worker answers requests with a release that serves nobody
    """

    changes: list[tuple[ReleaseChange, bool]]
    n: int = 0
    live: str | None = None
    since_ms: int | None = None
    before: str | None = None
    pinned: str | None = None
    canary: ReleaseChange | None = None
    away: str = ""
    shadow: ReleaseChange | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """What a store holds, the newest data first.

    Attributes
    ----------
    away : why the store could not be read, "" where it was
    """

    releases: list[Stored]
    away: str = ""


async def read_life(settings: Settings, *, shown: int = SHOWN, within_s: float = WITHIN_S) -> Life:
    """Return what became of releases; where the brokers do not answer, what they said."""
    try:
        async with asyncio.timeout(within_s):
            changes = await read_changes(settings)
    except (KafkaError, SlatestreamError, TimeoutError) as error:
        return Life([], away=str(error) or repr(error))
    now = standing(changes)
    found = [(change, number in now.void) for number, change in enumerate(changes)]
    made = [
        change.timestamp_ms
        for change, void in found
        if change.change in ("promote", "rollback") and change.version == now.live and not void
    ]
    return Life(
        found[: -shown - 1 : -1], len(changes), now.live, made[-1] if made else None,
        now.served[-2] if len(now.served) > 1 else None, now.pinned, now.canary,
        shadow=now.shadow,
    )  # fmt: skip


async def read_store(settings: Settings) -> Stock:
    """Return what the setting `release_store` holds; nothing where there is none."""
    if settings.release_store is None:
        return Stock([])
    try:
        found = await asyncio.to_thread(lambda: open_store(settings, None).list())
    except (SlatestreamError, OSError) as error:
        return Stock([], str(error) or repr(error))
    return Stock(sorted(found, key=_until_ms, reverse=True))


def _until_ms(stored: Stored) -> int:
    return int(stored.manifest.get("training", {}).get("until_ms") or 0)


async def act(settings: Settings, form: Mapping[str, str]) -> Done:
    """Do what a form of the page asks for: one of `ACTIONS`. Loads a release, so it is for a thread.

    The page may be older than the latest change: what is rolled back, pinned or unpinned is what it showed,
    or nothing.

    Raises
    ------
    SlatestreamError
        If it cannot be done, with the reason.
    """
    who = Actor(f"{whoami()}, console", form.get("reason", "").strip()[:500])
    what, version = form.get("what", ""), form.get("version", "")
    meant = form.get("ends" if what == "rollback" else "version") or None
    match what:
        case "promote":
            chosen = actions.servable(settings, open_store(settings, None), version)
            return await actions.promote(settings, chosen, who)
        case "shadow":
            chosen = actions.servable(settings, open_store(settings, None), version)
            return await actions.begin_shadow(settings, chosen, who, then_canary=True)
        case "canary":
            share = actions.share_of(f"{form.get('share', '').strip().removesuffix('%')}%")
            chosen = actions.servable(settings, open_store(settings, None), version)
            return await actions.begin_canary(settings, chosen, who, share=share)
        case "rollback":
            return await actions.roll_back(settings, open_store(settings, None), who, meant=meant)
        case "pin":
            return await actions.pin(settings, who, meant=meant)
        case "unpin":
            return await actions.unpin(settings, who, meant=meant)
    raise SlatestreamError(f"what must be one of {', '.join(ACTIONS)}")
