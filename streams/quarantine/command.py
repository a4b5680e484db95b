"""`slatestream quarantine`: users whose clicks count for their own slates and for nobody else's."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.client.http import HttpClient
from streams.client.workers import Workers
from streams.commands.ask import HERE, check_url
from streams.commands.progress import reading
from streams.errors import Fenced, SlatestreamError
from streams.events import encode
from streams.kafka.connected import run_connected
from streams.kafka.partitioner import partition_of
from streams.kafka.topic_admin import ConfigFile, admin_client
from streams.settings import load_settings

if TYPE_CHECKING:
    from streams.api.answers import Held, Quarantined
    from streams.settings import Settings

Users = Annotated[list[str], typer.Argument(help="Ids of users.")]
Urls = Annotated[
    list[str] | None, typer.Option("--url", help="Address of a worker (its admin port, if set); repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one line per user.")]
Why = Annotated[str, typer.Option(help="The reason; stored with the quarantine.")]

quarantine_app = typer.Typer(
    no_args_is_help=True,
    help="""Quarantine fake users: they are served as usual, but do not influence what others see.

    From their next click on, their events count only for their own slates, not in co-visits, popularity,
    rates, or what policies learn.

    `add` and `release` ask the worker that owns the user, and return once the change is durable. `forget`
    also removes what the user has contributed to items so far: it folds the clicks again, while no worker
    runs.

    SLATES_TOKEN must hold a token of scope admin, if workers ask for one.""",
)


@quarantine_app.command("list")
def list_command(
    everybody: Annotated[bool, typer.Option("--all", help="Include released users.")] = False,
    suspects: Annotated[
        bool, typer.Option("--suspects", help="Show suspicious users instead, the most suspicious first.")
    ] = False,
    url: Urls = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show who is in quarantine, the latest of each partition first.

    slatestream quarantine list --all --json

    slatestream quarantine list --suspects
    """
    settings = load_settings(config)
    console = Console(highlight=False)
    with _workers(url) as workers:
        told = [
            workers.ask(partition, partial(_quarantined, partition))
            for partition in range(settings.partitions)
        ]
    if suspects:
        _show_suspects(told, console, as_json=as_json)
        return
    found = [(one.partition, user) for one in told for user in one.users if everybody or user.held]
    if as_json:
        for _, user in found:
            print(encode(user).decode())
        return
    if not found:
        console.print("Nobody is in quarantine.")
        return
    table = Table()
    for column in ("user", "partition", "clicks that do not count", "since", "why"):
        table.add_column(column, overflow="fold")
    for partition, one in found:
        table.add_row(
            escape(one.user_id) or "[dim]erased[/]", str(partition), _spans(one),
            f"{datetime.fromtimestamp(one.since_ms / 1000, UTC):%Y-%m-%d %H:%M}", escape(one.why),
        )  # fmt: skip
    console.print(table)


@quarantine_app.command("add")
def add_command(
    users: Users, why: Why = "", url: Urls = None, as_json: AsJson = False, config: ConfigFile = None
) -> None:
    """Quarantine users: from the next click on, their events count only for their own slates.

    slatestream quarantine add u1 u2 --why "a flood of likes"
    """
    _change(users, load_settings(config), url, held=True, why=why, as_json=as_json)


@quarantine_app.command("release")
def release_command(
    users: Users, url: Urls = None, as_json: AsJson = False, config: ConfigFile = None
) -> None:
    """End a quarantine: events count again from the next click on; earlier ones stay uncounted.

    slatestream quarantine release u1
    """
    _change(users, load_settings(config), url, held=False, why="", as_json=as_json)


