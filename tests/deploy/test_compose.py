"""Docker Compose's file and the image: every service is guarded, and its command line does what it should."""

import copy
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli import app
from streams.settings import Settings
from streams.worker.process import DIE_WITH_PARENT, WorkerProcess, environment, same_topics
from tests.e2e.client import wait_until

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
WRITES_TO_ITS_ROOT = {"kafka"}  # its start script writes its configuration beside the program
ENDS_BY_ITSELF = {"topics", "simulator"}

Service = dict[str, Any]
SERVICES: dict[str, Service] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def faults(services: dict[str, Service]) -> list[str]:
    """What an operator would find missing, as service and what."""
    kafka = re.search(r"<kafka.version>(.+)<", (ROOT / "deploy/kafka/pom.xml").read_text())
    assert kafka is not None
    found = [] if services["kafka"]["image"].endswith(f":{kafka[1]}") else ["kafka: not the tested version"]
    for name, service in services.items():
        ours, check = "build" in service, service.get("healthcheck", {})
        wrong = {
            "image without a version": not ours and not re.search(r":v?\d+\.\d+\.\d+$", service["image"]),
            "no health check": "test" not in check and name not in ENDS_BY_ITSELF,
            "a health check after its end": not check.get("disable") and name in ENDS_BY_ITSELF,
            "no limit of memory": "mem_limit" not in service,
            "no limit of processors": "cpus" not in service,
            "perhaps root": not ours and service.get("user", "root") in ("root", "0"),
            "a root that can be written": not service.get("read_only") and name not in WRITES_TO_ITS_ROOT,
            "rights of root": service.get("cap_drop") != ["ALL"],
            "may gain rights": "no-new-privileges:true" not in service.get("security_opt", ()),
            "open to the network": any(not str(p).startswith("127.0.0.1:") for p in service.get("ports", ())),
        }
        found += [f"{name}: {what}" for what, is_so in wrong.items() if is_so]
    return found


def test_every_service_is_checked_limited_and_without_rights() -> None:
    assert faults(SERVICES) == []


@pytest.mark.parametrize(
    ("service", "change", "fault"),
    [
        ("kafka", {"image": "apache/kafka:4.0.0"}, "kafka: not the tested version"),
        ("grafana", {"image": "grafana/grafana"}, "grafana: image without a version"),
        ("worker", {"healthcheck": {}}, "worker: no health check"),
        ("topics", {"healthcheck": {}}, "topics: a health check after its end"),
        ("ope", {"mem_limit": None}, "ope: no limit of memory"),
        ("ope", {"cpus": None}, "ope: no limit of processors"),
        ("prometheus", {"user": None}, "prometheus: perhaps root"),
        ("worker", {"read_only": None}, "worker: a root that can be written"),
        ("worker", {"cap_drop": None}, "worker: rights of root"),
        ("worker", {"security_opt": []}, "worker: may gain rights"),
        ("worker", {"ports": ["6066:6066"]}, "worker: open to the network"),
    ],
)
def test_a_service_that_is_left_open_is_seen(service: str, change: dict[str, Any], fault: str) -> None:
    broken = copy.deepcopy(SERVICES)
    for name, value in change.items():
        if value is None:
            del broken[service][name]
        else:
            broken[service][name] = value
    assert faults(broken) == [fault]


