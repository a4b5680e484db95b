"""`slatestream verify`: is the state what the logs say."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError

from streams.commands.ask import HERE, check_url
from streams.commands.progress import reading
from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.kafka.topic_admin import ConfigFile, admin_client
from streams.kafka.topics import fed_directly, topics_of_worker
from streams.settings import Settings, load_settings

if TYPE_CHECKING:  # a worker's parts, for which much is imported: not for a --help
    from streams.durability.state_rows import Kind
    from streams.verify.compare import Result
    from streams.verify.offline import Counting
    from streams.verify.run import Scope

COORDINATOR_S = 20.0
KINDS: "tuple[Kind, ...]" = ("users", "items", "slates", "policy")


def verify_command(
    url: Annotated[
        list[str] | None,
        typer.Option(help="Of a worker, its admin port if it has one; or several."),
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Only this one; or several.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(KINDS)}; several may be named.")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Look at what the changelogs hold; no worker need run.")
    ] = False,
    from_changelog: Annotated[
        bool,
        typer.Option("--from-changelog", help="Fold on from the changelogs, where logs are trimmed."),
    ] = False,
    at: Annotated[
        int | None, typer.Option(min=0, help="With --stored: as of this offset of clicks, excluded.")
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="Differences shown; all are counted.")] = 20,
    wait: Annotated[
        float, typer.Option(min=1, help="Seconds that a worker may take to come to where the fold stands.")
    ] = 60.0,
    buckets: Annotated[
        int,
        typer.Option(min=1, max=4096, help="Parts that a partition is compared in."),
    ] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    config: ConfigFile = None,
) -> None:
    """Fold the logs and compare what comes of it with the live state, row by row.

    It is the workers' own fold. Nothing is written, and no group is joined; workers go on meanwhile. The
    settings must be theirs. A token of scope admin is taken from SLATES_TOKEN.

    slatestream verify --url http://127.0.0.1:6066

    slatestream verify --stored --partition 0 --json

    Exit code 0: all is equal; 1: something differs; 2: something cannot be compared, it is said what and why;
    3: nobody answers.
    """
    settings = load_settings(config)
    urls = list(url or [HERE])
    for one in urls:
        check_url(one)
    if unknown := set(kind or ()) - set(KINDS):
        raise SlatestreamError(f"--kind must be one of {', '.join(KINDS)}, got {min(unknown)!r}")
    chosen = sorted(set(partition)) if partition else list(range(settings.partitions))
    if chosen[-1] >= settings.partitions:
        raise SlatestreamError(f"--partition must be below {settings.partitions}, got {chosen[-1]}")
    if stored and from_changelog:
        raise SlatestreamError("--stored and --from-changelog would compare the changelogs with themselves")
    if at is not None and not stored:
        raise SlatestreamError("--at is for --stored: a live worker stands where it stands")
    if "users" in fed_directly(settings):
        raise SlatestreamError("verify: users come from a topic that is mapped, which is not read here")

    from streams.verify.run import Scope

    scope = Scope(
        kinds=tuple(one for one in KINDS if one in (kind or KINDS)),
        from_changelog=from_changelog, buckets=buckets, wait_s=wait, at=at,
    )  # fmt: skip
    work = compare(settings, scope, chosen, None if stored else urls, quiet=as_json)
    try:
        results = run_connected(settings, "verify", work)
    except ValueError as error:  # a changelog's row that is damaged, or of a newer version
        raise SlatestreamError(f"verify: {error}") from None
    if as_json:
        print(json.dumps(_as_json(results, first)))
    else:
        _show(results, first)
    if any(result.differences for result in results):
        raise typer.Exit(1)
    if any(result.left_out for result in results):
        raise typer.Exit(2)


async def compare(
    settings: Settings, scope: "Scope", partitions: Sequence[int], urls: Sequence[str] | None, *, quiet: bool
) -> "list[Result]":
    """Compare partitions, live or, without urls, as stored.

    Raises
    ------
    SlatestreamError
        If no worker, or no broker, answers.
    """
    from streams.client.workers import Workers
    from streams.kafka.log import KafkaLog
    from streams.verify.retries import while_answered
    from streams.verify.run import Verifier

    log = KafkaLog(settings)
    ends = log.ends()
    await ends.start()
    try:
        topic = topics_of_worker(settings)["clicks"]
        begins, sizes = await ends.begins(topic, partitions), await ends.of(topic, partitions)
        total = sum(sizes[p] - begins[p] for p in partitions)
        with reading(0 if scope.from_changelog else total, quiet=quiet) as tell:
            verifier = Verifier(
                settings, log, ends, scope, committed=partial(committed_offsets, settings),
                tell=lambda partition, records: tell(f"partition {partition}", records),
            )  # fmt: skip

            async def compared() -> "list[Result]":
                if urls is None:
                    counting = await stored_counting(settings)
                    return [await verifier.stored(p, counting) for p in partitions]
                with Workers(urls, command="verify") as workers:
                    return [await verifier.live(p, partial(workers.state, p)) for p in partitions]

            return await while_answered(compared(), lambda: ends.begins(topic, partitions[:1]))
    finally:
        await ends.stop()


async def stored_counting(settings: Settings) -> "Counting":
    """Signal parameters of the release that these settings name, or that was promoted last."""
    from streams.items.table import load_scorer
    from streams.releases.changes import fold_changes, read_changes
    from streams.releases.live import fetch_release
    from streams.releases.options import open_store
    from streams.verify.offline import Counting

    if settings.release is None and settings.release_store is not None:
        for version in fold_changes(await read_changes(settings)).served[-1:]:
            fetched = await asyncio.to_thread(fetch_release, open_store(settings, None), version)
            settings = settings.model_copy(update={"release": fetched.folder})
    release = (await asyncio.to_thread(load_scorer, settings)).release
    return Counting(release.version, release.feature_dim, release.signals)


async def committed_offsets(settings: Settings, partition: int) -> Mapping[str, int]:
    """Offsets that the workers' group has committed for a partition."""

    def ask() -> Mapping[str, int]:
        with admin_client(settings) as admin:
            offsets = _offsets(admin, settings.group_id)
        at = {(tp.topic, tp.partition): known.offset for tp, known in offsets.items()}
        topics = topics_of_worker(settings)
        return {name: max(0, at.get((topics[name], partition), 0)) for name in ("clicks", "users")}

    return await asyncio.to_thread(ask)


