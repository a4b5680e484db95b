"""What Kubernetes is told is valid, and agrees with the program."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from deploy.kubernetes.resources import FOLDER, documents, production
from deploy.metrics import document as metrics_document
from streams.api.routes import ROUTES
from streams.broker.jars import fetched_jars, find_java
from streams.errors import BrokerError
from streams.kafka.topic_admin import admin_client
from streams.kafka.topics import TOPICS, topic_name
from streams.settings import ENV_PREFIX, Settings
from streams.worker.process import WorkerProcess, same_topics
from tests.e2e.conftest import FAST

VERSION = "1.37.0"
OF_OPERATORS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
OF_STRIMZI = {"KafkaTopic", "KafkaUser"}
WITH_TOKENS = FOLDER.parent / "kubernetes-with-tokens"
INSTANCE = "CONSUMER_GROUP_INSTANCE_ID"


def built(folder: Path) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [str(program), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def validate(resource: dict[str, Any]) -> None:
    """Refuse what a kind does not allow, and fields that it does not know."""
    if resource["kind"] not in OF_OPERATORS:
        kubernetes_validate.validate(resource, VERSION, strict=True)
        return
    # Thousands of models, which take seconds to import: not while tests are only collected.
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    models = {one.__name__: one for one in (ScaledObject, ServiceMonitor, PrometheusRule)}
    model = models[resource["kind"]].model_validate(resource)
    read = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert read == resource, "fields that it does not know are left out"


@pytest.fixture(scope="module")
def resources() -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in built(FOLDER)}


@pytest.fixture(scope="module")
def pod(resources: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = resources["StatefulSet", "slatestream"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "kafka", WITH_TOKENS])
def test_every_resource_but_strimzis_is_valid(folder: Path) -> None:
    for resource in built(folder):
        if resource["kind"] not in OF_STRIMZI:
            validate(resource)


def read_by_strimzi(*files: Path) -> list[str]:
    """What Strimzi's own classes find wrong with resources."""
    if shutil.which("javac") is None:
        pytest.skip("Strimzi's kinds are read by a program that a JDK has to compile")
    here = Path(__file__).parent / "strimzi"
    try:
        jars = fetched_jars(here / "pom.xml", "strimzi")
    except BrokerError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [find_java(), "-cp", f"{jars}/*", str(here / "Read.java"), *map(str, files)],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    return done.stdout.splitlines() + ([] if done.returncode == 0 else done.stderr.splitlines()[:5])


def test_strimzi_reads_our_topics_and_users_and_knows_every_field(tmp_path: Path) -> None:
    written = [FOLDER / "kafka" / name for name in ("topics.yaml", "user.yaml")]
    broken = []
    for file, right, wrong in zip(
        written, ("partitions: 12", "patternType"), ("partitoins: 12", "paternType"), strict=True
    ):
        text = file.read_text()
        assert right in text
        broken.append(tmp_path / file.name)
        broken[-1].write_text(text.replace(right, wrong, 1))
    told = read_by_strimzi(*written, *broken)
    assert [line.partition(" ")[0] for line in told if "unknown" in line] == [
        "KafkaTopic.Spec:", "KafkaUser.Spec.Authorization.Acls.Resource:",
    ]  # fmt: skip
    assert len(told) == 2, told


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("StatefulSet", "slatestream", ("spec", "replicas"), "many"),
        ("StatefulSet", "slatestream", ("spec", "template", "spec", "containres"), []),
        ("PodDisruptionBudget", "slatestream", ("spec", "maxUnavailabel"), 1),
        ("NetworkPolicy", "slatestream", ("spec", "egress"), "all"),
        ("ScaledObject", "slatestream", ("spec", "maxReplicaCount"), "six"),
        ("ScaledObject", "slatestream", ("spec", "minReplicas"), 2),
        ("ServiceMonitor", "slatestream", ("spec", "endpoint"), []),
    ],
)
def test_a_resource_with_a_fault_is_refused(
    resources: dict[tuple[str, str], dict[str, Any]], kind: str, name: str, path: tuple[str, ...], value: Any
) -> None:
    broken = yaml.safe_load(yaml.safe_dump(resources[kind, name]))
    place = broken
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises((kubernetes_validate.ValidationError, ValidationError, AssertionError)):
        validate(broken)


def test_what_is_written_is_that_of_the_code() -> None:
    for name, text in documents(production()).items():
        assert (FOLDER / name).read_text() == text, f"run `python -m deploy.kubernetes.resources`: {name}"


def test_another_table_of_topics_gives_other_files() -> None:
    fewer = documents(Settings(partitions=3, replication_factor=3))
    assert fewer["kafka/topics.yaml"] != (FOLDER / "kafka" / "topics.yaml").read_text()


def test_settings_exist_and_are_allowed(
    resources: dict[tuple[str, str], dict[str, Any]], pod: dict[str, Any]
) -> None:
    (given,) = (one["data"] for (kind, _), one in resources.items() if kind == "ConfigMap")
    (container,) = pod["containers"]
    names = {*given, *(one["name"] for one in container["env"])}
    ours = {name.removeprefix(ENV_PREFIX).lower() for name in names if name.startswith(ENV_PREFIX)}
    assert {"security_protocol", "sasl_password", "advertised_url"} <= ours <= set(Settings.model_fields)
    assert INSTANCE in names


