"""A worker that may do what deploy/kubernetes/kafka/user.yaml says, on a broker that refuses all else."""

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from deploy.kubernetes.resources import user
from streams.broker.embedded import EmbeddedBroker
from streams.broker.ports import keep_port, port_of
from streams.errors import TopicError
from streams.kafka.rights import SPARED
from streams.kafka.startup_check import check_cluster
from streams.kafka.topic_admin import admin_client, create_topics
from streams.settings import Settings, load_settings
from streams.worker.process import WorkerProcess, same_topics
from tests.deploy.live import FILMS
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import FAST

AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
WORKER = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "slatestream", "sasl_password": "right"}
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP,
         "transactionalId": ResourceType.TRANSACTIONAL_ID}  # fmt: skip
PATTERNS = {"literal": ACLResourcePatternType.LITERAL, "prefix": ACLResourcePatternType.PREFIXED}


def rights(settings: Settings) -> list[ACL]:
    """What the KafkaUser of these settings may do."""
    (made,) = user(settings)
    found = []
    for one in made["spec"]["authorization"]["acls"]:
        where = one["resource"]
        kind = PATTERNS[where.get("patternType", "literal")]
        pattern = ResourcePattern(KINDS[where["type"]], where["name"], kind)
        for name in one["operations"]:
            operation = ACLOperation[re.sub(r"\B([A-Z])", r"_\1", name).upper()]
            found.append(ACL("User:slatestream", "*", operation, ACLPermissionType.ALLOW, pattern))
    return found


@pytest.fixture
def strict() -> Iterator[tuple[Settings, int]]:
    """Settings of an administrator, and the port at which a worker may do what it is granted."""
    kept = keep_port()
    port = port_of(kept)
    properties = {
        "authorizer.class.name": AUTHORIZER,
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.worker.plain.sasl.jaas.config": f'{LOGIN} required user_slatestream="right";',
    }
    listeners = {"WORKER": (port, "SASL_PLAINTEXT")}
    with kept, EmbeddedBroker(listeners=listeners, properties=properties) as broker:
        settings = load_settings(bootstrap_servers=broker.bootstrap_servers, partitions=2)
        create_topics(settings)
        yield settings, port


def slate(worker: WorkerProcess, user_id: str, **query: str) -> Any:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    with urllib.request.urlopen(f"{worker.url}/v1/recommendations/{user_id}?k=3{more}", timeout=30) as answer:
        return json.loads(answer.read())


def says(settings: Settings, lacking: set[str]) -> bool:
    """Whether this is what a worker says of its rights before it starts."""
    try:
        asyncio.run(check_cluster(settings))
    except TopicError as error:
        return {line.strip() for line in str(error).splitlines()[1:]} == lacking
    return not lacking


def test_a_worker_lives_on_the_rights_it_is_given_and_not_on_fewer(
    strict: tuple[Settings, int], tmp_path: Path
) -> None:
    settings, port = strict
    with ExitStack() as stack:
        admin = stack.enter_context(admin_client(settings))
        admin.create_acls(rights(settings))
        client = stack.enter_context(Client(settings))
        client.content(*FILMS)
        values = same_topics(
            settings,
            **(FAST | WORKER | {"bootstrap_servers": f"127.0.0.1:{port}", "attribution_window_ms": 1}),
        )
        for number in range(2):  # the second restores what the first wrote
            log = tmp_path / f"worker-{number}.log"
            with WorkerProcess(values, log=log) as worker:
                worker.wait_ready()
                assert len(slate(worker, "u", request_id=f"r{number}")["slate"]) == 3
                assert len(slate(worker, "u", request_id="r0")["slate"]) == 3
                for user_id in ("u", "v", "w"):
                    client.click(user_id, "f0")
                    client.request(user_id, k=2)
                client.send("clicks", "bad", b"{")
                client.flush()
                wait_until(lambda n=number: len(client.dead_letters()) == n + 1, "a dead letter is written")  # type: ignore[misc]
                wait_until(
                    lambda n=number: len(client.recommendations()) >= 4 * (n + 1), "slates are published"
                )  # type: ignore[misc]
                wait_until(client.feedback, "feedback is published")
            assert "uthoriz" not in log.read_text()
        limited = load_settings(
            partitions=2, **(WORKER | {"bootstrap_servers": f"127.0.0.1:{port}", "text_encoder": "none"})
        )
        for right in rights(settings):
            pattern = right.resource_pattern
            topic, operation = pattern.resource_name, right.operation.name.capitalize()
            if pattern.resource_type != ResourceType.TOPIC or operation.startswith("Describe"):
                continue
            said = {f"{topic}: the worker's user has no right to {operation}"}
            if (topic, operation) in SPARED:
                said = set()
            admin.delete_acls(
                [ACLFilter(right.principal, "*", right.operation, right.permission_type, pattern)]
            )
            wait_until(partial(says, limited, said), f"{topic} without {operation}")
            admin.create_acls([right])
        for kind, said in (
            (ResourceType.GROUP, f"group {limited.group_id}: the worker's user has no right to Read"),
            (
                ResourceType.TRANSACTIONAL_ID,
                f"transactional id {limited.group_id}-state-0: the worker's user has no right to Write",
            ),
        ):
            of_kind = [right for right in rights(settings) if right.resource_pattern.resource_type == kind]
            admin.delete_acls(
                [
                    ACLFilter(one.principal, "*", one.operation, one.permission_type, one.resource_pattern)
                    for one in of_kind
                ]
            )
            wait_until(partial(says, limited, {said}), f"{kind.name} without rights")
            admin.create_acls(of_kind)
            wait_until(partial(says, limited, set()), f"{topic} with {operation}")
        anything = ACLOperation.ANY, ACLPermissionType.ANY
        admin.delete_acls(
            [
                ACLFilter(
                    None,
                    None,
                    *anything,
                    ResourcePatternFilter(ResourceType.TOPIC, "user-state", ACLResourcePatternType.LITERAL),
                )
            ]
        )
        log = tmp_path / "worker-without.log"
        with WorkerProcess(values, log=log) as worker:
            wait_until(lambda: "user-state: missing" in log.read_text(), "it says what it does not see")
