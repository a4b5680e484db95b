"""Every snippet of deploy/mapping.md: files are written, commands run and print what they are said to."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from streams.cli import main
from streams.settings import load_settings
from streams.sources import Source, parse_sources

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "mapping.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a kind."""
    return [(name, text) for found, name, text in BLOCK.findall(PAGE.read_text()) if found == kind]


def sources(text: str) -> list[Source]:
    return list(parse_sources(text, "of the page"))


def test_the_page_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in BLOCK.findall(PAGE.read_text())} == {"jsonl", "console", "toml"}


def test_commands_print_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in blocks("jsonl"):
        (tmp_path / name).write_text(text)
    for _, text in blocks("console"):
        command, _, printed = text.partition("\n")
        arguments = shlex.split(command.removeprefix("$ "))
        assert arguments[0] == "slatestream"
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, capsys.readouterr().out) == (0, printed)
    shop, news, _ = (sources(text) for _, text in blocks("toml"))
    assert sources((tmp_path / "mapping.toml").read_text()) == shop
    assert sources((tmp_path / "news.toml").read_text()) == news


def test_every_mapping_is_one_that_a_worker_takes(tmp_path: Path) -> None:
    for _, text in blocks("toml"):
        (tmp_path / "m.toml").write_text(text)
        assert load_settings(mapping=tmp_path / "m.toml").sources
