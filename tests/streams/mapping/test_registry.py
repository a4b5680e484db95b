"""Asking a schema registry, and what its answers mean."""

import asyncio
import base64
import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.kafka.columns import RecordColumns
from streams.mapping.registry import Registry, RegistryError, UnknownSchema
from streams.mapping.schemas import Schemas, schemas_of
from streams.mapping.translate import Translator
from streams.mapping.values import Fault
from streams.settings import load_settings
from streams.settings.sources import registry_address
from tests.registry_server import RegistryServer, avro, head, registry_server
from tests.streams.mapping.conftest import record, source_of

SCHEMA = {"type": "record", "name": "Seen", "fields": [{"name": "who", "type": "string"}]}
FIELDS = 'user_id = "who"\nitem_id = { constant = "i" }\naction = { constant = "view" }'
MAPPING = """
[[source]]
topic = "shop"
feeds = "clicks"
format = "avro"
{more}
[source.fields]
user_id = "who"
item_id = "what"
action = "kind"
"""


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        running.register(7, SCHEMA)
        yield running


def test_a_schema_is_asked_for_once_however_many_records_name_it(server: RegistryServer) -> None:
    schemas = Schemas(Registry(server.url))
    values = [schemas.read(avro(7, SCHEMA, {"who": f"u{n}"}), kind="avro") for n in range(3)]
    assert values == [{"who": "u0"}, {"who": "u1"}, {"who": "u2"}]
    assert [path for path, _ in server.requests] == ["/schemas/ids/7"]


def test_credentials_go_to_the_registry_and_into_no_message(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry(server.url, username="reader", password="s3cret").by_id(7)
    assert server.requests[-1][1] == "Basic " + base64.b64encode(b"reader:s3cret").decode()
    server.status = 401
    with pytest.raises(RegistryError, match="refuses the credentials") as refused:
        Registry(server.url, username="reader", password="s3cret").by_id(7)
    monkeypatch.setenv("SLATESTREAM_REGISTRY_USERNAME", "reader")
    monkeypatch.setenv("SLATESTREAM_REGISTRY_PASSWORD", "s3cret")
    assert "s3cret" not in str(refused.value) + repr(load_settings())


@pytest.mark.parametrize(
    ("status", "why"), [(500, "answers 500"), (302, "answers 302"), (404, "answers 404 as no registry does")]
)
def test_an_answer_that_says_nothing_of_schemas_is_the_registry_s_fault(
    server: RegistryServer, status: int, why: str
) -> None:
    server.status = status
    with pytest.raises(RegistryError, match=why):
        Registry(server.url).by_id(7)


def test_unknown_and_silent_are_told_apart(server: RegistryServer) -> None:
    with pytest.raises(UnknownSchema):
        Registry(server.url).by_id(8)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryError, match="does not answer: .*timed out"):
            Registry(url, timeout_s=0.05).by_id(7)
    with pytest.raises(RegistryError, match="does not answer: .*refused"):
        Registry(url).by_id(7)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b'{"who": "u"}', "is no avro in the wire format"),
        (b"\0\0\0", "is no avro in the wire format"),
        (head(8) + b"\2u", "names the schema 8, which http.* does not know"),
        (head(7) + b"\x40u", "schema 7 is no Avro of its schema"),
        (head(7) + b"\2u!!", "schema 7 is no Avro of its schema: 2 bytes are left over"),
        (head(9) + b"\2u", "schema 9 is JSON, and the mapping says avro"),
        (head(10) + b"\2u", "schema 10 has a schema that is no Avro"),
    ],
)
def test_a_bad_value_is_a_fault_of_its_record_alone(server: RegistryServer, value: bytes, why: str) -> None:
    server.register(9, "{}", kind="JSON")
    server.register(10, '{"type": "rec')
    source = source_of(FIELDS, more=f'format = "avro"\nregistry = "{server.url}"')
    translator = Translator(source, schemas=Schemas(Registry(server.url)))
    good = avro(7, SCHEMA, {"who": "u"})
    made = translator.batch(RecordColumns.of([record(value), record(good, offset=1)]))
    assert [one.key for one in made.records] == [b"u"]
    (bad,) = made.rejected
    assert bad.reason == "mapping"
    with pytest.raises(Fault, match=why):
        translator.events(record(value))


async def test_records_wait_while_the_registry_is_away_and_one_line_says_so(
    server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(FIELDS, more=f'format = "avro"\nregistry = "{server.url}"')
    translator = Translator(source, schemas=Schemas(Registry(server.url), first_pause_s=0.001))
    records = RecordColumns.of([record(avro(7, SCHEMA, {"who": "u"})), record(None), record(head(8))])
    server.status = 503
    with caplog.at_level(logging.INFO):
        waiting = asyncio.create_task(translator.ready(records))
        async with asyncio.timeout(120):
            while len(server.requests) < 4:  # the loop turns meanwhile
                await asyncio.sleep(0.001)
            assert not waiting.done()
            server.status = None
            await waiting
    said = [one.getMessage() for one in caplog.records if "registry" in one.getMessage()]
    assert [one.split(" (")[0] for one in said] == [
        f"schema registry {server.url} answers 503",
        f"schema registry {server.url} answers again",
    ]
    asked = len(server.requests)
    await translator.ready(records)
    made = translator.batch(records)
    assert (len(made.records), len(made.rejected), len(server.requests)) == (1, 2, asked)


def test_what_decodes_a_format_is_asked_for_by_name_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MAPPING.format(more='registry = "http://here"'))
    settings = load_settings(mapping=path)
    monkeypatch.setitem(sys.modules, "fastavro", None)
    monkeypatch.delitem(sys.modules, "streams.mapping.avro", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"needs the package fastavro: pip install 'slatestream\[reg"
    ):
        schemas_of(settings, settings.sources[0])


def test_an_address_without_its_scheme_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="without credentials") as caught:
        registry_address("user:secret@host:8081")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://a..b:80", "http://127.0.0.1:1/ö"])
def test_an_address_that_cannot_be_asked_is_the_registry_s_fault(url: str) -> None:
    with pytest.raises(RegistryError):
        Registry(url, timeout_s=1.0).by_id(1)


def test_a_mapping_without_a_registry_or_with_a_bad_address_is_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MAPPING.format(more=""))
    with pytest.raises(
        ConfigurationError, match="source shop is avro, so it needs the address of the schema"
    ):
        load_settings(mapping=path)
    assert load_settings(mapping=path, registry="http://here").sources[0].registry == "http://here"
    path.write_text('registry = "http://file"' + MAPPING.format(more=""))
    assert load_settings(mapping=path, registry="http://here").sources[0].registry == "http://file"
    for address, why in (("ftp://x", "an address such as"), ("http://me:pw@x", "without credentials")):
        path.write_text(MAPPING.format(more=f'registry = "{address}"'))
        with pytest.raises(ConfigurationError, match=why) as refused:
            load_settings(mapping=path)
        assert "pw" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="without credentials") as refused:
        load_settings(registry="http://me:pw@x")
    assert "pw" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="must be given together"):
        load_settings(registry_username="me")
