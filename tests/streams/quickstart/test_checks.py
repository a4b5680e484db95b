"""What a quickstart refuses, it refuses before it reads a file to its end."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.cli import main
from streams.errors import SlatestreamError
from streams.quickstart.checks import CONSOLE_PORT, HTTP_PORT, ports
from streams.worker.process import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *options: str
) -> str:
    """What the command says, which has read nothing and left nothing behind."""
    (folder / "ratings.csv").write_text("user,item,rating,time\nu1,i1,5,1700000000\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["slatestream", "quickstart", "ratings.csv", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2, said
    assert "1 of 4: Read" not in said.out
    assert not (folder / "build").exists()
    return said.err


@pytest.mark.parametrize("option", ["--port", "--console-port"])
def test_a_port_that_is_taken_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    taken: int,
    option: str,
) -> None:
    said = refused(monkeypatch, capsys, tmp_path, option, str(taken))
    assert said == (
        f"slatestream: {option} {taken} on 127.0.0.1 is taken: stop what listens there, or name another\n"
    )


def test_one_port_cannot_be_that_of_http_and_of_the_console() -> None:
    port = free_port()
    with pytest.raises(SlatestreamError, match=f"must differ, got {port} for both"):
        ports(port, port)


def test_a_port_that_is_not_said_is_never_the_one_that_is() -> None:
    for http, console in ((CONSOLE_PORT, None), (None, HTTP_PORT)):
        try:
            found = ports(http, console)
        except SlatestreamError:
            continue  # somebody here listens on the usual port
        assert found[0] != found[1]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mapping", "mapping.toml"),
        ("release", "release"),
        ("security_protocol", "SSL"),
        ("http_tls_certificate", "cert.pem"),
        ("admin_port", "6068"),
    ],
)
def test_settings_of_another_cluster_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    setting: str,
    value: str,
) -> None:
    (tmp_path / "mapping.toml").write_text('[[source]]\ntopic = "t"\nfeeds = "users"\nfields.user_id = "u"\n')
    (tmp_path / "cert.pem").write_text("")
    monkeypatch.setenv(f"SLATESTREAM_{setting.upper()}", value)
    if setting == "http_tls_certificate":
        monkeypatch.setenv("SLATESTREAM_HTTP_TLS_KEY", "cert.pem")
    said = refused(monkeypatch, capsys, tmp_path)
    assert f"runs a broker and a worker of its own: {setting} must not be set, got {value!r}" in said


def test_tokens_that_the_quickstart_has_not_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("SLATES_TOKEN", raising=False)
    (tmp_path / "s.toml").write_text(f'[http_tokens.shop]\nsha256 = "{"0" * 64}"\nscopes = ["recommend"]\n')
    assert "set SLATES_TOKEN" in refused(monkeypatch, capsys, tmp_path, "--config", "s.toml")


def test_a_text_encoder_that_there_is_not_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SLATESTREAM_TEXT_ENCODER", str(tmp_path / "none"))
    assert "text_encoder: " in refused(monkeypatch, capsys, tmp_path)


def test_without_java_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs Java 17" in refused(monkeypatch, capsys, tmp_path)


def test_a_training_without_a_text_encoder_is_refused_and_so_is_a_file_that_is_named_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "is named twice" in refused(monkeypatch, capsys, tmp_path, "./ratings.csv")
    monkeypatch.setenv("SLATESTREAM_TEXT_ENCODER", "none")
    said = refused(monkeypatch, capsys, tmp_path)
    assert "text_encoder must be one, got 'none'" in said
    assert "--train none" in said
