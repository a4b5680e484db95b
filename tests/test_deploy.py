"""What can be known of the deployment files without running them."""

import inspect
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from streams.canary.command import canary_command
from streams.ope.command import ope_command
from streams.settings import ENV_PREFIX, Settings, load_settings
from streams.trainer.command import trainer_command

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy" / "system-packages.sh"


def compose() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def fake_programs(folder: Path, **bodies: str) -> Path:
    """A folder to be the whole PATH: the few real tools that the script uses, and programs that we write."""
    folder.mkdir()
    for name in ("sh", "sed", "tr", "grep", "env"):
        tool = next(path for path in (Path("/bin", name), Path("/usr/bin", name)) if path.exists())
        (folder / name).symlink_to(tool)
    for name, body in ({"python3": ":"} | bodies).items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return folder


def run_script(path: Path, *needs: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *needs], env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


JAVA_17 = """echo 'openjdk version "17.0.1" 2021-10-19' >&2"""
JAVA_11 = """echo 'openjdk version "11.0.1" 2018-10-16' >&2"""
PYTHON_WITHOUT_VENV = """case "$2" in *ensurepip*) exit 1;; *venv*) echo python3.11-venv;; esac"""
HAS_17 = "[ $2 = openjdk-17-jre-headless ] && echo '  Candidate: 17.0.1'"
HAS_21 = "[ $2 = openjdk-21-jre-headless ] && echo '  Candidate: 21.0.1' || echo '  Candidate: (none)'"


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    path = fake_programs(tmp_path / "bin", java=JAVA_17, mvn=":", apt_get="echo called; exit 1", id="echo 0")
    done = run_script(path, "java")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("known", "package"), [(HAS_17, "openjdk-17"), (HAS_21, "openjdk-21")])
def test_root_installs_what_is_missing_and_says_so(tmp_path: Path, known: str, package: str) -> None:
    path = fake_programs(tmp_path / "bin", apt_get='echo "apt-get $*"', apt_cache=known, id="echo 0")
    done = run_script(path, "java")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"Installing through apt: {package}-jre-headless maven",
        "apt-get update -q",
        f"apt-get install -q -y --no-install-recommends {package}-jre-headless maven",
    ]


def test_an_old_java_is_not_enough(tmp_path: Path) -> None:
    path = fake_programs(
        tmp_path / "bin", java=JAVA_11, mvn=":", apt_get='echo "$*"', apt_cache=HAS_17, id="echo 0"
    )
    assert "install -q -y --no-install-recommends openjdk-17-jre-headless" in run_script(path, "java").stdout


def test_a_sudo_without_password_is_used(tmp_path: Path) -> None:
    path = fake_programs(
        tmp_path / "bin", java=JAVA_17, apt_get=":", apt_cache=":", id="echo 1000", sudo='echo "sudo $*"'
    )
    done = run_script(path, "java")
    assert done.returncode == 0
    assert "sudo apt-get update -q" in done.stdout


def test_without_rights_it_stops_with_the_one_line_to_run(tmp_path: Path) -> None:
    path = fake_programs(
        tmp_path / "bin",
        python3=PYTHON_WITHOUT_VENV,
        apt_get="exit 9",
        apt_cache=HAS_17,
        id="echo 1000",
        sudo="exit 1",
    )
    done = run_script(path, "python", "java")
    assert done.returncode == 1
    packages = "python3.11-venv openjdk-17-jre-headless maven"
    assert done.stderr.endswith(f"\n    sudo apt-get update && sudo apt-get install -y {packages}\n")


def test_a_python_without_venv_gets_its_package(tmp_path: Path) -> None:
    path = fake_programs(
        tmp_path / "bin", python3=PYTHON_WITHOUT_VENV, apt_get='echo "apt-get $*"', id="echo 0"
    )
    assert run_script(path, "python").stdout.endswith("--no-install-recommends python3.11-venv\n")


def test_an_unknown_need_is_refused(tmp_path: Path) -> None:
    done = run_script(fake_programs(tmp_path / "bin"), "ruby")
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_an_old_python_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = fake_programs(tmp_path / "bin", python3="exit 1", id="echo 0")
    done = run_script(path, "python")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr


def test_every_machine_has_one_runtime_and_only_some_a_cuda_provider() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    for machine, runtime in (
        ("x86_64", "onnxruntime-gpu"),
        ("aarch64", "onnxruntime"),
        ("arm64", "onnxruntime"),
    ):
        for lines in (wanted, pins):
            named = [Requirement(line) for line in lines if line.startswith("onnxruntime")]
            chosen = [
                one.name
                for one in named
                if one.marker is None or one.marker.evaluate({"platform_machine": machine})
            ]
            assert chosen == [runtime]


def test_every_requirement_is_pinned_and_no_registry_is_named() -> None:
    lines = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*( ; .+)?", line), line
    pinned = {line.partition("==")[0] for line in lines}
    assert {"torch", "faust-streaming", "kafka-python", "pytest", "uv", "hatchling"} <= pinned


def test_the_compose_file_sets_only_settings_that_exist() -> None:
    names = [name for service in compose().values() for name in service.get("environment", {})]
    ours = [name.removeprefix(ENV_PREFIX).lower() for name in names if name.startswith(ENV_PREFIX)]
    assert ours
    assert set(ours) <= set(Settings.model_fields)


def test_the_compose_file_mounts_and_builds_from_files_that_exist() -> None:
    for name, service in compose().items():
        build = service.get("build")
        if build:
            assert (ROOT / build["context"] / build["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume


def test_the_image_copies_files_that_exist() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    copied = [
        name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_prometheus_scrapes_the_ports_that_are_listened_on() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    worker, ope, canary, trainer = (job["static_configs"][0]["targets"] for job in config["scrape_configs"])
    assert worker == [f"worker:{compose()['worker']['environment']['SLATESTREAM_HTTP_PORT']}"]
    options = inspect.signature(ope_command).parameters
    assert ope == [f"ope:{options['port'].default}"]
    assert canary == [f"canary:{inspect.signature(canary_command).parameters['port'].default}"]
    assert trainer == [f"trainer:{inspect.signature(trainer_command).parameters['port'].default}"]
    assert compose()["ope"]["command"] == ["ope", "--host", "0.0.0.0"]
    assert "host" in options
    assert yaml.safe_load((ROOT / "deploy" / "grafana" / "datasource.yml").read_text())["apiVersion"] == 1


def test_the_compose_files_candidates_are_policies() -> None:
    named = json.loads(compose()["worker"]["environment"]["SLATESTREAM_CANDIDATE_POLICIES"])
    assert load_settings(candidate_policies=named).candidate_policies == tuple(named)


def test_the_recipes_can_be_followed() -> None:
    from model_core.training.recipe import Recipe, read_recipe

    recipes = {path.name: read_recipe(path) for path in (ROOT / "deploy" / "recipes").glob("*.toml")}
    assert recipes["ml-100k.toml"] == Recipe(), "it says of itself that it holds the defaults"
