"""A person's actions on releases: promote, canary, shadow, rollback, pin, unpin; each is a record."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.errors import SlatestreamError
from streams.releases.changes import (
    TRY,
    WANT,
    Kind,
    ReleaseState,
    Trial,
    fold_changes,
    publish_change,
    read_changes,
)
from streams.releases.options import check, one_of
from streams.settings import Settings

if TYPE_CHECKING:  # it reads the files of releases, for which NumPy is imported: not for a --help
    from streams.releases.store import ReleaseStore


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an action.

    Attributes
    ----------
    version : which serves now, or is tried out or pinned
    before : what served before it, or is ended by it; None for nothing
    said : a sentence for whoever did it
    """

    version: str
    before: str | None
    said: str


@dataclass(frozen=True, slots=True)
class Actor:
    """The person who acts, and their reason."""

    by: str
    reason: str = ""


def servable(settings: Settings, store: "ReleaseStore", beginning: str) -> str:
    """Return the version of the one release that begins so, once it has passed what a worker checks.

    Raises
    ------
    SlatestreamError
        If there is no such release, more than one, or it cannot be served.
    """
    chosen = one_of(store, beginning).version
    check(settings, store, chosen)
    return chosen


async def promote(settings: Settings, chosen: str, who: Actor) -> Done:
    """Promote a `servable` release to serve all users.

    Raises
    ------
    SlatestreamError
        If another is pinned, or somebody else was faster.
    """
    now = fold_changes(await read_changes(settings)).live
    if now == chosen:
        return Done(chosen, now, f"{chosen} serves already.")
    await _change(settings, "promote", chosen, who, replaces=now)
    return Done(chosen, now, f"{chosen} is promoted: workers serve it as soon as they have loaded it.")


async def begin_canary(settings: Settings, chosen: str, who: Actor, *, share: float | None = None) -> Done:
    """Start a `servable` release as a canary for a share of the users, by default `canary_share`."""
    trial = trial_of(settings, share)
    before = _to_compare("canary", chosen, fold_changes(await read_changes(settings)))
    await _change(settings, "canary", chosen, who, replaces=before, trial=trial)
    return Done(
        chosen, before,
        f"{chosen} is to serve {100 * trial.share:g} % of the users for at most "
        f"{trial.longest_s / 3600:g} h, {before} the others.",
    )  # fmt: skip


async def begin_shadow(settings: Settings, chosen: str, who: Actor, *, then_canary: bool) -> Done:
    """Start a `servable` release as a shadow: it answers live requests and serves nobody."""
    trial = shadow_of(settings, then_canary=then_canary)
    before = _to_compare("shadow", chosen, fold_changes(await read_changes(settings)))
    await _change(settings, "shadow", chosen, who, replaces=before, trial=trial)
    return Done(
        chosen, before,
        f"{chosen} is to answer {100 * trial.share:g} % of the requests as well for at most "
        f"{trial.longest_s / 3600:g} h; {before} serves.",
    )  # fmt: skip


def _to_compare(kind: Kind, chosen: str, now: ReleaseState) -> str:
    """Return what serves, which a release that is to be tried is compared with."""
    if now.live is None:
        raise SlatestreamError(f"{kind}: no release serves that it could be compared with; promote it")
    if now.live == chosen:
        raise SlatestreamError(f"{kind}: {chosen} serves all users already")
    tried = now.tried
    if tried is not None and (tried.version != chosen or (tried.change, kind) == ("canary", "shadow")):
        raise SlatestreamError(f"{kind}: {tried.version} is a {tried.change}; end that first, by `rollback`")
    return now.live


