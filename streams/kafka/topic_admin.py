"""Makes the topics, compares them with what is wanted, and the commands for both."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from rich.console import Console
from rich.table import Table

from streams.errors import TopicError
from streams.kafka.broker_check import CONNECT_TIMEOUT_MS, check_brokers_from_thread
from streams.kafka.options import kafka_client_options
from streams.kafka.topics import (
    DAY_MS,
    TOPICS,
    TopicDifference,
    fault,
    fed_directly,
    layout_differences,
    our_topics,
    refuse_unusable,
    settings_differences,
    topic_name,
    topic_partitions,
)
from streams.settings import Settings, load_settings


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names; those that exist are left as they are.

    Raises
    ------
    TopicError
        When the brokers cannot be reached or refuse.
    """
    names = our_topics(settings)
    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
        wanted = {
            full_name: {
                "num_partitions": topic_partitions(settings, name),
                "replication_factor": settings.replication_factor,
                "configs": TOPICS[name].config(settings),
            }
            for full_name, name in names.items()
            if full_name not in existing
        }
        created = _create(admin, wanted)
    return [full_name for full_name in names if full_name in created]


def create_others(settings: Settings, names: Sequence[str]) -> None:
    """Create topics that are not ours and are missing, with `partitions` partitions, else as brokers do it.

    Raises
    ------
    TopicError
        When the brokers cannot be reached or refuse.
    """
    made = {"num_partitions": settings.partitions, "replication_factor": settings.replication_factor}
    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
        _create(admin, {name: made for name in names if name not in existing})


def _create(admin: KafkaAdminClient, wanted: Mapping[str, Mapping[str, Any]]) -> set[str]:
    if not wanted:
        return set()
    replicas = next(iter(wanted.values()))["replication_factor"]
    created = _created(admin.create_topics(dict(wanted), raise_errors=False)["topics"], replicas)
    admin.wait_for_topics(list(wanted))
    return created


def _created(answers: list[dict[str, Any]], replicas: int) -> set[str]:
    created = set()
    for answer in answers:
        code = answer["error_code"]
        if code == 0:
            created.add(answer["name"])
        elif code != TopicAlreadyExistsError.errno:  # another worker was quicker
            reason = answer.get("error_message") or for_code(code).__name__
            raise TopicError(
                f"topic {answer['name']} cannot be created: {reason} (replication_factor={replicas})"
            )
    return created


def describe_topics(settings: Settings) -> list[TopicDifference]:
    """Compare every topic with what is wanted; an empty list means that all is well.

    Raises
    ------
    TopicError
        When the brokers cannot be reached or refuse.
    """
    names = our_topics(settings)
    with admin_client(settings) as admin:
        found = set(admin.list_topics())
        sources = [source.topic for source in settings.sources if source.topic in found]
        theirs = (
            {row["name"]: len(row["partitions"]) for row in admin.describe_topics(sources)} if sources else {}
        )
        existing = [full_name for full_name in found if full_name in names]
        layouts = (
            {row["name"]: row["partitions"] for row in admin.describe_topics(existing)} if existing else {}
        )
        configs = _read_configs(admin, existing)
    differences = []
    for full_name, name in names.items():
        if full_name in layouts:
            differences += _compare(settings, name, layouts[full_name])
            differences += settings_differences(settings, {full_name: configs[full_name]})
        else:
            differences.append(TopicDifference(full_name, "topic", "exists", None))
    return differences + [one for one in layout_differences(settings, theirs) if one.foreign]


def check_topics(settings: Settings) -> None:
    """Check what a worker cannot do without; see `refuse_unusable`.

    Raises
    ------
    TopicError
        If a topic is missing or has other partitions, or the brokers cannot be reached.
    """
    refuse_unusable(describe_topics(settings))


def _compare(settings: Settings, name: str, partitions: list[dict[str, Any]]) -> list[TopicDifference]:
    replicas = min(len(partition["replica_nodes"]) for partition in partitions)
    pairs = {
        "partitions": (str(topic_partitions(settings, name)), str(len(partitions))),
        "replication factor": (str(settings.replication_factor), str(replicas)),
    }
    return [
        TopicDifference(topic_name(settings, name), key, want, have)
        for key, (want, have) in pairs.items()
        if want != have
    ]