def read_by_docker(file: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("docker-compose")
    command = [str(program), "--file", str(file), "--profile", "*", "config", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_docker_compose_reads_every_profile() -> None:
    done = read_by_docker(ROOT / "docker-compose.yml")
    assert (done.returncode, done.stderr) == (0, "")


def test_docker_compose_refuses_a_file_with_a_fault(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(text.replace("mem_limit: 2g", "mem_limit: much", 1))
    done = read_by_docker(tmp_path / "docker-compose.yml")
    assert done.returncode != 0
    assert "mem_limit" in done.stderr


def with_tokens(**variables: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("docker-compose")
    files = ("--file", "docker-compose.yml", "--file", "deploy/docker/tokens.yml")
    command = [str(program), *files, "--profile", "*", "config"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
        env={**os.environ, **variables},
    )  # fmt: skip


def test_with_tokens_workers_ask_for_one_and_prometheus_shows_its_own(tmp_path: Path) -> None:
    tokens, own = tmp_path / "tokens.toml", tmp_path / "metrics.token"
    done = with_tokens(TOKENS=str(tokens), METRICS_TOKEN=str(own), CANARY_TOKEN="canary's")
    assert (done.returncode, done.stderr) == (0, "")
    read = yaml.safe_load(done.stdout)
    assert read["secrets"]["tokens"]["file"] == str(tokens)
    for name in ("worker", "worker-gpu"):
        service = read["services"][name]
        (secret,) = service["secrets"]
        assert secret["source"] == "tokens"
        assert service["environment"]["SLATESTREAM_HTTP_TOKENS_FILE"] == "/run/secrets/tokens"
        assert service["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
        assert service["read_only"]
    assert read["services"]["canary"]["environment"]["SLATES_TOKEN"] == "canary's"
    configured = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    asked = {job["job_name"]: job.get("authorization") for job in configured["scrape_configs"]}
    assert asked["slatestream"] == {"credentials_file": "worker.token"}
    mounted = {one["target"]: one["source"] for one in read["services"]["prometheus"]["volumes"]}
    assert mounted["/etc/prometheus/worker.token"] == str(own)


def test_with_tokens_a_file_that_is_not_named_is_said(tmp_path: Path) -> None:
    done = with_tokens(METRICS_TOKEN=str(tmp_path / "metrics.token"))
    assert done.returncode != 0
    assert "name the file of tokens" in done.stderr


def test_as_it_comes_prometheus_shows_no_token() -> None:
    assert (ROOT / "deploy/prometheus/worker.token").read_bytes() == b""
    mounts = " ".join(SERVICES["prometheus"]["volumes"])
    assert "${METRICS_TOKEN:-./deploy/prometheus/worker.token}:/etc/prometheus/worker.token:ro" in mounts


def judged(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    command = [str(program), "--no-color", "--failure-threshold", "style", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = judged(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("written", "instead", "rule"),
    [("python:3.12-slim-bookworm", "python:latest", "DL3007"), ("USER 10001", "USER root", "DL3002")],
)
def test_hadolint_finds_what_is_wrong(tmp_path: Path, written: str, instead: str, rule: str) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text().replace(written, instead))
    done = judged(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert rule in done.stdout


def test_the_image_has_no_root_and_no_sources_before_its_dependencies() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    assert "USER 10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    dependencies = next(at for at, line in enumerate(lines) if '".${EXTRA}"' in line)
    assert dependencies < lines.index("COPY streams streams")
    assert "torch" not in " ".join(lines).lower().replace("pytorch", "")


@pytest.mark.parametrize("name", OURS)
def test_every_command_line_is_understood(name: str) -> None:
    # Options are read before help is shown, so one that does not exist is an error.
    command = SERVICES[name]["command"]
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--no-such-option", "--help"]).exit_code == 2


def health(name: str, port: int, written: str) -> Callable[[], bool]:
    """The health check of a service as the file has it, at the port that it has here."""
    kind, program, *rest = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    assert f":{written}/" in rest[-1]
    command = [sys.executable, *rest[:-1], rest[-1].replace(f":{written}/", f":{port}/")]
    return lambda: subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


PORTS = {"ope": "6067", "canary": "6069", "trainer": "6071"}
"""Where the services beside the worker tell their metrics."""


@contextmanager
def beside_worker(name: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the command of a service as the file has it, on any port; names of other services lead here."""
    given = [word.replace("http://worker:", "http://127.0.0.1:") for word in SERVICES[name]["command"]]
    process = subprocess.Popen(
        [*DIE_WITH_PARENT, sys.executable, "-u", "-m", "streams.cli", *given, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables | {"COLUMNS": "400"},
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_topics_worker_and_what_is_beside_it_come_up_as_the_file_starts_them(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    shared = same_topics(make_settings())
    variables = {**os.environ, **environment(shared)}
    topics = subprocess.run(
        [sys.executable, "-m", "streams.cli", *SERVICES["topics"]["command"]],
        env=variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert topics.returncode == 0, topics.stderr

    written = SERVICES["worker"]["environment"]["SLATESTREAM_HTTP_PORT"]
    of_file = {
        name: value
        for name, value in SERVICES["worker"]["environment"].items()
        if name not in ("KAFKA_BOOTSTRAP_SERVERS", "SLATESTREAM_HTTP_PORT")
    }
    command = ("streams.cli", *SERVICES["worker"]["command"])
    given = {**shared, "http_host": of_file.pop("SLATESTREAM_HTTP_HOST"), "text_encoder": "none"}
    worker = WorkerProcess(given, log=tmp_path / "worker.log", command=command, variables=of_file)
    port = int(worker.url.rpartition(":")[2])
    is_healthy = health("worker", port, written)
    assert not is_healthy(), "nothing runs"
    with worker:
        worker.wait_ready()
        wait_until(is_healthy, "the health check passes")

    variables["SLATESTREAM_RELEASE_STORE"] = str(tmp_path / "store")
    with ExitStack() as stack:
        started = [stack.enter_context(beside_worker(name, variables)) for name in PORTS]
        for (name, written), process in zip(PORTS.items(), started, strict=True):
            assert process.stdout is not None
            port = int(process.stdout.readline().split()[-1].rpartition("/")[0].rpartition(":")[2])
            wait_until(health(name, port, written), f"the health check of {name} passes")
    with pytest.raises(OSError, match=r"refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3)
