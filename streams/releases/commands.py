"""`slatestream release`: keep releases in a store, and say which of them serves."""

import getpass
import json
import os
import socket
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams.cache import cache_folder, writable_folder
from streams.errors import ConfigurationError, SlatestreamError
from streams.kafka.connected import run_connected
from streams.releases.changes import (
    Kind,
    ReleaseChange,
    before,
    publish_change,
    read_changes,
    serving,
    voided,
)
from streams.releases.changes import live as live_of
from streams.settings import Settings, load_settings

if TYPE_CHECKING:  # it reads the files of releases, for which NumPy is imported: not for a --help
    from streams.releases.store import ReleaseStore, Stored

Version = Annotated[str, typer.Argument(help="Version, or enough of its beginning to be the only one.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
StoreUrl = Annotated[
    str | None, typer.Option("--store", help="Folder or fsspec URL; the setting `release_store` otherwise.")
]
By = Annotated[str | None, typer.Option("--by", help="Who says so; you on this machine otherwise.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever reads the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

release_app = typer.Typer(
    no_args_is_help=True,
    help="""Keep releases in a store, and say which of them serves.

    `put` copies what `slatestream train` wrote into the store, `promote` lets it serve, `rollback` brings
    back what served before, `history` tells who did so and when.

    A worker with the setting `release_store` serves what was promoted last, without a restart. If it cannot
    be served, what served before serves on, and the reason is in the worker's log and in `history`.""",
)


@release_app.command("put")
def put_command(
    folder: Annotated[Path, typer.Argument(help="Release folder, as `slatestream train` writes it.")],
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Copy a release into the store; nothing serves it yet."""
    version = open_store(load_settings(config), store).put(folder).version
    print(f"{version} is in the store; serve it with `slatestream release promote {version}`.")


@release_app.command("list")
def list_command(store: StoreUrl = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List what is in the store, and what of it serves."""
    settings = load_settings(config)
    stored = open_store(settings, store).list()
    changes = run_connected(settings, "release", read_changes(settings))
    live = live_of(changes)
    if as_json:
        print(json.dumps([summary(one) | {"live": one.version == live} for one in stored]))
        return
    table = Table()
    for column in ("version", "", "MB", "interactions", "NDCG@10", "precision"):
        table.add_column(column, justify="right" if column in ("MB", "interactions", "NDCG@10") else "left")
    for one in stored:
        row = summary(one)
        table.add_row(
            one.version, "live" if one.version == live else "", f"{row['mb']:.1f}",
            _shown(row["interactions"]), _shown(row["ndcg"]), row["precision"],
        )  # fmt: skip
    Console(markup=False).print(table)
    if live is not None and live not in {one.version for one in stored}:
        print(f"{live}, which serves, is not in this store.")


@release_app.command("show")
def show_command(version: Version, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Print what a release says of itself: files, sizes, actions, how it was trained, its metrics."""
    found = open_store(load_settings(config), store)
    print(json.dumps(_one_of(found, version).manifest, indent=2, ensure_ascii=False))


@release_app.command("diff")
def diff_command(first: Version, second: Version, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Print in what two releases differ, a line for each thing: name, the first's, the second's."""
    found = open_store(load_settings(config), store)
    left, right = (flat(_one_of(found, version).manifest) for version in (first, second))
    table = Table()
    for column in ("", first, second):
        table.add_column(column, overflow="fold")
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            table.add_row(name, _shown(left.get(name)), _shown(right.get(name)))
    Console(markup=False).print(table)


@release_app.command("promote")
def promote_command(
    version: Version,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    config: ConfigFile = None,
) -> None:
    """Let a release of the store serve, once it has passed what a worker checks when it loads it."""
    settings = load_settings(config)
    found = open_store(settings, store)
    chosen = _one_of(found, version).version
    check(settings, found, chosen)

    async def promote() -> bool:
        now = live_of(await read_changes(settings))
        if now == chosen:
            return False
        await _change(settings, "promote", chosen, by=by, reason=reason, replaces=now)
        return True

    changed = run_connected(settings, "release", promote())
    said = "is promoted: workers serve it as soon as they have loaded it" if changed else "serves already"
    print(f"{chosen} {said}.")


@release_app.command("rollback")
def rollback_command(
    reason: Reason = "", by: By = None, store: StoreUrl = None, config: ConfigFile = None
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
        await _change(settings, "rollback", earlier, by=by, reason=reason, replaces=now)
        return now, earlier

    now, earlier = run_connected(settings, "release", rollback())
    print(f"{earlier} is back, {now} is served no more as soon as workers have read this.")


@release_app.command("history")
def history_command(
    at: Annotated[
        str | None, typer.Option(help="Only print what served then: ISO time, of UTC where it names no zone.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print every change of what serves: when, what, by whom and why."""
    settings = load_settings(config)
    moment = None if at is None else _moment_ms(at)
    changes = run_connected(settings, "release", read_changes(settings))
    if moment is not None:
        print(before(changes, moment) or "none")
    elif as_json:
        names = ReleaseChange.__struct_fields__
        print(json.dumps([{name: getattr(change, name) for name in names} for change in changes]))
    else:
        table = Table()
        for column in ("time", "change", "version", "by", "reason"):
            table.add_column(column, overflow="fold")
        void = voided(changes)
        for number, change in enumerate(changes):
            when = datetime.fromtimestamp(change.timestamp_ms / 1000, UTC).isoformat(timespec="seconds")
            kind = f"{change.change}, void" if number in void else change.change
            table.add_row(when, kind, change.version, _plain(change.by), _plain(change.reason))
        Console(markup=False).print(table)


@release_app.command("gc")
def gc_command(
    keep: Annotated[int, typer.Option(min=1, help="Releases that served last and stay.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would be.")] = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Delete what does not serve and will not be rolled back to; what has never served stays."""
    settings = load_settings(config)
    found = open_store(settings, store)
    changes = run_connected(settings, "release", read_changes(settings))
    gone = superfluous([one.version for one in found.list()], changes, keep)
    for version in gone:
        if yes:
            found.delete(version)
        print(f"{version} {'deleted' if yes else 'would be deleted'}")
    if not gone:
        print("nothing to delete")
    elif not yes:
        print("--yes deletes them")


async def _change(
    settings: Settings, kind: Kind, version: str, *, by: str | None, reason: str, replaces: str | None
) -> None:
    """Write a change, and make sure that nobody was faster."""
    made = await publish_change(
        settings, kind, version, by=by or whoami(), reason=reason, replaces=replaces or ""
    )
    changes = await read_changes(settings)
    if changes.index(made) in voided(changes):
        raise SlatestreamError(
            f"{kind}: {live_of(changes)} was made to serve at the same time, in the place of "
            f"{replaces or 'nothing'}; nothing has changed by this, see `slatestream release history`"
        )


def open_store(settings: Settings, url: str | None) -> "ReleaseStore":
    """Return the store that is named, or that of the settings."""
    from streams.releases.store import ReleaseStore

    if (chosen := url or settings.release_store) is None:
        raise ConfigurationError("release_store must be set, or --store given: a folder or an fsspec URL")
    return ReleaseStore(chosen)


def check(settings: Settings, store: "ReleaseStore", version: str) -> None:
    """Fetch a release and load it as a worker with these settings would.

    Raises
    ------
    SlatestreamError
        If it cannot be served, with the reason.
    """
    from streams.items.table import load_scorer
    from streams.items.text_encoder import open_text_encoder

    with tempfile.TemporaryDirectory(dir=writable_folder(cache_folder())) as scratch:
        folder = store.fetch(version, Path(scratch))
        there = settings.model_copy(update={"release": folder})
        open_text_encoder(there, load_scorer(there).release)


def superfluous(stored: Sequence[str], changes: Sequence[ReleaseChange], keep: int) -> list[str]:
    """Return what of a store has served and is not among the last `keep` that a rollback would find."""
    served = {change.version for change in changes if change.change != "refuse"}
    kept = set(serving(changes)[-keep:])
    return [version for version in stored if version in served and version not in kept]


def summary(stored: "Stored") -> dict[str, Any]:
    """Return what of a release is told in a line."""
    told = flat(stored.manifest)
    return {
        "version": stored.version,
        "mb": stored.nbytes / 1e6,
        "interactions": told.get("training.interactions"),
        "ndcg": told.get("metrics.slatestream.ndcg@10"),
        "precision": told.get("precision", "fp32"),
    }


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return what nested objects hold, by dotted names; lists are values."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{name}.{key}" if name else str(key))
    return found


def whoami() -> str:
    """Return user@host, as far as the system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _one_of(store: "ReleaseStore", beginning: str) -> "Stored":
    found = [one for one in store.list() if beginning and one.version.startswith(beginning)]
    if len(found) != 1:
        known = ", ".join(one.version for one in found or store.list()) or "none"
        which = "more than one" if found else "none"
        raise SlatestreamError(
            f"version must name one release of {store.url}, {beginning!r} names {which} of: {known}"
        )
    return found[0]


def _moment_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SlatestreamError(f"--at must be an ISO time such as 2026-05-04T14:05, got {text!r}") from None


def _plain(text: str) -> str:
    """Return a text without what would move a terminal's cursor or colour it."""
    return "".join(character if character.isprintable() else " " for character in text)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