def _read_configs(admin: KafkaAdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(resources, config_filter="all")["topic"]
    return {topic: {key: entry["value"] for key, entry in answers[topic].items()} for topic in topics}


@contextmanager
def admin_client(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Open an admin client of the settings' cluster; its failures become a `TopicError`."""
    # A client that cannot connect leaves its thread behind, retrying for ever: so check the brokers first.
    check_brokers_from_thread(settings)
    try:
        admin = KafkaAdminClient(
            client_id="slatestream-topics",
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
            **kafka_client_options(settings),
        )
    except KafkaError as error:
        raise TopicError(f"Kafka at {settings.bootstrap_servers} does not answer: {error}") from error
    try:
        yield admin
    except KafkaError as error:
        raise TopicError(f"Kafka at {settings.bootstrap_servers} refused: {error}") from error
    finally:
        admin.close()


ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

topics_app = typer.Typer(no_args_is_help=True, help="Make the topics, and check that they are as wanted.")


@topics_app.command("create")
def create_command(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Create the topics that are missing, then check all of them; exit code 1 when a difference does harm.

    slatestream topics create --config worker.toml
    """
    settings = load_settings(config)
    created = set(create_topics(settings))
    _report(settings, describe_topics(settings), created, as_json=as_json)


@topics_app.command("describe")
def describe_command(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every topic beside what is wanted; exit code 1 when a difference does harm.

    slatestream topics describe --json
    """
    settings = load_settings(config)
    _report(settings, describe_topics(settings), set(), as_json=as_json)


def _report(
    settings: Settings, differences: list[TopicDifference], created: set[str], *, as_json: bool
) -> None:
    (_print_json if as_json else _print_table)(settings, differences, created)
    if not all(one.harmless for one in differences):
        raise typer.Exit(1)


def _print_json(settings: Settings, differences: list[TopicDifference], created: set[str]) -> None:
    instead = fed_directly(settings)
    names = [instead.get(name, topic_name(settings, name)) for name in TOPICS]
    names += [source.topic for source in settings.sources if source.repartition]
    topics = [
        {
            "topic": name,
            "created": name in created,
            "differences": [
                asdict(one) | {"harmless": one.harmless} for one in differences if one.topic == name
            ],
        }
        for name in names
    ]
    print(json.dumps({"bootstrap_servers": settings.bootstrap_servers, "topics": topics}, indent=2))


def _print_table(settings: Settings, differences: list[TopicDifference], created: set[str]) -> None:
    table = Table(title=f"Topics on {settings.bootstrap_servers}", title_justify="left")
    for column in ("topic", "partitions", "cleanup", "retention", "state"):
        table.add_column(column, overflow="fold")
    instead = fed_directly(settings)
    for name, spec in TOPICS.items():
        full_name = instead.get(name, topic_name(settings, name))
        faults = [difference for difference in differences if difference.topic == full_name]
        state = "\n".join(map(fault, faults)) or ("created" if full_name in created else "as wanted")
        retention = "last row per key" if spec.retention_ms is None else f"{spec.retention_ms // DAY_MS} d"
        kept = ("", "") if name in instead else (spec.cleanup, retention)  # theirs is not our business
        table.add_row(full_name, str(topic_partitions(settings, name)), *kept, state)
    for source in settings.sources:
        if source.repartition:
            faults = [difference for difference in differences if difference.topic == source.topic]
            copied = f"copied into {topic_name(settings, source.feeds)}"
            table.add_row(source.topic, "", "", "", "\n".join(map(fault, faults)) or copied)
    # Piped output is as wide as it needs to be: a table folded at 80 columns is hard to search.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    console.print(table)
    if harm := [one for one in differences if not one.harmless]:
        console.print(f"{len(harm)} differences: change the topics with kafka-configs, or the settings.")