def test_probes_ask_paths_and_ports_that_are_answered(
    resources: dict[tuple[str, str], dict[str, Any]], pod: dict[str, Any]
) -> None:
    (container,) = pod["containers"]
    paths = {route.path for route in ROUTES}
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz",
    }  # fmt: skip
    assert {get["path"] for get in asked.values()} <= paths
    (port,) = container["ports"]
    assert {get["port"] for get in asked.values()} == {port["name"]}
    (given,) = (one["data"] for (kind, _), one in resources.items() if kind == "ConfigMap")
    assert str(port["containerPort"]) == given["SLATESTREAM_HTTP_PORT"]
    (scraped,) = resources["ServiceMonitor", "slatestream"]["spec"]["endpoints"]
    assert (scraped["port"], scraped["path"]) == (port["name"], "/metrics")
    assert "/metrics" in paths


def test_with_tokens_workers_ask_for_one_and_prometheus_shows_its_own(
    resources: dict[tuple[str, str], dict[str, Any]],
) -> None:
    asking = {(one["kind"], one["metadata"]["name"]): one for one in built(WITH_TOKENS)}
    assert asking.keys() == resources.keys()
    changed = {name for name in asking if asking[name] != resources[name]}
    assert changed == {("StatefulSet", "slatestream"), ("ServiceMonitor", "slatestream")}
    spec = asking["StatefulSet", "slatestream"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (file,) = (one["value"] for one in container["env"] if one["name"] == f"{ENV_PREFIX}HTTP_TOKENS_FILE")
    (mount,) = (one for one in container["volumeMounts"] if file.startswith(one["mountPath"] + "/"))
    (volume,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
    (item,) = volume["secret"]["items"]
    assert file == f"{mount['mountPath']}/{item['path']}"
    (endpoint,) = asking["ServiceMonitor", "slatestream"]["spec"]["endpoints"]
    shown = endpoint["authorization"]["credentials"]
    assert (shown["name"], shown["key"]) == (volume["secret"]["secretName"], "metrics.token")
    told = (FOLDER.parent / "security.md").read_text()
    assert (
        f"create secret generic {shown['name']} --from-file={item['key']} --from-file={shown['key']}" in told
    )


def test_selectors_find_the_pods(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    workers = resources["StatefulSet", "slatestream"]["spec"]
    labels = workers["template"]["metadata"]["labels"]
    for selector in (
        workers["selector"]["matchLabels"],
        resources["Service", "slatestream"]["spec"]["selector"],
        resources["Service", "slatestream-http"]["spec"]["selector"],
        resources["PodDisruptionBudget", "slatestream"]["spec"]["selector"]["matchLabels"],
        resources["NetworkPolicy", "slatestream"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    monitored = resources["ServiceMonitor", "slatestream"]["spec"]["selector"]["matchLabels"]
    found = [
        name
        for (kind, name), one in resources.items()
        if kind == "Service" and monitored.items() <= one["metadata"].get("labels", {}).items()
    ]
    assert found == ["slatestream"], "one service, or every worker is scraped twice"


def test_workers_come_by_a_metric_that_exists_and_no_more_than_partitions(
    resources: dict[tuple[str, str], dict[str, Any]],
) -> None:
    scaled = resources["ScaledObject", "slatestream"]["spec"]
    assert scaled["maxReplicaCount"] <= production().partitions
    target = resources[scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"]]
    assert target["spec"]["replicas"] >= scaled["minReplicaCount"]
    (trigger,) = scaled["triggers"]
    (metric,) = set(re.findall(r"slatestream_\w+", trigger["metadata"]["query"]))
    assert f"`{metric}`" in metrics_document()


def test_a_worker_may_write_only_what_it_sends() -> None:
    (user,) = (one for one in built(FOLDER / "kafka") if one["kind"] == "KafkaUser")
    allowed = {
        one["resource"]["name"]: set(one["operations"])
        for one in user["spec"]["authorization"]["acls"]
        if one["resource"]["type"] == "topic"
    }
    settings = production()
    assert allowed.keys() == {topic_name(settings, name) for name in TOPICS}
    writes = {name for name, operations in allowed.items() if "Write" in operations}
    assert writes == {
        "recommendations", "feedback", "dead-letters", "item-state", "user-state", "policy-state",
        "model-releases",
    }  # fmt: skip
    assert set().union(*allowed.values()) == {"Read", "Write", "Describe", "DescribeConfigs"}


def test_a_worker_is_a_member_by_its_pods_name(kafka_settings: Settings, tmp_path: Path) -> None:
    values = same_topics(kafka_settings, **FAST)
    log = tmp_path / "worker.log"
    with WorkerProcess(values, log=log, variables={INSTANCE: "slatestream-0"}) as worker:
        worker.wait_ready()
        with admin_client(kafka_settings) as admin:
            (member,) = admin.describe_groups([kafka_settings.group_id])[kafka_settings.group_id]["members"]
    assert member["group_instance_id"] == "slatestream-0"
