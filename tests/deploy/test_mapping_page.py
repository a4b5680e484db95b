"""Every snippet of deploy/mapping.md: files are written, commands run and print what they are said to."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from kafka import KafkaProducer

from streams.cli import main
from streams.kafka.options import kafka_client_options
from streams.kafka.topic_admin import admin_client
from streams.settings import load_settings
from streams.settings.sources import Source, parse_sources
from tests.conftest import SettingsFactory
from tests.registry_server import avro, registry_server

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "mapping.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a kind."""
    return [(name, text) for found, name, text in BLOCK.findall(PAGE.read_text()) if found == kind]


def sources(text: str) -> list[Source]:
    return list(parse_sources(text, "of the page"))


def test_the_page_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in BLOCK.findall(PAGE.read_text())} == {"json", "jsonl", "console", "toml"}


def test_commands_print_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in blocks("jsonl"):
        (tmp_path / name).write_text(text)
    for name, text in blocks("console"):
        if name != "registry":
            run(text, monkeypatch, capsys)
    shop, news, _, _ = (sources(text) for _, text in blocks("toml"))
    assert sources((tmp_path / "mapping.toml").read_text()) == shop
    assert sources((tmp_path / "news.toml").read_text()) == news


def run(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the command of a console block, and hold what it prints against the block."""
    command, _, printed = text.partition("\n")
    arguments = shlex.split(command.removeprefix("$ "))
    assert arguments[0] == "slatestream"
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, printed)


def test_records_of_a_registry_s_schema_are_mapped_as_the_page_says(
    make_settings: SettingsFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    settings = make_settings()
    schema = json.loads(dict(blocks("json"))["web.clicks.avsc"])
    lines = dict(blocks("jsonl"))["web.clicks.jsonl"].splitlines()
    (mapping,) = (text for _, text in blocks("toml") if "registry" in text)
    (command,) = (text for name, text in blocks("console") if name == "registry")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    with registry_server() as registry, admin_client(settings) as admin:
        registry.register(1, schema)
        (tmp_path / "web.toml").write_text(mapping.replace("http://localhost:8081", registry.url))
        admin.create_topics({"web.clicks": {"num_partitions": 1, "replication_factor": 1}})
        try:
            admin.wait_for_topics(["web.clicks"])
            producer = KafkaProducer(**kafka_client_options(settings), acks="all")
            for line in lines:
                producer.send("web.clicks", avro(1, schema, json.loads(line)))
            producer.close()
            run(command, monkeypatch, capsys)
            registry.status = 503
            monkeypatch.setenv("SLATESTREAM_REGISTRY_USERNAME", "other")  # nothing of this one is kept
            monkeypatch.setenv("SLATESTREAM_REGISTRY_PASSWORD", "s3cret")
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 3
            said = capsys.readouterr().err
            assert f"schema registry {registry.url} answers 503" in said.replace("\n", " ")
            assert "s3cret" not in said
        finally:
            admin.delete_topics(["web.clicks"])


def test_every_mapping_is_one_that_a_worker_takes(tmp_path: Path) -> None:
    for _, text in blocks("toml"):
        (tmp_path / "m.toml").write_text(text)
        assert load_settings(mapping=tmp_path / "m.toml").sources
