import sys
from pathlib import Path

import pytest

from streams.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_bad_configuration_is_a_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLATESTREAM_PARTITIONS", "0")
    assert run(monkeypatch, "topics", "describe") == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("slatestream: Bad configuration:\n  partitions:")
    assert "Traceback" not in shown.err


def test_a_missing_configuration_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "topics", "create", "--config", str(tmp_path / "none.toml")) == 2
    assert f"--config {tmp_path}/none.toml: no such file" in capsys.readouterr().err


def test_a_bad_heap_is_a_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "broker", "--heap", "lots") == 2
    assert capsys.readouterr().err == (
        "slatestream: heap must be a number with k, m or g, such as '1g', got 'lots'\n"
    )


def test_the_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert "broker" in shown
    assert "topics" in shown