def _offsets(admin: KafkaAdminClient, group_id: str) -> Any:
    """Return a group's offsets by partition; where no group has been yet, brokers first make their topic."""
    deadline = time.monotonic() + COORDINATOR_S
    while True:
        try:
            return admin.list_group_offsets([group_id])[group_id]
        except CoordinatorNotAvailableError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _as_json(results: "Sequence[Result]", first: int) -> dict[str, Any]:
    found = [one for result in results for one in result.differences]
    return {
        "equal": not found and not any(result.left_out for result in results),
        "differences": len(found),
        "first": [asdict(one) for one in found[:first]],
        "partitions": [
            {
                "partition": result.partition, "clicks_offset": result.through, "rows": result.rows,
                "differences": len(result.differences), "not_compared": result.left_out,
            }
            for result in results
        ],
    }  # fmt: skip


def _show(results: "Sequence[Result]", first: int) -> None:
    for result in results:
        rows = ", ".join(f"{n:,} rows of {kind}" for kind, n in result.rows.items())
        n = len(result.differences)
        said = "equal" if not n else f"{n:,} difference{'s' * (n != 1)}"
        if rows:
            print(f"partition {result.partition}, up to click {result.through:,}: {rows}: {said}")
        for why in dict.fromkeys(result.left_out.values()):
            kinds = ", ".join(name for name, one in result.left_out.items() if one == why)
            print(f"partition {result.partition}: not compared: {kinds}: {why}")
    found = [one for result in results for one in result.differences]
    for one in found[:first]:
        print(
            f"  partition {one.partition}, {one.kind} {one.name}, {one.field}: expected {one.expected}, "
            f"found {one.found} (as of click {one.offset})"
        )
    if len(found) > first:
        print(f"  and {len(found) - first:,} more: --first shows more, --json is for programs")
    if any("begins at" in why for result in results for why in result.left_out.values()):
        print("What the changelogs hold, folded on, can be compared: --from-changelog")
