"""The life of releases, read when somebody looks, in a thread: `model-releases`, and what the store holds."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError

from streams.errors import SlatestreamError
from streams.releases import actions
from streams.releases.actions import Actor, Done
from streams.releases.changes import ReleaseChange, fold_changes, read_changes
from streams.releases.options import open_store, whoami
from streams.releases.store import Stored
from streams.settings import Settings

SHOWN = 20
WITHIN_S = 10.0
ACTIONS = ("promote", "shadow", "canary", "rollback", "pin", "unpin")


@dataclass(frozen=True, slots=True)
class Life:
    """The latest changes of releases, newest first.

    Attributes
    ----------
    changes : each change, and whether it is void because it came too late
    n : number of all changes
    live : version that serves; None if none was promoted
    since_ms : Unix time since which it serves
    before : version that a rollback restores; None if there is none
    pinned : pinned version; None if there is none
    canary : the change that started the running canary; None if there is none
    away : why the topic could not be read; "" if it could
    shadow : the change that started the running shadow; None if there is none
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
class Offered:
    """A release of a store; fields that its manifest lacks are None.

    Attributes
    ----------
    nbytes : size of its files
    until_ms : Unix time of the latest event in its training data
    ndcg, recall : at 10, as measured at its training
    """

    version: str
    nbytes: int
    until_ms: float | None
    ndcg: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Stock:
    """The releases of a store, newest training data first.

    Attributes
    ----------
    away : why the store could not be read; "" if it could
    """

    releases: list[Offered]
    away: str = ""


async def read_life(settings: Settings, *, shown: int = SHOWN, within_s: float = WITHIN_S) -> Life:
    """Return what became of releases; where the brokers do not answer, what they said."""
    try:
        async with asyncio.timeout(within_s):
            changes = await read_changes(settings)
    except (KafkaError, SlatestreamError, TimeoutError) as error:
        return Life([], away=str(error) or repr(error))
    now = fold_changes(changes)
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
    return Stock(sorted(map(_offered, found), key=lambda one: one.until_ms or 0.0, reverse=True))


def _offered(stored: Stored) -> Offered:
    told = stored.manifest
    quality = _part(_part(told, "metrics"), "slatestream")
    return Offered(
        stored.version, stored.nbytes, _number(_part(told, "training"), "until_ms"),
        _number(quality, "ndcg@10"), _number(quality, "recall@10"),
    )  # fmt: skip


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object of a manifest, which anybody may have written; an empty one where it is none."""
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _number(told: Mapping[str, Any], name: str) -> float | None:
    found = told.get(name)
    return found if isinstance(found, int | float) and math.isfinite(found) else None


async def act(settings: Settings, form: Mapping[str, str]) -> Done:
    """Carry out a form of the page, one of `ACTIONS`; loads a release, so call it in a thread.

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