async def roll_back(
    settings: Settings, store: "ReleaseStore", who: Actor, *, meant: str | None = None
) -> Done:
    """End a canary or shadow; without one, bring back the release that served before the present one.

    Parameters
    ----------
    meant : release that is to be ended, None: whichever it is

    Raises
    ------
    SlatestreamError
        If nothing can be brought back, or another than the one meant would be ended.
    """
    is_so = fold_changes(await read_changes(settings))
    if (tried := is_so.tried) is not None and is_so.live is not None:
        now, earlier = tried.version, is_so.live
        _as_meant("rollback", meant, now)
        await _change(settings, "rollback", earlier, who, replaces=earlier, decides_ms=tried.timestamp_ms)
    else:
        if len(is_so.served) < 2:
            raise SlatestreamError("rollback: no release served before the present one")
        now, earlier = is_so.served[-1], is_so.served[-2]
        _as_meant("rollback", meant, now)
        await asyncio.to_thread(check, settings, store, earlier)
        await _change(settings, "rollback", earlier, who, replaces=now)
    return Done(
        earlier, now, f"{earlier} is back, {now} is served no more as soon as workers have read this."
    )


async def pin(settings: Settings, who: Actor, *, meant: str | None = None) -> Done:
    """Keep the release that serves: until it is unpinned no other is promoted, by whomever.

    Raises
    ------
    SlatestreamError
        If no release serves, or another than the one meant.
    """
    if (now := fold_changes(await read_changes(settings)).live) is None:
        raise SlatestreamError("pin: no release serves")
    _as_meant("pin", meant, now)
    await _change(settings, "pin", now, who, replaces=None)
    return Done(now, now, f"{now} is pinned: no other is promoted until `slatestream release unpin`.")


async def unpin(settings: Settings, who: Actor, *, meant: str | None = None) -> Done:
    """Unpin, so that other releases can be promoted again.

    Raises
    ------
    SlatestreamError
        If no release is pinned, or another than the one meant.
    """
    if (now := fold_changes(await read_changes(settings)).pinned) is None:
        raise SlatestreamError("unpin: no release is pinned")
    _as_meant("unpin", meant, now)
    await _change(settings, "unpin", now, who, replaces=None)
    return Done(now, now, f"{now} is pinned no more.")


def _as_meant(kind: Kind, meant: str | None, found: str) -> None:
    """Refuse what would be done to another release than the one that somebody has seen."""
    if meant not in (None, found):
        raise SlatestreamError(f"{kind}: {meant} was meant, and by now it would be {found}; look again")


def trial_of(settings: Settings, share: float | None = None) -> Trial:
    """Return how a canary is compared, as the settings say; `share` is of the users."""
    return Trial(
        settings.canary_share if share is None else share, settings.canary_least_slates,
        3600 * settings.canary_hours, settings.canary_harm,
    )  # fmt: skip


def shadow_of(settings: Settings, *, then_canary: bool) -> Trial:
    """Return how a shadow is tried, as the settings say, and whether it serves as a canary after that."""
    return Trial(
        settings.shadow_share, settings.shadow_least_slates, 3600 * settings.shadow_hours,
        settings.canary_harm, trial_of(settings) if then_canary else None,
    )  # fmt: skip


def share_of(text: str) -> float:
    """Read a share of the users: 5% or 0.05.

    Raises
    ------
    SlatestreamError
        If it is none that a canary can have.
    """
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 0.5:
        raise SlatestreamError(f"--share must be above 0 and at most 50%, such as 5% or 0.05, got {text!r}")
    return share


async def _change(
    settings: Settings,
    kind: Kind,
    version: str,
    who: Actor,
    *,
    replaces: str | None,
    trial: Trial | None = None,
    decides_ms: int | None = None,
) -> None:
    """Write a change, and make sure that it counts."""
    before = fold_changes(await read_changes(settings))
    if kind in WANT and before.pinned is not None and before.pinned == before.live != version:
        raise SlatestreamError(
            f"{kind}: {before.pinned} is pinned, see `slatestream release history`; unpin it first"
        )
    made = await publish_change(
        settings, kind, version, by=who.by, reason=who.reason,
        replaces=(replaces or "") if kind in WANT else None, trial=trial, decides_ms=decides_ms,
    )  # fmt: skip
    changes = await read_changes(settings)
    if changes.index(made) in (now := fold_changes(changes)).void:
        other = now.tried if kind in TRY and now.live == replaces else None
        raise SlatestreamError(
            f"{kind}: {now.live if other is None else other.version} was made to serve at the same time, in "
            f"the place of {replaces or 'nothing'}; nothing has changed by this, see `slatestream release "
            "history`"
        )
