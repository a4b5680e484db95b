"""Brokers that want TLS, credentials or both, and what is said when the settings do not fit."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from streams.broker.embedded import EmbeddedBroker
from streams.broker.ports import keep_port, port_of
from streams.errors import BrokersUnreachable, ClusterError, ConfigurationError
from streams.kafka.broker_check import check_brokers, wait_for_brokers
from streams.kafka.topic_admin import admin_client, check_topics, create_topics
from streams.settings import Settings, load_settings
from streams.worker.process import WorkerError, WorkerProcess, same_topics
from tests.e2e.client import Client
from tests.e2e.conftest import FAST

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"


SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
SCRAM = {"SCRAM": "SCRAM-SHA-512", "SCRAM256": "SCRAM-SHA-256"}
"""Mechanism of each listener that proves a password without sending it."""


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with keep_port() as kept:
        yield port_of(kept)


def written(folder: Path, issued: trustme.LeafCert) -> tuple[Path, Path, Path]:
    """A certificate, its key, and both in one file as the JVM wants them."""
    folder.mkdir()
    certificate, key, store = folder / "certificate.pem", folder / "key.pem", folder / "store.pem"
    private = load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    store.write_bytes(pem + certificate.read_bytes())
    return certificate, key, store


def token(**claims: float | str) -> str:
    """A token that nobody has signed, as Kafka takes it where nobody has told it who signs."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": "worker", "iat": now, "exp": now + 3_600} | claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


