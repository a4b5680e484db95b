import ssl
from pathlib import Path

import certifi
import pytest

from streams.kafka.options import aiokafka_client_options, kafka_client_options
from streams.settings import load_settings


def test_every_broker_is_passed_to_both_libraries() -> None:
    settings = load_settings(bootstrap_servers="a:1, b:2")
    expected = {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert kafka_client_options(settings) == expected
    assert aiokafka_client_options(settings) == expected


@pytest.mark.parametrize("options_of", [kafka_client_options, aiokafka_client_options])
def test_the_password_reaches_the_client_in_the_clear(options_of: object) -> None:
    settings = load_settings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="worker",
        sasl_password="secret",
    )
    assert callable(options_of)
    options = options_of(settings)
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "worker"
    assert options["sasl_plain_password"] == "secret"
    assert "ssl_context" not in options


def test_tls_trusts_the_given_authorities() -> None:
    settings = load_settings(security_protocol="SSL", ssl_cafile=Path(certifi.where()))
    for options in (kafka_client_options(settings), aiokafka_client_options(settings)):
        context = options["ssl_context"]
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.get_ca_certs()


def test_tls_without_authorities_uses_the_system_s() -> None:
    settings = load_settings(security_protocol="SSL")
    assert kafka_client_options(settings)["ssl_context"].check_hostname
    assert aiokafka_client_options(settings)["ssl_context"].check_hostname
