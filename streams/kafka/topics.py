"""The topics: one table of what each should be, and the commands that make and check them."""

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from rich.console import Console
from rich.table import Table

from streams.errors import TopicError
from streams.kafka.options import kafka_client_options
from streams.settings import Settings, load_settings

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_MIB = 1024 * 1024
_CONNECT_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic should be.

    Attributes
    ----------
    name : str
        Without the prefix; `topic_name` puts it before.
    cleanup : str
        "delete" after `retention_ms`, or "compact" to the last row of each key.
    retention_ms : int or None
        How long a record is kept; None for a compacted topic.
    partitions : int or None
        A fixed count, or None for `settings.partitions`. Every topic keyed by user must have the same
        count as the others: partition p of each belongs to shard p.
    broker_time : bool
        Whether the broker stamps records on arrival. So a producer's clock, or a replay of old events,
        cannot make retention drop fresh records.
    max_message_bytes : int
        The largest record batch that the broker takes.
    """

    name: str
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None = None
    partitions: int | None = None
    broker_time: bool = True
    max_message_bytes: int = 2 * _MIB

    def config(self, settings: Settings) -> dict[str, str]:
        """Return the topic's configuration in the broker's words."""
        config = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
            "min.insync.replicas": "2" if settings.replication_factor >= 3 else "1",
        }
        if self.cleanup == "compact":
            # The active segment is never compacted, and a restore reads all that is not: so segments are
            # small. An erased user is gone from the disk a day after the tombstone, at the latest.
            config |= {
                "segment.bytes": str(64 * _MIB),
                "segment.ms": str(60 * _MINUTE_MS),
                "min.cleanable.dirty.ratio": "0.2",
                "max.compaction.lag.ms": str(_DAY_MS),
                "delete.retention.ms": str(_DAY_MS),
            }
        else:
            config["retention.ms"] = str(self.retention_ms)
        return config


TOPICS: Mapping[str, TopicSpec] = {
    spec.name: spec
    for spec in (
        TopicSpec("clicks", "delete", retention_ms=90 * _DAY_MS),
        TopicSpec("content", "compact", max_message_bytes=4 * _MIB),  # images and sounds as bytes
        TopicSpec("users", "compact"),
        TopicSpec("requests", "delete", retention_ms=_DAY_MS),
        TopicSpec("recommendations", "delete", retention_ms=7 * _DAY_MS),
        TopicSpec("feedback", "delete", retention_ms=90 * _DAY_MS),
        TopicSpec("dead-letters", "delete", retention_ms=30 * _DAY_MS, partitions=1),
        TopicSpec("item-state", "compact", broker_time=False),
        TopicSpec("user-state", "compact", broker_time=False),
        TopicSpec("policy-state", "compact", broker_time=False),
        TopicSpec("model-releases", "compact", partitions=1),
        TopicSpec("experiments", "compact", partitions=1),
    )
}


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """One property of a topic that is not as wanted; `actual` is None when the topic is missing."""

    topic: str
    setting: str
    wanted: str
    actual: str | None


def topic_name(settings: Settings, name: str) -> str:
    """Return the topic's name on the broker: the prefix of the settings and `name` of the table."""
    if name not in TOPICS:
        raise ValueError(f"name must be one of {', '.join(TOPICS)}, got {name!r}")
    return settings.topic_prefix + name


def topic_names(settings: Settings) -> dict[str, str]:
    """Return every topic's name on the broker by its name of the table."""
    return {name: topic_name(settings, name) for name in TOPICS}