@dataclass
class Secured:
    """A broker with a listener of each kind, and the files of who may use them."""

    plaintext: str
    ports: dict[str, int]
    cafile: Path
    certificate: Path
    key: Path
    other_cafile: Path
    folder: Path

    def settings(self, listener: str, **values: Any) -> Settings:
        return load_settings(
            bootstrap_servers=f"127.0.0.1:{self.ports[listener]}",
            topic_prefix="secured.",
            partitions=1,
            **values,
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ours, another = trustme.CA(), trustme.CA()
    cafile, other_cafile = folder / "ca.pem", folder / "other-ca.pem"
    ours.cert_pem.write_to_path(cafile)
    another.cert_pem.write_to_path(other_cafile)
    *_, store = written(folder / "broker", ours.issue_cert("127.0.0.1", "localhost"))
    certificate, key, _ = written(folder / "client", ours.issue_cert("worker"))
    kinds = {
        "TLS": "SSL",
        "MUTUAL": "SSL",
        "PASSWORD": "SASL_PLAINTEXT",
        "BOTH": "SASL_SSL",
        "TOKEN": "SASL_PLAINTEXT",
        "SCRAM": "SASL_SSL",
        "SCRAM256": "SASL_PLAINTEXT",
        "AWAY": "PLAINTEXT",
    }
    kept = {kind: keep_port() for kind in ("BROKER", *kinds)}
    ports = {kind: port_of(one) for kind, one in kept.items()}
    told = {name: f"127.0.0.1:{port}" for name, port in ports.items()} | {"AWAY": "kafka.invalid:29092"}
    properties = {
        "advertised.listeners": ",".join(f"{name}://{where}" for name, where in told.items()),
        "ssl.keystore.type": "PEM", "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM", "ssl.truststore.location": str(cafile),
        "listener.name.mutual.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.token.oauthbearer.sasl.jaas.config": (
            f'{OAUTH} required unsecuredLoginStringClaim_sub="b";'
        ),
    }  # fmt: skip
    for name in ("password", "both"):
        properties[f"listener.name.{name}.plain.sasl.jaas.config"] = (
            f'{PLAIN} required username="b" password="b" user_worker="right";'
        )
    for name, mechanism in SCRAM.items():
        listener = f"listener.name.{name.lower()}"
        properties[f"{listener}.sasl.enabled.mechanisms"] = mechanism
        properties[f"{listener}.{mechanism.lower()}.sasl.jaas.config"] = f"{SCRAM_LOGIN} required;"
    listeners = {name: (ports[name], kind) for name, kind in kinds.items()}
    with ExitStack() as stack:
        for one in kept.values():
            stack.enter_context(one)
        broker = EmbeddedBroker(port=ports["BROKER"], listeners=listeners, properties=properties)
        stack.enter_context(broker)
        host, port = broker.bootstrap_servers.split(":")
        with admin_client(load_settings(bootstrap_servers=broker.bootstrap_servers)) as admin:
            for one in SCRAM.values():  # a request may alter a user once
                made = UserScramCredentialUpsertion("worker", ScramMechanism[one.replace("-", "_")], "right")
                assert admin.alter_user_scram_credentials([made]) == {"worker": None}
        yield Secured(host, ports | {"PLAINTEXT": int(port)}, cafile, certificate, key, other_cafile, folder)


PASSWORD = {"sasl_username": "worker", "sasl_password": "right"}


def allowed(secured: Secured) -> dict[str, Settings]:
    tokens = secured.folder / "token"
    tokens.write_text(token() + "\n")
    pair = {"ssl_certificate": secured.certificate, "ssl_key": secured.key}
    return {
        "PLAINTEXT": secured.settings("PLAINTEXT"),
        "TLS": secured.settings("TLS", security_protocol="SSL", ssl_cafile=secured.cafile),
        "MUTUAL": secured.settings("MUTUAL", security_protocol="SSL", ssl_cafile=secured.cafile, **pair),
        "PASSWORD": secured.settings("PASSWORD", security_protocol="SASL_PLAINTEXT", **PASSWORD),
        "BOTH": secured.settings("BOTH", security_protocol="SASL_SSL", ssl_cafile=secured.cafile, **PASSWORD),
        "SCRAM": secured.settings(
            "SCRAM",
            security_protocol="SASL_SSL",
            ssl_cafile=secured.cafile,
            sasl_mechanism=SCRAM["SCRAM"],
            **PASSWORD,
        ),
        "SCRAM256": secured.settings(
            "SCRAM256", security_protocol="SASL_PLAINTEXT", sasl_mechanism=SCRAM["SCRAM256"], **PASSWORD
        ),
        "TOKEN": secured.settings(
            "TOKEN", security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_file=tokens
        ),
    }


@pytest.mark.parametrize("listener", ["PLAINTEXT", "TLS", "MUTUAL", "PASSWORD", "BOTH", "TOKEN", *SCRAM])
async def test_who_has_what_a_listener_wants_is_let_in_by_both_libraries(
    secured: Secured, listener: str
) -> None:
    settings = allowed(secured)[listener]
    await check_brokers(settings)
    create_topics(settings)
    check_topics(settings)


@pytest.mark.parametrize("listener", ["MUTUAL", "TOKEN"])
def test_a_worker_serves_where_a_certificate_or_a_token_is_wanted(
    secured: Secured, listener: str, tmp_path: Path
) -> None:
    settings = allowed(secured)[listener]
    create_topics(settings)
    names = (
        "security_protocol",
        "sasl_mechanism",
        "sasl_token_file",
        "ssl_cafile",
        "ssl_certificate",
        "ssl_key",
    )
    given = {name: str(value) for name in names if (value := getattr(settings, name)) is not None}
    values = same_topics(settings, **FAST, **given, group_id=f"g{listener}")
    with WorkerProcess(values, log=tmp_path / "worker.log") as worker, Client(settings) as client:
        worker.wait_ready()
        assert client.ask("u").user_id == "u"


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another authority": (
        "TLS", {"security_protocol": "SSL", "ssl_cafile": "other_cafile"},
        r"ssl_cafile \(\S*other-ca.pem\) does not vouch for its certificate: unable to get local issuer",
    ),
    "TLS asked of a plaintext port": (
        "PLAINTEXT", {"security_protocol": "SSL", "ssl_cafile": "cafile"},
        "it (takes the connection and closes it; it )?speaks no TLS, which security_protocol=SSL wants",
    ),
    "plaintext asked of a TLS port": (
        "TLS", {},
        "it takes the connection and closes it; it speaks TLS: set security_protocol to SSL or SASL_SSL",
    ),
    "no client certificate": (
        "MUTUAL", {"security_protocol": "SSL", "ssl_cafile": "cafile"},
        r"it wants a client certificate \(ssl_certificate, ssl_key\)|see ssl_certificate and ssl_key",
    ),
    "a wrong password": (
        "PASSWORD", {"security_protocol": "SASL_PLAINTEXT", **PASSWORD, "sasl_password": "wrong"},
        "it refuses sasl_username, sasl_password: .*Invalid username or password",
    ),
    "a wrong password that is not sent": (
        "SCRAM", {"security_protocol": "SASL_SSL", "ssl_cafile": "cafile", "sasl_mechanism": SCRAM["SCRAM"],
                  **PASSWORD, "sasl_password": "wrong"},
        "it refuses sasl_username, sasl_password: ",
    ),
    "no password": ("PASSWORD", {}, "it wants credentials, or others"),
    "a password that nobody asks for": (
        "PLAINTEXT", {"security_protocol": "SASL_PLAINTEXT", **PASSWORD},
        "it asks for no credentials, and security_protocol=SASL_PLAINTEXT sends some",
    ),
    "an address that is told and leads nowhere": (
        "AWAY", {},
        "it answers, and says that brokers are reached at kafka.invalid:29092, where they are not: Name or "
        "service not known. See advertised.listeners",
    ),
    "a mechanism that is not offered": (
        "PASSWORD", {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256", **PASSWORD},
        "it does not offer sasl_mechanism=SCRAM-SHA-256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_settings_is_told_apart_from_the_others(secured: Secured, fault: str) -> None:
    listener, values, says = FAULTS[fault]
    files = {name: value for name, value in values.items() if value in ("cafile", "other_cafile")}
    settings = secured.settings(
        listener, **(values | {name: getattr(secured, value) for name, value in files.items()})
    )
    with pytest.raises(ClusterError, match=f"^Kafka cannot be reached .127.0.0.1:\\d+: .*({says})"):
        await check_brokers(settings)


async def test_a_token_that_has_expired_is_refused(secured: Secured) -> None:
    settings = allowed(secured)["TOKEN"]
    assert settings.sasl_token_file is not None
    settings.sasl_token_file.write_text(token(iat=1_000, exp=2_000))
    with pytest.raises(ClusterError, match="it refuses sasl_token_file: "):
        await check_brokers(settings)


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certificate", "ssl_key", "sasl_token_file"])
async def test_a_file_that_is_not_there_is_named(secured: Secured, name: str) -> None:
    files = {"ssl_cafile": secured.cafile, "ssl_certificate": secured.certificate, "ssl_key": secured.key}
    files[name] = secured.folder / "nowhere"
    values: dict[str, Any] = {"security_protocol": "SSL"}
    if name == "sasl_token_file":
        values = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
    settings = secured.settings("BOTH", **values, **files)
    with pytest.raises(ConfigurationError, match=f"^{name} \\S*nowhere: No such file or directory$"):
        await check_brokers(settings)


async def test_a_file_of_authorities_must_be_pem(secured: Secured) -> None:
    bad = secured.folder / "bad.pem"
    bad.write_text("not a certificate")
    settings = secured.settings("TLS", security_protocol="SSL", ssl_cafile=bad)
    with pytest.raises(ConfigurationError, match=r"^ssl_cafile \S*bad.pem must hold certificates as PEM: "):
        await check_brokers(settings)


async def test_the_key_must_be_of_the_certificate(secured: Secured) -> None:
    _, other, _ = written(secured.folder / "another", trustme.CA().issue_cert("x"))
    settings = secured.settings(
        "TLS", security_protocol="SSL", ssl_certificate=secured.certificate, ssl_key=other
    )
    with pytest.raises(ConfigurationError, match="of this certificate: KEY_VALUES_MISMATCH"):
        await check_brokers(settings)


async def test_brokers_that_start_later_are_waited_for(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(bootstrap_servers=f"127.0.0.1:{free_port}", connect_timeout_ms=60_000)
    waiting = asyncio.create_task(wait_for_brokers(settings, again_s=0.1))
    async with asyncio.timeout(120):
        while "waiting for up to" not in caplog.text:
            await asyncio.sleep(0.02)
    # In this thread: the broker dies with the one that starts it.
    with EmbeddedBroker(port=free_port):
        await waiting
    assert f"Kafka cannot be reached (127.0.0.1:{free_port}: Connection refused)" in caplog.text


@pytest.mark.parametrize("wait_ms", [0, 200])
async def test_brokers_that_do_not_come_are_given_up_as_configured(wait_ms: int, free_port: int) -> None:
    settings = load_settings(bootstrap_servers=f"127.0.0.1:{free_port}", connect_timeout_ms=wait_ms)
    with pytest.raises(BrokersUnreachable, match=f"127.0.0.1:{free_port}: Connection refused"):
        await wait_for_brokers(settings, again_s=0.05)


async def test_what_waiting_does_not_mend_is_told_at_once(secured: Secured) -> None:
    settings = secured.settings("PLAINTEXT", security_protocol="SASL_PLAINTEXT", **PASSWORD)
    with pytest.raises(ClusterError, match="cannot be reached") as told:
        await wait_for_brokers(settings)
    assert not isinstance(told.value, BrokersUnreachable)


def test_a_worker_whose_brokers_do_not_come_says_so_and_ends(free_port: int, tmp_path: Path) -> None:
    settings = load_settings(bootstrap_servers=f"127.0.0.1:{free_port}", connect_timeout_ms=500)
    worker = WorkerProcess(same_topics(settings, **FAST, connect_timeout_ms=500), log=tmp_path / "worker.log")
    worker.start()
    with pytest.raises(WorkerError, match="ended with code 3"):
        worker.wait_ready()
    said = (tmp_path / "worker.log").read_text()
    assert "waiting for up to 0 s more (connect_timeout_ms)" in said
    assert "Traceback" not in said
