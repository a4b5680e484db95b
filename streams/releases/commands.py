"""`slatestream release`: keep releases in a store, and say which of them serves."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.releases.change_commands import (
    canary_command,
    pin_command,
    promote_command,
    rollback_command,
    shadow_command,
    unpin_command,
)
from streams.releases.changes import (
    WANT,
    ReleaseChange,
    fold_changes,
    live_at,
    read_changes,
)
from streams.releases.options import AsJson, ConfigFile, StoreUrl, Version, one_of, open_store
from streams.settings import load_settings

if TYPE_CHECKING:  # it reads the files of releases, for which NumPy is imported: not for a --help
    from streams.releases.store import Stored

release_app = typer.Typer(
    no_args_is_help=True,
    help="""Keep releases in a store, and say which of them serves.

    `put` copies what `slatestream train` wrote into the store, `promote` lets it serve, `canary` lets it
    serve a share of the users first, `shadow` lets it answer live requests that others serve, `rollback`
    brings back what served before, `pin` keeps what serves, `history` tells who did so and when.

    A worker with the setting `release_store` serves what was promoted last, without a restart. If it cannot
    be served, what served before serves on, and the reason is in the worker's log and in `history`.""",
)
release_app.command("promote")(promote_command)
release_app.command("shadow")(shadow_command)
release_app.command("canary")(canary_command)
release_app.command("rollback")(rollback_command)
release_app.command("pin")(pin_command)
release_app.command("unpin")(unpin_command)


@release_app.command("put")
def put_command(
    folder: Annotated[Path, typer.Argument(help="Release folder, as `slatestream train` writes it.")],
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy a release into the store; nothing serves it yet.

    slatestream release put build/release --store /srv/releases
    """
    version = open_store(load_settings(config), store).put(folder).version
    said = f"{version} is in the store; serve it with `slatestream release promote {version}`."
    print(json.dumps({"version": version}) if as_json else said)


@release_app.command("list")
def list_command(store: StoreUrl = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List what is in the store, and what of it serves.

    slatestream release list --store s3://bucket/releases
    """
    settings = load_settings(config)
    stored = open_store(settings, store).list()
    now = fold_changes(run_connected(settings, "release", read_changes(settings)))
    live, is_now = now.live, {} if now.tried is None else {now.tried.version: str(now.tried.change)}
    if live is not None:
        is_now[live] = "live"
    if as_json:
        kinds = ("live", "canary", "shadow")
        marks = [{kind: is_now.get(one.version) == kind for kind in kinds} for one in stored]
        print(json.dumps([summary(one) | of_one for one, of_one in zip(stored, marks, strict=True)]))
        return
    table = Table()
    for column in ("version", "", "MB", "interactions", "NDCG@10", "precision"):
        table.add_column(column, justify="right" if column in ("MB", "interactions", "NDCG@10") else "left")
    for one in stored:
        row = summary(one)
        table.add_row(
            one.version, is_now.get(one.version, ""), f"{row['mb']:.1f}",
            _shown(row["interactions"]), _shown(row["ndcg"]), row["precision"],
        )  # fmt: skip
    Console(markup=False).print(table)
    if live is not None and live not in {one.version for one in stored}:
        print(f"{live}, which serves, is not in this store.")


@release_app.command("show")
def show_command(version: Version, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Print what a release says of itself: files, sizes, actions, how it was trained, its metrics.

    slatestream release show 3f9c
    """
    found = open_store(load_settings(config), store)
    print(json.dumps(one_of(found, version).manifest, indent=2))


@release_app.command("diff")
def diff_command(
    first: Version,
    second: Version,
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print in what two releases differ, a line for each thing: name, the first's, the second's.

    slatestream release diff 3f9c 81aa
    """
    found = open_store(load_settings(config), store)
    left, right = (flat(one_of(found, version).manifest) for version in (first, second))
    names = [name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)]
    if as_json:
        print(json.dumps({name: [left.get(name), right.get(name)] for name in names}))
        return
    table = Table()
    for column in ("", first, second):
        table.add_column(column, overflow="fold")
    for name in names:
        table.add_row(name, _shown(left.get(name)), _shown(right.get(name)))
    Console(markup=False).print(table)


@release_app.command("history")
def history_command(
    at: Annotated[
        str | None, typer.Option(help="Only print what served then: ISO time, of UTC where it names no zone.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="Print at most this many, the latest.")] = 200,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the changes of what serves: when, what, by whom and why.

    slatestream release history --at 2026-01-31T12:00:00
    """
    settings = load_settings(config)
    moment = None if at is None else _moment_ms(at)
    changes = run_connected(settings, "release", read_changes(settings))
    if moment is not None:
        print(live_at(changes, moment) or "none")
    elif as_json:
        print(json.dumps([told(change) for change in changes[-last:]]))
    else:
        table = Table()
        for column in ("time", "change", "version", "by", "reason"):
            table.add_column(column, overflow="fold")
        void = fold_changes(changes).void
        earlier = max(len(changes) - last, 0)
        for number, change in enumerate(changes[earlier:], earlier):
            when = datetime.fromtimestamp(change.timestamp_ms / 1000, UTC).isoformat(timespec="seconds")
            kind = f"{change.change}, void" if number in void else change.change
            table.add_row(when, kind, change.version, _plain(change.by), _plain(change.reason))
        Console(markup=False).print(table)
        if earlier:
            print(f"{earlier:,} earlier ones are shown by --last {len(changes)}")


@release_app.command("gc")
def gc_command(
    keep: Annotated[int, typer.Option(min=1, help="Releases that served last and stay.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would be.")] = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete what does not serve and will not be rolled back to, and what a gate rejected.

    What nobody has judged yet stays, and so does what is pinned.

    slatestream release gc --keep 5
    """
    settings = load_settings(config)
    found = open_store(settings, store)
    changes = run_connected(settings, "release", read_changes(settings))
    gone = superfluous([one.version for one in found.list()], changes, keep)
    for version in gone:
        if yes:
            found.delete(version)
        if not as_json:
            print(f"{version} {'deleted' if yes else 'would be deleted'}")
    if as_json:
        print(json.dumps({"versions": gone, "deleted": yes}))
    elif not gone:
        print("nothing to delete")
    elif not yes:
        print("--yes deletes them")


def superfluous(stored: Sequence[str], changes: Sequence[ReleaseChange], keep: int) -> list[str]:
    """Return what of a store was judged and is not among the last `keep` that a rollback would find."""
    judged = {change.version for change in changes if change.change in (*WANT, "reject")}
    now = fold_changes(changes)
    kept = {*now.served[-keep:], now.pinned, None if now.tried is None else now.tried.version}
    return [version for version in stored if version in judged and version not in kept]


def told(change: ReleaseChange) -> dict[str, Any]:
    """Return what programs read of a change: all its fields."""
    plain: dict[str, Any] = msgspec.structs.asdict(change)
    trial = None if change.trial is None else msgspec.to_builtins(change.trial)
    return plain | {"gates": [msgspec.structs.asdict(gate) for gate in change.gates], "trial": trial}


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
