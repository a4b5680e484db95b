from pathlib import Path

import pytest

from streams.broker import jars as kafka_jars
from streams.errors import BrokerError


def fake_program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ('java version "1.8.0_392"', 8),
        ("sh: java: not a program", 0),
        ("", 0),
    ],
)
def test_the_java_version_is_read_from_what_java_prints(shown: str, version: int) -> None:
    assert kafka_jars.java_version(shown) == version


def test_a_missing_java_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BrokerError, match="Java 17 or newer, and no java was found; install one, e.g.: sudo apt"
    ):
        kafka_jars.find_java()


def test_an_old_java_is_said_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_program(tmp_path, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"Java 17 or newer, and .*/java is version 11; install one"):
        kafka_jars.find_java()


def test_java_home_goes_before_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_program(tmp_path / "home" / "bin", "java", """echo 'openjdk version "21.0.1"' >&2""")
    fake_program(tmp_path / "path", "java", """echo 'openjdk version "17.0.1"' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert kafka_jars.find_java() == str(tmp_path / "home" / "bin" / "java")


def test_a_missing_maven_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kafka_jars, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="no mvn was found; install it, e.g.: sudo apt-get install maven"):
        kafka_jars.kafka_jars()


def test_what_maven_says_is_shown_when_it_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_program(tmp_path, "mvn", "echo '[ERROR] the network is away'; exit 1")
    monkeypatch.setattr(kafka_jars, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"(?s)Maven could not fetch .*the network is away"):
        kafka_jars.kafka_jars()
    assert list((tmp_path / "cache").iterdir()) == []


def test_jars_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = f"""for last; do :; done; echo run >> {tmp_path}/runs
/bin/mkdir -p "${{last#-DoutputDirectory=}}"; : > "${{last#-DoutputDirectory=}}/kafka.jar" """
    fake_program(tmp_path / "bin", "mvn", body)
    monkeypatch.setattr(kafka_jars, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    first = kafka_jars.kafka_jars()
    assert kafka_jars.kafka_jars() == first
    assert [jar.name for jar in first.iterdir()] == ["kafka.jar"]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_checkout_uses_its_own_pom_and_build_folder():
    root = Path(__file__).resolve().parents[3]
    assert kafka_jars.find_pom() == root / "deploy" / "kafka" / "pom.xml"
