import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.decoding.records import Rejected
from streams.errors import SlatestreamError
from streams.events import decode_click, decode_content, encode
from streams.kafka.columns import Record
from streams.settings import Settings
from streams.worker.process import environment, same_topics
from tests.e2e.client import Client, wait_until

UNKNOWN_ACTION = (
    b'{"event_id":"e1","user_id":"u1","item_id":"i","action":"share","timestamp_ms":1000000000000}'
)
JUNK = b"\xff\x00 no JSON [bold]"
FILM = b'{"item_id":"f1","title":5}'


def run(*arguments: str, stdin: bytes | None = None) -> str:
    """Output of the command, or the message that `slatestream` would end with."""
    done = CliRunner().invoke(app, ["dead-letters", *arguments], input=stdin)
    if isinstance(done.exception, SlatestreamError):
        return f"{done.stderr}{done.exception}"
    assert done.exit_code == 0, done.output
    return done.stdout + done.stderr


@pytest.fixture
def client(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name, value in environment(same_topics(kafka_settings)).items():
        monkeypatch.setenv(name, value)
    with Client(kafka_settings) as client:
        yield client


def refused(client: Client, name: str, key: bytes | None, value: bytes | None, reason: str) -> None:
    """Publish what a worker publishes of a record that it refuses."""
    topic = f"{client.settings.topic_prefix}{name}"
    record = Record(topic, 1, 7, 0, key, value)
    said, letter = Rejected(record, reason, f"a fault: {reason}").dead_letter()
    client.send("dead-letters", said, letter)
    client.flush()


def values_of(client: Client, topic: str, n: int) -> list[tuple[bytes | None, bytes]]:
    wait_until(lambda: len(client.records(topic)) >= n, f"{n} records of {topic}")
    return [(record.key, record.value) for record in client.records(topic)]


def test_letters_are_listed_counted_and_chosen(client: Client) -> None:
    assert "0 dead letters" in run("list")
    refused(client, "clicks", b"u1", UNKNOWN_ACTION, "unknown_action")
    refused(client, "content", b"f1", FILM, "invalid")
    client.send("dead-letters", None, b"somebody else's")
    refused(client, "clicks", None, JUNK, "invalid")
    prefix = client.settings.topic_prefix
    listed = run("list")
    assert f"{prefix}clicks/1/7" in listed
    assert f"{prefix}clicks, invalid: 1" in listed
    assert "3 dead letters" in listed
    assert "2 dead letters" in run("list", "--reason", "invalid")
    assert "1 dead letter\n" in run("list", "--reason", "invalid", "--topic", "content", "--last", "1h")
    only = [json.loads(line) for line in run("list", "--limit", "1", "--json").splitlines()]
    assert [(one["number"], one["reason"], one["key"]) for one in only] == [(3, "invalid", None)]


def test_a_letter_is_shown_as_it_can_be_read(client: Client) -> None:
    refused(client, "clicks", b"u1", UNKNOWN_ACTION, "unknown_action")
    refused(client, "clicks", None, JUNK, "invalid")
    shown = run("show", "0")
    assert '  "action": "share",' in shown
    assert "partition 1, offset 7" in shown
    assert "\\xff\\x00 no JSON [bold]" in run("show", "1")
    assert CliRunner().invoke(app, ["dead-letters", "show", "1", "--raw"]).stdout_bytes == JUNK
    assert "there is no dead letter 5" in run("show", "5")


def test_what_would_be_refused_again_stays_and_the_rest_is_replayed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(client, "clicks", b"u1", UNKNOWN_ACTION, "unknown_action")
    refused(client, "clicks", b"u1", JUNK, "invalid")
    refused(client, "clicks", b"u1", None, "null_value")
    refused(client, "clicks", b"u1", UNKNOWN_ACTION, "unknown_action")  # read again, as after a crash
    assert "unknown action 'share'" in run("replay", "0", "--yes")
    monkeypatch.setenv("SLATESTREAM_ACTIONS", '{"like": 1.0, "share": 3.0}')
    said = run("replay", "--all", "--yes")
    assert f"replayed 1: 1 to {client.settings.topic_prefix}clicks" in said
    assert "left out 1 of" in said
    assert "its value was null" in said
    assert values_of(client, "clicks", 1) == [(b"u1", UNKNOWN_ACTION)]
    assert "replayed 1" in run("replay", "1", "--force", "--yes")
    assert JUNK in [value for _, value in values_of(client, "clicks", 2)]


def test_a_value_is_mended_by_a_file_or_in_an_editor(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(client, "content", b"f1", FILM, "invalid")
    refused(client, "clicks", b"u1", UNKNOWN_ACTION, "unknown_action")
    mended = tmp_path / "value.json"
    mended.write_bytes(b'{"item_id":"f1","title":5}')
    assert "Expected `str`, got `int`" in run("replay", "0", "--value", str(mended), "--yes")
    good = b'{"item_id":"f2","title":"five"}'
    assert "replayed 1" in run("replay", "0", "--value", "-", "--yes", stdin=good)
    ((key, value),) = values_of(client, "content", 1)
    assert (key, decode_content(value).title) == (b"f2", "five"), "the key is that of the value"
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys; from pathlib import Path; p = Path(sys.argv[1]);"
        "p.write_text(p.read_text().replace('share', 'like'))"
    )
    monkeypatch.setenv("EDITOR", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")
    monkeypatch.delenv("VISUAL", raising=False)
    assert "replayed 1" in run("replay", "1", "--edit", "--yes")
    ((key, value),) = values_of(client, "clicks", 1)
    assert (key, decode_click(value).action) == (b"u1", "like")
    monkeypatch.setenv("EDITOR", "true")
    assert "nothing was changed" in run("replay", "1", "--edit", "--yes")
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert "the editor 'no-such-editor' ($VISUAL, $EDITOR) failed" in run("replay", "1", "--edit", "--yes")


def test_only_the_beginning_of_a_value_is_not_replayed(client: Client) -> None:
    large = encode({"item_id": "f1", "title": "x" * 300_000})
    refused(client, "content", b"f1", large, "too_large")
    assert "only the beginning of its value was kept" in run("replay", "0", "--yes")
    assert "the beginning of more" in run("show", "0")


def test_a_letter_of_another_prefix_is_replayed_in_no_way(client: Client) -> None:
    said, letter = Rejected(Record("other.clicks", 0, 0, 0, b"u1", JUNK), "invalid", "a fault").dead_letter()
    client.send("dead-letters", said, letter)
    client.flush()
    for how in ((), ("--force",), ("--value", "-"), ("--edit",)):
        assert "other.clicks is no input topic of these settings" in run("replay", "0", "--yes", *how)
    assert "nothing is replayed" in run("replay", "--all", "--force", "--yes")


def test_nothing_is_sent_unless_it_is_confirmed(client: Client) -> None:
    click = UNKNOWN_ACTION.replace(b"share", b"like")
    refused(client, "clicks", b"u1", click, "unknown_action")
    assert "nothing is replayed" in run("replay", "0", stdin=b"n\n")
    assert "replayed 1" in run("replay", "0", stdin=b"y\n")
    assert len(values_of(client, "clicks", 1)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replay",), "name a letter's number, or choose some by --topic, --reason, --last or --all"),
        (("replay", "--all", "--edit"), "--edit and --value are for one letter: name its number"),
        (("list", "--topic", "click"), "--topic must be one of clicks, content, "),
        (("list", "--reason", "bad"), "--reason must be one of invalid, timestamp, "),
        (("list", "--last", "soon"), "--last must be a number and s, m, h or d, such as 1h, got 'soon'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_named(arguments: tuple[str, ...], message: str) -> None:
    assert message in run(*arguments)


def test_a_broker_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert "Kafka cannot be reached (127.0.0.1:1" in run("list")
