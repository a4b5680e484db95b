"""Commands that change what serves: promote, rollback, pin, unpin; each change is a record."""

import json

from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.releases.changes import DECIDE, Kind, live, pinned, publish_change, read_changes, serving, voided
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
    """Let a release of the store serve, once it has passed what a worker checks when it loads it."""
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


def rollback_command(
    reason: Reason = "",
    by: By = None,
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring back the release that served before the present one; again, the one before that."""
    settings = load_settings(config)
    found = open_store(settings, store)

    async def rollback() -> tuple[str, str]:
        stack = serving(await read_changes(settings))
        if len(stack) < 2:
            raise SlatestreamError("rollback: no release served before the present one")
        now, earlier = stack[-1], stack[-2]
        check(settings, found, earlier)
        await change(settings, "rollback", earlier, by=by, reason=reason, replaces=now)
        return now, earlier

    now, earlier = run_connected(settings, "release", rollback())
    said = f"{earlier} is back, {now} is served no more as soon as workers have read this."
    _print(as_json, earlier, now, said)


def pin_command(
    reason: Reason = "", by: By = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Keep the release that serves: until `unpin` no other is promoted, by whomever."""
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
    """Let other releases be promoted again."""
    settings = load_settings(config)

    async def unpin() -> str:
        if (now := pinned(await read_changes(settings))) is None:
            raise SlatestreamError("unpin: no release is pinned")
        await change(settings, "unpin", now, by=by, reason=reason, replaces=None)
        return now

    now = run_connected(settings, "release", unpin())
    _print(as_json, now, now, f"{now} is pinned no more.")


async def change(
    settings: Settings, kind: Kind, version: str, *, by: str | None, reason: str, replaces: str | None
) -> None:
    """Write a change, and make sure that it counts."""
    before = await read_changes(settings)
    if kind in DECIDE and (pin := pinned(before)) is not None and pin == live(before) != version:
        raise SlatestreamError(f"{kind}: {pin} is pinned, see `slatestream release history`; unpin it first")
    made = await publish_change(
        settings, kind, version, by=by or whoami(), reason=reason,
        replaces=(replaces or "") if kind in DECIDE else None,
    )  # fmt: skip
    changes = await read_changes(settings)
    if changes.index(made) in voided(changes):
        raise SlatestreamError(
            f"{kind}: {live(changes)} was made to serve at the same time, in the place of "
            f"{replaces or 'nothing'}; nothing has changed by this, see `slatestream release history`"
        )


def _print(as_json: bool, version: str, before: str | None, said: str) -> None:
    print(json.dumps({"version": version, "before": before}) if as_json else said)
