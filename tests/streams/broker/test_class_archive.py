"""The archive of the broker's classes."""

import subprocess
from pathlib import Path

from streams.broker.jars import class_archive, find_java, kafka_jars


def test_each_java_has_an_archive_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "java"
    other.touch()
    jars = kafka_jars()
    ours, theirs = class_archive(find_java(), jars), class_archive(str(other), jars)
    assert ours != theirs
    assert {ours.parent, theirs.parent} == {jars.parent}


def test_a_java_does_without_an_archive_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "broker.jsa").write_bytes(b"of another")
    command = [find_java(), f"-XX:SharedArchiveFile={tmp_path / 'broker.jsa'}", "-version"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
