"""Users' ids are replaced by keyed hashes where events come in."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.errors import ConfigurationError
from streams.events import decode_click, decode_user
from streams.mapping.translate import Translator
from streams.pseudonyms import Pseudonyms, pseudonyms_of
from streams.settings import load_settings
from tests.streams.importing.test_records import read
from tests.streams.mapping.conftest import record, source_of

KEY = b"0123456789abcdef0123456789abcdef"
U1 = "3b6d-hfjwxqgcbzxpzuroymf3s3xmll7zxzvd"
"""As OpenSSL has it: `printf u1 | openssl dgst -sha256 -hmac KEY -binary | head -c 20 | base32`."""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    return tmp_path / "key"


def test_a_pseudonym_is_the_hmac_of_the_id_and_names_its_key(key_file: Path) -> None:
    ours, other = pseudonyms_of(key_file), Pseudonyms(KEY[::-1])
    assert ours is not None
    assert ours.of("u1") == U1
    assert len({ours.of("u1"), ours.of("u2"), ours.of("ü1"), other.of("u1")}) == 4
    assert ours.of("u2").startswith(f"{ours.key_id}-")
    assert ours.key_id != other.key_id
    assert pseudonyms_of(None) is None


def test_a_key_that_is_short_or_missing_is_refused_and_not_shown(key_file: Path) -> None:
    key_file.write_bytes(b"too-short-a-secret\n")
    with pytest.raises(ConfigurationError, match="at least 32 bytes, got 18") as refused:
        pseudonyms_of(key_file)
    assert "secret" not in str(refused.value)
    for no_key in (bytes(64), b"0" * 64 + b"\n", KEY * 1000):
        key_file.write_bytes(no_key)
        with pytest.raises(ConfigurationError, match="must hold a random key of at most 4,096 bytes"):
            pseudonyms_of(key_file)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        pseudonyms_of(key_file.with_name("nowhere"))


def test_files_are_imported_by_pseudonyms_and_nothing_is_derived_from_ids(tmp_path: Path) -> None:
    ours, lines = Pseudonyms(KEY), ["user_id,item_id,timestamp", "u1,i1,1700000000", "u2,i1,1700000001"]
    clicks, _, how = read(tmp_path, "events.csv", lines, pseudonyms=ours)
    assert [one.user_id for one in clicks] == [U1, ours.of("u2")]
    assert how["user_id"] == "written as pseudonyms"
    plain = read(tmp_path, "events.csv", lines)[0]
    assert not {one.event_id for one in clicks} & {one.event_id for one in plain}
    (user,) = read(tmp_path, "users.csv", ["user_id,age", "u1,30"], pseudonyms=ours)[0]
    assert user.user_id == U1
    (user,) = read(tmp_path, "users.csv", ["user_id,age,friends", "u2,30,u1|u3"], pseudonyms=ours)[0]
    assert (user.user_id, user.friends) == (ours.of("u2"), [U1, ours.of("u3")])


def test_the_import_command_says_that_it_writes_pseudonyms(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file.with_name("events.csv")
    path.write_text("user_id,item_id,timestamp\nu1,i1,1700000000\n")
    monkeypatch.setenv("SLATESTREAM_PSEUDONYM_KEY_FILE", str(key_file))
    done = CliRunner().invoke(app, ["import", str(path), "--dry-run", "--json"])
    assert done.exception is None
    (said,) = json.loads(done.stdout)["files"]
    assert said["how"]["user_id"] == "written as pseudonyms"


def test_mapped_records_and_their_deletions_name_users_by_pseudonyms() -> None:
    ours = Pseudonyms(KEY)
    fields = 'user_id = "who"\nitem_id = "what"\naction = {constant = "like"}'
    (event,) = Translator(source_of(fields), pseudonyms=ours).events(record(b'{"who": "u1", "what": "u1"}'))
    assert event.value is not None
    click = decode_click(event.value)
    assert (event.key, click.user_id, click.item_id) == (U1.encode(), U1, "u1")
    fields = 'user_id = "who"\nfriends = {path = "knows", as = "texts"}\npreferences = "knows"'
    users = Translator(source_of(fields, feeds="users"), pseudonyms=ours)
    (event,) = users.events(record(b'{"who": "u1", "knows": ["u1", "u2"]}'))
    assert event.value is not None
    user = decode_user(event.value)
    assert (user.user_id, user.friends, user.preferences) == (U1, [U1, ours.of("u2")], ["u1", "u2"])
    (event,) = users.events(record(b'{"who": "u1"}'))
    assert event.value is not None
    assert decode_user(event.value).friends == []
    assert [one.key for one in users.events(record(None, key=b"u1"))] == [U1.encode()]
    items = Translator(source_of('item_id = "what"\ntitle = "what"', feeds="content"), pseudonyms=ours)
    assert [one.key for one in items.events(record(None, key=b"u1"))] == [b"u1"]


def test_topics_that_are_read_where_they_are_cannot_have_pseudonyms(key_file: Path) -> None:
    mapping = key_file.with_name("mapping.toml")
    text = '[[source]]\ntopic = "people"\nfeeds = "users"\n{}[source.fields]\nuser_id = "who"\n'
    mapping.write_text(text.format(""))
    with pytest.raises(ConfigurationError, match="source people needs repartition = true"):
        load_settings(mapping=mapping, pseudonym_key_file=key_file)
    mapping.write_text(text.format("repartition = true\n"))
    assert load_settings(mapping=mapping, pseudonym_key_file=key_file).sources[0].repartition


def test_the_command_prints_pseudonyms(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(app, ["pseudonym", "u1"]).exception is not None
    monkeypatch.setenv("SLATESTREAM_PSEUDONYM_KEY_FILE", str(key_file))
    said = CliRunner().invoke(app, ["pseudonym", "u1", "u2"]).output
    assert said.splitlines() == [U1, Pseudonyms(KEY).of("u2")]
    said = CliRunner().invoke(app, ["pseudonym", "u1", "--json"]).output
    assert json.loads(said) == {"user_id": "u1", "pseudonym": U1}
