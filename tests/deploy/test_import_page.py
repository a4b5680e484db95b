"""Every snippet of deploy/import.md: files are written, commands print what they are said to, and publish."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

from streams.cli import main
from streams.events import decode_click, decode_content
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "import.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a kind."""
    return [(name, text) for found, name, text in BLOCK.findall(PAGE.read_text()) if found == kind]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the page's tables, in which its commands run, in a terminal's usual width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, text in blocks("csv"):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Run a command of the page as it stands there; return its exit code."""
    arguments = shlex.split(command)
    assert arguments[0] == "slatestream"
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def records(settings: Settings, name: str) -> list[bytes]:
    async def read() -> list[bytes]:
        return [
            record.value
            for partition in range(settings.partitions)
            async for some in read_partition(settings, topic_name(settings, name), partition)
            for record in some
            if record.value is not None
        ]

    return asyncio.run(read())


def test_the_page_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in BLOCK.findall(PAGE.read_text())} == {"csv", "console", "json", "sh"}


def test_commands_print_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    for _, text in blocks("console"):
        command, _, printed = text.partition("\n")
        assert run(command.removeprefix("$ "), monkeypatch) == 0
        found = capsys.readouterr().out
        assert [line.rstrip() for line in found.splitlines()] == printed.splitlines()
    for name, text in blocks("json"):
        assert (folder / name).read_text() == text


def test_what_the_page_publishes_is_in_the_topics_once_under_each_id(
    monkeypatch: pytest.MonkeyPatch, kafka_settings: Settings
) -> None:
    monkeypatch.setenv("SLATESTREAM_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("SLATESTREAM_TOPIC_PREFIX", kafka_settings.topic_prefix)
    monkeypatch.setenv("SLATESTREAM_PARTITIONS", str(kafka_settings.partitions))
    commands = [line for _, text in blocks("sh") for line in text.splitlines()]
    assert [run(command, monkeypatch) for command in commands] == [0] * len(commands)
    clicks = [decode_click(value) for value in records(kafka_settings, "clicks")]
    assert {(one.user_id, one.item_id, one.action) for one in clicks} == {
        ("v1", "a1", "view"),
        ("v2", "a1", "view"),
        ("v1", "a2", "purchase"),
    }
    assert len(clicks) == 2 * len({one.event_id for one in clicks})
    titles = {one.item_id: one.title for one in map(decode_content, records(kafka_settings, "content"))}
    assert titles == {"a1": "Alpine huts", "a2": "Night trains", "a3": "Slow soups"}
