"""The contract as a document: in step with the code, and what others' tools make of it."""

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import msgspec
import pytest

from deploy.asyncapi.document import FOLDER, RECEIVED, SENT, document, files, schemas
from streams import events
from streams.kafka.topics import TOPICS

PARSER = "@asyncapi/parser@3.6.6"
DECODERS = {
    "clicks": events.decode_click, "content": events.decode_content, "requests": events.decode_request,
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def test_what_is_committed_is_what_the_code_makes() -> None:
    written = dict(files())
    assert {path: path.read_text() for path in written} == written, "run `make contract`"
    assert set(FOLDER.rglob("*.json")) == set(written)


def test_every_topic_that_is_no_changelog_is_described() -> None:
    internal = {"item-state", "user-state", "policy-state"}
    assert set(RECEIVED) | set(SENT) == set(TOPICS) - internal


@pytest.mark.parametrize("name", [*RECEIVED, *SENT])
def test_an_example_is_what_its_topic_carries(name: str) -> None:
    message = (RECEIVED | SENT)[name]
    (shown,) = document()["components"]["messages"][name]["examples"]
    assert msgspec.json.decode(json.dumps(shown["payload"]), type=message.struct) == message.example


@pytest.mark.parametrize(
    ("name", "value", "sound"),
    [
        ("clicks", {}, False),
        ("clicks", {"timestamp_ms": 1_764_000_000}, False),  # seconds
        ("clicks", {"user_id": ""}, False),
        ("clicks", {"position": 3, "new_field": 1}, True),
        ("content", {"triples": [["directed_by", "Ridley Scott"]]}, True),
        ("content", {"triples": [["directed_by"]]}, False),
        ("requests", {"k": 0}, False),
    ],
)
def test_a_schema_takes_what_the_decoder_takes(name: str, value: dict[str, object], sound: bool) -> None:
    record = msgspec.to_builtins(RECEIVED[name].example) | value if value else {}
    schema = jsonschema.Draft202012Validator(schemas()[name])
    assert schema.is_valid(record) is sound
    try:
        DECODERS[name](json.dumps(record).encode())
    except msgspec.ValidationError:
        assert not sound
    else:
        assert sound


@pytest.mark.skipif(shutil.which("npm") is None, reason="AsyncAPI's parser needs node and npm")
def test_asyncapis_own_parser_finds_no_fault() -> None:
    folder = ROOT / "build" / "asyncapi"
    if not (folder / "node_modules" / "@asyncapi" / "parser").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), PARSER]
        subprocess.run(install, check=True, timeout=300)
    check = ["node", str(FOLDER / "check.mjs"), str(folder)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(RECEIVED) + len(SENT)} channels, {len(RECEIVED) + len(SENT)} operations\n"
