import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from streams.broker import embedded
from streams.broker.config import write_config
from streams.broker.embedded import EmbeddedBroker, _format_storage
from streams.broker.jars import find_java, kafka_jars
from streams.broker.ports import HOST, keep_port, port_of
from streams.errors import BrokerError

RUN_COMMAND = "import sys; from streams.cli import main; sys.argv = ['slatestream', *sys.argv[1:]]; main()"


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def write_one(bootstrap_servers: str, topic: str, value: bytes) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send(topic, value, partition=0).get(timeout=60)
    producer.close()


def read_one(bootstrap_servers: str, topic: str) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    records = consumer.poll(timeout_ms=60_000)
    consumer.close()
    return records[TopicPartition(topic, 0)][0].value


def test_a_stopped_broker_starts_again_with_its_data_on_its_port_and_its_classes_from_an_archive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "broker.jsa"
    monkeypatch.setattr(embedded, "class_archive", lambda java, jars: archive)
    with EmbeddedBroker() as broker:
        address = broker.bootstrap_servers
        write_one(address, "kept", b"before the stop")
        assert not archive.exists()
        broker.stop()
        broker.start()
        assert str(archive) in Path(f"/proc/{broker.pid}/maps").read_text()
        assert broker.bootstrap_servers == address
        assert read_one(address, "kept") == b"before the stop"
        folder = broker.data_dir
        pid = broker.pid
    assert not folder.exists()
    assert not is_alive(pid)


def test_a_folder_is_formatted_by_kafka_once_and_then_copied_with_names_of_its_own(tmp_path: Path) -> None:
    kept, said = tmp_path / "kept", []
    for name, java in (("first", find_java()), ("second", "no java"), ("third", "no java")):
        folder = tmp_path / name
        folder.mkdir()
        properties, _ = write_config(folder, host=HOST, port=9, controller_port=10)
        _format_storage(java, f"{kafka_jars()}/*", properties, kept)
        lines = (folder / "log" / "meta.properties").read_text().splitlines()
        said.append(dict(line.split("=") for line in lines if "=" in line))
    for name in ("cluster.id", "directory.id"):
        assert len({one.pop(name) for one in said}) == 3
    assert said == [{"node.id": "1", "version": "1"}] * 3
    assert (folder / "log" / "bootstrap.checkpoint").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "first", "second", "third"}


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    folder = tmp_path / "Müller, Söhne & 株 \\1"
    with EmbeddedBroker(data_dir=folder) as broker:
        write_one(broker.bootstrap_servers, "kept", b"here")
        assert read_one(broker.bootstrap_servers, "kept") == b"here"
    assert (folder / "log" / "kept-0").is_dir()
    assert "started" in (folder / "broker.log").read_text()


def test_a_killed_parent_leaves_no_broker(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal; from streams.broker.embedded import EmbeddedBroker; "
        f"broker = EmbeddedBroker(data_dir=pathlib.Path({str(tmp_path)!r})); broker.start(); "
        "print(broker.pid, flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not is_alive(pid), seconds=60)


def test_the_command_serves_until_sigterm_and_keeps_its_data(tmp_path: Path) -> None:
    kept = keep_port()
    port, data_dir = port_of(kept), tmp_path / "data"
    command = [sys.executable, "-c", RUN_COMMAND, "broker", "--port", str(port), "--data-dir", str(data_dir)]
    command += ["--topic", "shop.events"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    with kept, process.stdout:
        lines = [process.stdout.readline() for _ in range(3)]
        assert f"Kafka listens on {HOST}:{port}" in lines[1]
        assert lines[2] == "Topics: shop.events\n"
        write_one(f"{HOST}:{port}", "seen", b"value")
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.wait(120) == 0
    assert rest.endswith("Kafka stopped.\n")
    assert all((data_dir / "log" / name).is_dir() for name in ("seen-0", "shop.events-3"))
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, port)) != 0


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        broker = EmbeddedBroker(port=port, data_dir=tmp_path / "data")
        with pytest.raises(BrokerError, match=f"port {port} on {HOST} cannot be used"):
            broker.start()
    assert not (tmp_path / "data" / "log").exists()


def test_a_broker_that_ends_while_starting_shows_its_last_words(tmp_path: Path) -> None:
    broker = EmbeddedBroker(data_dir=tmp_path, heap="1k")
    with pytest.raises(BrokerError, match=r"(?s)ended with code 1 while starting.*heap"):
        broker.start()


def test_a_second_start_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match="already running"):
        broker.start()


def test_a_broker_that_has_not_started_has_no_address() -> None:
    broker = EmbeddedBroker()
    with pytest.raises(BrokerError, match="no port before it has started"):
        _ = broker.bootstrap_servers
    with pytest.raises(BrokerError, match="not running"):
        broker.wait()
    broker.stop()


@pytest.mark.parametrize("heap", ["", "1", "g", "1t", "1g -XX:X"])
def test_a_heap_that_java_would_not_understand_is_refused(heap: str) -> None:
    with pytest.raises(ValueError, match="heap must be a number with k, m or g"):
        EmbeddedBroker(heap=heap)


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"port must be in \[0, 65535\], got 65536"):
        EmbeddedBroker(port=65536)


def test_the_session_broker_runs_in_a_process_group_of_its_own(broker: EmbeddedBroker) -> None:
    assert os.getpgid(broker.pid) != os.getpgid(0)