def topic_partitions(settings: Settings, name: str) -> int:
    """Return how many partitions the topic should have."""
    fixed = TOPICS[name].partitions
    return settings.partitions if fixed is None else fixed


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names; those that exist are left as they are.

    Raises
    ------
    TopicError
        When the brokers cannot be reached or refuse.
    """
    names = {topic_name(settings, name): name for name in TOPICS}
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
        if not wanted:
            return []
        answers = admin.create_topics(wanted, raise_errors=False)["topics"]
        created = _created(answers)
        admin.wait_for_topics(list(wanted))
    return [full_name for full_name in names if full_name in created]


def _created(answers: list[dict[str, Any]]) -> set[str]:
    created = set()
    for answer in answers:
        code = answer["error_code"]
        if code == 0:
            created.add(answer["name"])
        elif code != TopicAlreadyExistsError.errno:  # another worker was quicker
            reason = answer.get("error_message") or for_code(code).__name__
            raise TopicError(f"topic {answer['name']} cannot be created: {reason}")
    return created


def describe_topics(settings: Settings) -> list[TopicDifference]:
    """Compare every topic with what is wanted; an empty list means that all is well.

    Raises
    ------
    TopicError
        When the brokers cannot be reached or refuse.
    """
    names = {topic_name(settings, name): name for name in TOPICS}
    with admin_client(settings) as admin:
        existing = [full_name for full_name in admin.list_topics() if full_name in names]
        layouts = (
            {row["name"]: row["partitions"] for row in admin.describe_topics(existing)} if existing else {}
        )
        configs = _read_configs(admin, existing)
    differences = []
    for full_name, name in names.items():
        if full_name in layouts:
            differences += _compare(settings, name, layouts[full_name], configs[full_name])
        else:
            differences.append(TopicDifference(full_name, "topic", "exists", None))
    return differences


def check_topics(settings: Settings) -> None:
    """Check what a worker cannot do without: every topic exists, with the wanted partitions.

    Raises
    ------
    TopicError
        Naming what differs and what to do. Other differences are for `slatestream topics describe`.
    """
    fatal = [d for d in describe_topics(settings) if d.actual is None or d.setting == "partitions"]
    if fatal:
        lines = "\n  ".join(f"{difference.topic}: {_fault(difference)}" for difference in fatal)
        raise TopicError(f"the topics are not as a worker needs them:\n  {lines}")


def _compare(
    settings: Settings, name: str, partitions: list[dict[str, Any]], config: dict[str, str]
) -> list[TopicDifference]:
    replicas = min(len(partition["replica_nodes"]) for partition in partitions)
    wanted = TOPICS[name].config(settings)
    pairs = {
        "partitions": (str(topic_partitions(settings, name)), str(len(partitions))),
        "replication factor": (str(settings.replication_factor), str(replicas)),
        **{key: (value, config[key]) for key, value in wanted.items()},
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
    # A client that cannot connect leaves its thread behind, retrying for ever: so knock first.
    _check_reachable(settings.bootstrap_servers)
    try:
        admin = KafkaAdminClient(
            client_id="slatestream-topics",
            bootstrap_timeout_ms=_CONNECT_TIMEOUT_MS,
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


def _check_reachable(bootstrap_servers: str) -> None:
    reasons = []
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal()):
            raise TopicError(f"bootstrap_servers must be host:port,host:port..., got {bootstrap_servers!r}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_MS / 1000).close()
            return
        except OSError as error:
            reasons.append(f"{server.strip()}: {error.strerror or error}")
    raise TopicError(
        f"Kafka cannot be reached ({'; '.join(reasons)}): set KAFKA_BOOTSTRAP_SERVERS, "
        "or start a broker with `slatestream broker`"
    )


ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]

topics_app = typer.Typer(no_args_is_help=True, help="Make the topics, and check that they are as wanted.")


@topics_app.command("create")
def create_command(config: ConfigFile = None) -> None:
    """Create the topics that are missing, then check all of them."""
    settings = load_settings(config)
    created = set(create_topics(settings))
    _report(settings, describe_topics(settings), created)


@topics_app.command("describe")
def describe_command(config: ConfigFile = None) -> None:
    """Show every topic beside what is wanted; exit code 1 when something differs."""
    settings = load_settings(config)
    _report(settings, describe_topics(settings), set())


def _report(settings: Settings, differences: list[TopicDifference], created: set[str]) -> None:
    table = Table(title=f"Topics on {settings.bootstrap_servers}", title_justify="left")
    for column in ("topic", "partitions", "cleanup", "retention", "state"):
        table.add_column(column, overflow="fold")
    for name, spec in TOPICS.items():
        full_name = topic_name(settings, name)
        faults = [difference for difference in differences if difference.topic == full_name]
        state = "\n".join(map(_fault, faults)) or ("created" if full_name in created else "as wanted")
        retention = "last row per key" if spec.retention_ms is None else f"{spec.retention_ms // _DAY_MS} d"
        table.add_row(full_name, str(topic_partitions(settings, name)), spec.cleanup, retention, state)
    # Piped output is as wide as it needs to be: a table folded at 80 columns is hard to search.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    console.print(table)
    if differences:
        console.print(
            f"{len(differences)} differences: change the topics with kafka-configs, or the settings."
        )
        raise typer.Exit(1)


def _fault(difference: TopicDifference) -> str:
    if difference.actual is None:
        return "missing: run `slatestream topics create`"
    return f"{difference.setting} is {difference.actual}, wanted {difference.wanted}"
