"""Kubernetes resources written from our own tables: `python -m deploy.kubernetes.resources`.

rules.yaml holds the rules and alerts of deploy/prometheus, kafka/topics.yaml the topics of
`streams.kafka.topics` for Strimzi, and kafka/user.yaml what a worker may do on the cluster, and no more.
"""

from pathlib import Path
from typing import Any

import yaml

from streams.kafka.rights import topic_rights
from streams.kafka.topics import TOPICS, topic_name, topic_partitions
from streams.mapping.repartition import GROUP_SUFFIX
from streams.settings import Settings

FOLDER = Path(__file__).parent
PROMETHEUS = FOLDER.parent / "prometheus"
CLUSTER = {"strimzi.io/cluster": "kafka"}
Resource = dict[str, Any]


def rules() -> list[Resource]:
    """The groups of recording rules and alerts, as one PrometheusRule."""
    groups = [
        group
        for name in ("slo.yml", "alerts.yml")
        for group in yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"]
    ]
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "slatestream"},
            "spec": {"groups": groups},
        }
    ]


def topics(settings: Settings) -> list[Resource]:
    """A KafkaTopic for each of the table."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaTopic",
            "metadata": {"name": topic_name(settings, name), "labels": CLUSTER},
            "spec": {
                "partitions": topic_partitions(settings, name),
                "replicas": settings.replication_factor,
                "config": spec.config(settings),
            },
        }
        for name, spec in TOPICS.items()
    ]


def user(settings: Settings) -> list[Resource]:
    """The worker's KafkaUser: it reads what it receives, writes what it sends, and is a member of its group.

    It looks at all topics at its start, and refuses to run where one is missing. Of a mapping's topics it
    reads each, and writes to ours what it copies.
    """
    copied = [source for source in settings.sources if source.repartition]
    of_sources = [
        _allowed("topic", topic, ["Read", "Describe"])
        for topic in sorted({s.topic for s in settings.sources})
    ]
    of_groups = [settings.group_id, *([settings.group_id + GROUP_SUFFIX] if copied else [])]
    of_topics = [
        _allowed("topic", topic_name(settings, name), list(rights))
        for name, rights in topic_rights(settings).items()
    ]
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaUser",
            "metadata": {"name": "slatestream", "labels": CLUSTER},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {
                    "type": "simple",
                    "acls": [
                        *of_topics,
                        *of_sources,
                        *(_allowed("group", group, ["Read", "Describe"]) for group in of_groups),
                        # A partition's producer of state fences the one before it by this name.
                        _allowed(
                            "transactionalId",
                            f"{settings.topic_prefix}{settings.group_id}-state-",
                            ["Write", "Describe"],
                            patternType="prefix",
                        ),
                    ],
                },
            },
        }
    ]


def _allowed(kind: str, name: str, operations: list[str], **more: str) -> Resource:
    return {"resource": {"type": kind, "name": name, **more}, "operations": operations}


def documents(settings: Settings) -> dict[str, str]:
    """Text of each file that is written, by its name."""
    made = {
        "rules.yaml": rules(),
        "kafka/topics.yaml": topics(settings),
        "kafka/user.yaml": user(settings),
    }
    head = "# Written by `python -m deploy.kubernetes.resources`.\n"
    return {
        name: head + yaml.safe_dump_all(resources, sort_keys=False, width=100)
        for name, resources in made.items()
    }


def production() -> Settings:
    """The settings of kustomization.yaml that decide what topics are."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    given = dict(line.split("=", 1) for line in kustomization["configMapGenerator"][0]["literals"])
    numbers = {
        name: int(given[f"SLATESTREAM_{name.upper()}"]) for name in ("partitions", "replication_factor")
    }
    return Settings(**numbers)


if __name__ == "__main__":
    for file, text in documents(production()).items():
        (FOLDER / file).write_text(text, encoding="utf-8")
