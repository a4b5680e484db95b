"""Commands that change what serves: promote, canary, rollback, pin, unpin; each change is a record."""

import json
from typing import Annotated

import typer

from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.releases.changes import (
    WANT,
    Kind,
    Trial,
    live,
    pinned,
    publish_change,
    read_changes,
    standing,
)
from streams.releases.opening import (
    AsJson,
    By,
    ConfigFile,
    Reason,
    StoreUrl,
    Version,
    check,
    one_of,
    open_store,
    whoami,
)
from streams.settings import Settings, load_settings


def promote_command(
    version: Version,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a release of the store serve, once it has passed what a worker checks when it loads it.

    slatestream release promote 3f9c --reason 'better on the last day'
    """
    settings = load_settings(config)
    found = open_store(settings, store)
    chosen = one_of(found, version).version
    check(settings, found, chosen)

    async def promote() -> str | None:
        now = live(await read_changes(settings))
        if now != chosen:
            await change(settings, "promote", chosen, by=by, reason=reason, replaces=now)
        return now

    before = run_connected(settings, "release", promote())
    said = "is promoted: workers serve it as soon as they have loaded it"
    _print(as_json, chosen, before, f"{chosen} {said if before != chosen else 'serves already'}.")


def canary_command(
    version: Version,
    share: Annotated[
        str | None,
        typer.Option(help="Of the users, such as 5% or 0.05; the setting `canary_share` otherwise."),
    ] = None,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a release serve a share of the users; by what they take it is promoted or rolled back by itself.

    Said again of the same release, it goes on with another share, and is compared anew. `rollback` ends it.

    slatestream release canary 3f9c --share 5%
    """
    settings = load_settings(config)
    found = open_store(settings, store)
    chosen = one_of(found, version).version
    trial = trial_of(settings, None if share is None else share_of(share))
    check(settings, found, chosen)

    async def begin() -> str:
        now = standing(await read_changes(settings))
        if now.live is None:
            raise SlatestreamError("canary: no release serves that it could be compared with; promote it")
        if now.live == chosen:
            raise SlatestreamError(f"canary: {chosen} serves all users already")
        if now.canary is not None and now.canary.version != chosen:
            raise SlatestreamError(f"canary: {now.canary.version} is one; end that first, by `rollback`")
        await change(settings, "canary", chosen, by=by, reason=reason, replaces=now.live, trial=trial)
        return now.live

    before = run_connected(settings, "release", begin())
    within = f"at most {trial.longest_s / 3600:g} h"
    said = f"{chosen} is to serve {100 * trial.share:g} % of the users for {within}, {before} the others."
    _print(as_json, chosen, before, said)


def trial_of(settings: Settings, share: float | None = None) -> Trial:
    """Return how a canary is compared, as the settings say; `share` is of the users."""
    return Trial(
        settings.canary_share if share is None else share, settings.canary_least_slates,
        3600 * settings.canary_hours, settings.canary_harm,
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


def rollback_command(
    reason: Reason = "",
    by: By = None,
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End a canary; without one, bring back the release that served before the present one, and so on.

    slatestream release rollback --reason 'click-through fell'
    """
    settings = load_settings(config)
    found = open_store(settings, store)

    async def rollback() -> tuple[str, str]:
        is_so = standing(await read_changes(settings))
        if (canary := is_so.canary) is not None and is_so.live is not None:
            await change(
                settings, "rollback", is_so.live, by=by, reason=reason, replaces=is_so.live,
                decides_ms=canary.timestamp_ms,
            )  # fmt: skip
            return canary.version, is_so.live
        if len(is_so.served) < 2:
            raise SlatestreamError("rollback: no release served before the present one")
        now, earlier = is_so.served[-1], is_so.served[-2]
        check(settings, found, earlier)
        await change(settings, "rollback", earlier, by=by, reason=reason, replaces=now)
        return now, earlier

    now, earlier = run_connected(settings, "release", rollback())
    said = f"{earlier} is back, {now} is served no more as soon as workers have read this."
    _print(as_json, earlier, now, said)


def pin_command(
    reason: Reason = "", by: By = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Keep the release that serves: until `unpin` no other is promoted, by whomever.

    slatestream release pin --reason 'a sale is on'
    """
    settings = load_settings(config)

    async def pin() -> str:
        if (now := live(await read_changes(settings))) is None:
            raise SlatestreamError("pin: no release serves")
        await change(settings, "pin", now, by=by, reason=reason, replaces=None)
        return now

    now = run_connected(settings, "release", pin())
    _print(as_json, now, now, f"{now} is pinned: no other is promoted until `slatestream release unpin`.")


def unpin_command(
    reason: Reason = "", by: By = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Let other releases be promoted again.

    slatestream release unpin
    """
    settings = load_settings(config)

    async def unpin() -> str:
        if (now := pinned(await read_changes(settings))) is None:
            raise SlatestreamError("unpin: no release is pinned")
        await change(settings, "unpin", now, by=by, reason=reason, replaces=None)
        return now

    now = run_connected(settings, "release", unpin())
    _print(as_json, now, now, f"{now} is pinned no more.")


async def change(
    settings: Settings,
    kind: Kind,
    version: str,
    *,
    by: str | None,
    reason: str,
    replaces: str | None,
    trial: Trial | None = None,
    decides_ms: int | None = None,
) -> None:
    """Write a change, and make sure that it counts."""
    before = await read_changes(settings)
    if kind in WANT and (pin := pinned(before)) is not None and pin == live(before) != version:
        raise SlatestreamError(f"{kind}: {pin} is pinned, see `slatestream release history`; unpin it first")
    made = await publish_change(
        settings, kind, version, by=by or whoami(), reason=reason,
        replaces=(replaces or "") if kind in WANT else None, trial=trial, decides_ms=decides_ms,
    )  # fmt: skip
    changes = await read_changes(settings)
    if changes.index(made) in (now := standing(changes)).void:
        other = now.canary if kind == "canary" and now.live == replaces else None
        raise SlatestreamError(
            f"{kind}: {now.live if other is None else other.version} was made to serve at the same time, in "
            f"the place of {replaces or 'nothing'}; nothing has changed by this, see `slatestream release "
            "history`"
        )


def _print(as_json: bool, version: str, before: str | None, said: str) -> None:
    print(json.dumps({"version": version, "before": before}) if as_json else said)