@quarantine_app.command("forget")
def forget_command(users: Users, why: Why = "", as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Quarantine users and remove what they have contributed to items: stop all workers first.

    The clicks of the users' partitions are folded again without them, by the release that the settings name
    or that was promoted last, and the rows of items that differ are written in one transaction a partition.
    What policies have learned stays.

    slatestream quarantine forget u1 u2 --why "a bot"

    Exit code 0: done; 2: refused, for example because a worker runs, the first clicks are gone, or
    the settings let workers forget users or items.
    """
    settings = load_settings(config)
    with admin_client(settings) as admin:
        group = admin.describe_groups([settings.group_id])[settings.group_id]
    if group["members"]:
        raise SlatestreamError(
            f"quarantine: workers of group {settings.group_id} run: stop them, forget, and start them again"
        )
    changed = run_connected(settings, "quarantine", _forget(settings, users, why, quiet=as_json))
    for partition, (names, rows) in sorted(changed.items()):
        if as_json:
            print(encode({"partition": partition, "users": names, "items_changed": rows}).decode())
        else:
            print(f"partition {partition}: {rows:,} items are counted without {', '.join(names)}")


async def _forget(
    settings: "Settings", users: Sequence[str], why: str, *, quiet: bool
) -> dict[int, tuple[list[str], int]]:
    from streams.kafka.log import KafkaLog
    from streams.quarantine.forget import Forgetting
    from streams.verify.command import committed_offsets, stored_counting

    by_partition: dict[int, list[str]] = {}
    for user in dict.fromkeys(users):
        by_partition.setdefault(partition_of(user, settings.partitions), []).append(user)
    log = KafkaLog(settings)
    ends, counting = log.ends(), await stored_counting(settings)
    await ends.start()
    try:
        with reading(0, quiet=quiet) as tell:
            forgetting = Forgetting(
                settings, log, ends, committed=partial(committed_offsets, settings),
                tell=lambda partition, records: tell(f"partition {partition}", records),
            )  # fmt: skip
            now_ms, done = int(time.time() * 1000), {}
            for partition, names in by_partition.items():
                rows = await forgetting.forget(partition, names, counting, now_ms=now_ms, why=why)
                done[partition] = names, rows
            return done
    except Fenced:
        raise SlatestreamError(
            "quarantine: a worker has started meanwhile: stop it, and forget again; of its partition nothing "
            "was changed"
        ) from None
    finally:
        await ends.stop()


def _change(
    users: Sequence[str], settings: "Settings", url: list[str] | None, *, held: bool, why: str, as_json: bool
) -> None:
    if len(why) > 200:
        raise SlatestreamError(f"--why must have at most 200 characters, got {len(why)}")
    with _workers(url) as workers:
        for user in dict.fromkeys(users):

            def question(client: HttpClient, user: str = user) -> "Held":
                return client.quarantine(user, held=held, why=why)

            found = workers.ask(partition_of(user, settings.partitions), question)
            if as_json:
                print(encode(found).decode())
            else:
                said = "in quarantine" if found.held else "let go"
                print(f"{user}: {said}; clicks that do not count: {_spans(found)}")


def _workers(url: list[str] | None) -> Workers:
    for one in url or ():
        check_url(one)
    return Workers(url or [HERE], command="quarantine")


def _quarantined(partition: int, client: HttpClient) -> "Quarantined":
    return client.quarantined(partition)


def _show_suspects(told: "Sequence[Quarantined]", console: Console, *, as_json: bool) -> None:
    found = sorted((one for part in told for one in part.suspects), key=lambda one: -one.score)
    if as_json:
        for one in found:
            print(encode(one).decode())
        return
    if not found:
        console.print("Nobody is suspect.")
        return
    table = Table()
    table.add_column("user", overflow="fold")
    for column in ("suspicion", "surging items", "repetition"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(escape(one.user_id), *(f"{n:.2f}" for n in (one.score, one.surges, one.repetition)))
    console.print(table)


def _spans(one: "Held") -> str:
    said = [f"before {one.forgotten:,}"] if one.forgotten else []
    said += [
        f"from {part.begin:,} on" if part.end is None else f"{part.begin:,} to {part.end - 1:,}"
        for part in one.spans
    ]
    return ", ".join(said) or "none"
