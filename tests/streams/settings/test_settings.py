import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.policies.registry import REGISTRY
from streams.errors import ConfigurationError
from streams.settings import Settings, load_settings


def test_the_defaults_are_valid() -> None:
    settings = load_settings()
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.actions["click"] == 1.0


def test_an_override_wins_over_the_environment_and_the_environment_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "slatestream.toml"
    config.write_text("k_default = 1\nmax_batch = 2\nseed = 3\n")
    monkeypatch.setenv("SLATESTREAM_K_DEFAULT", "10")
    monkeypatch.setenv("SLATESTREAM_MAX_BATCH", "20")
    settings = load_settings(config, k_default=100)
    assert (settings.k_default, settings.max_batch, settings.seed) == (100, 20, 3)


def test_a_file_is_of_one_load_alone_also_of_one_that_fails(tmp_path: Path) -> None:
    config = tmp_path / "slatestream.toml"
    config.write_text("seed = 3\n")
    assert load_settings(config).seed == 3
    assert Settings().seed == 0
    with pytest.raises(ConfigurationError, match="partitions"):
        load_settings(config, partitions=0)
    assert Settings().seed == 0
    assert load_settings().seed == 0


@pytest.mark.parametrize("name", ["KAFKA_BOOTSTRAP_SERVERS", "SLATESTREAM_BOOTSTRAP_SERVERS"])
def test_either_variable_names_the_brokers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "kafka:9093")
    assert load_settings().bootstrap_servers == "kafka:9093"


def test_an_override_of_none_is_no_override() -> None:
    assert load_settings(seed=None).seed == 0


def test_every_setting_at_fault_is_named_with_its_value_and_rule() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(partitions=0, policy="best", history_limit=17)
    lines = str(refused.value).splitlines()
    assert lines[0] == "Bad configuration:"
    assert "  partitions: must be at least 1, got 0" in lines
    assert (
        "  policy: must be one of softmax, diverse-softmax, thompson, thompson-disjoint, "
        "thompson-logistic, linucb, linucb-disjoint, linucb-hybrid, epsilon-greedy, greedy, random, "
        "popularity, rl, got 'best'" in lines
    )
    assert "  history_limit: must be a multiple of 16, got 17" in lines


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("http_host", "", "http_host: must not be empty"),
        ("release", "  ", "release: must not be empty"),
        ("user_ttl_days", "1e309", "user_ttl_days: must be a finite number, got '1e309'"),
        ("position_bias", "x", "position_bias: must be a number, or must be 'learned', got 'x'"),
        ("actions", '{"view": "a", "like": "a"}', "actions.like: must be a number, got 'a'"),
    ],
)
def test_what_says_nothing_has_no_end_or_is_of_no_kind_is_refused_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"SLATESTREAM_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        load_settings()
    monkeypatch.setenv(f"SLATESTREAM_{name.upper()}", "")
    with pytest.raises(ConfigurationError, match=r"must not be empty|must be JSON"):
        load_settings()


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "slatestream.toml"
    config.write_text("partitons = 4\nxyz = 1\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(config)
    assert "partitons: there is no such setting: did you mean partitions?" in str(refused.value)
    assert str(refused.value).endswith("xyz: there is no such setting")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = = 3", "no TOML: Invalid value"),
        (b"seed = '\xff'", "no TOML: 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    config = tmp_path / "slatestream.toml"
    config.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(f"--config {config}: {message}")):
        load_settings(config)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACTIONS", "view=0.2", 'SLATESTREAM_ACTIONS must be JSON, such as {"view": 0.2,'),
        ("DWELL_HALF_MS", "{", "SLATESTREAM_DWELL_HALF_MS must be JSON, such as {\"like\": 1000}, got '{'"),
        ("PINNED", "a,b", "SLATESTREAM_PINNED must be JSON, such as [\"like\"], got 'a,b'"),
        ("SEEN_ACTIONS", "like", 'seen_actions: must be a list in JSON, such as ["like"]'),
    ],
)
def test_a_variable_that_must_be_json_says_how_it_would_look(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"SLATESTREAM_{name}", value)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        load_settings()


def test_variables_that_are_no_settings_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLATESTREAM_POLICCY", "greedy")
    monkeypatch.setenv("SLATESTREAM_FROBNICATE", "1")
    monkeypatch.setenv("SLATESTREAM_SEED", "1")
    for name, value in (  # Kubernetes, of a service named "slatestream"
        ("SERVICE_HOST", "10.0.0.1"), ("SERVICE_PORT_HTTP", "6066"), ("PORT", "tcp://10.0.0.1:6066"),
        ("PORT_6066_TCP_ADDR", "10.0.0.1"),
    ):  # fmt: skip
        monkeypatch.setenv(f"SLATESTREAM_{name}", value)
    load_settings()
    assert caplog.messages == [
        "SLATESTREAM_FROBNICATE is no setting",
        "SLATESTREAM_POLICCY is no setting: did you mean SLATESTREAM_POLICY?",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: no such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"--config .*: a folder"):
        load_settings(tmp_path)


@pytest.mark.parametrize("name", ["seen_actions", "recommend_on"])
def test_an_action_that_is_not_defined_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{name} names \['clik'\], which `actions` does not define"
    ):
        load_settings(**{name: ("clik",)})


def test_sasl_without_credentials_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SASL_SSL needs sasl_username and sasl_password"):
        load_settings(security_protocol="SASL_SSL")


def test_a_password_is_never_shown() -> None:
    settings = load_settings(security_protocol="SASL_SSL", sasl_username="u", sasl_password="hunter2")
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(security_protocol="SASL_SSL", sasl_password="hunter2")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="sasl_password") as mistyped:
        load_settings(sasl_password=["hunter2"])
    assert "hunter2" not in str(mistyped.value)


@given(name=st.sampled_from(["topic_prefix", "group_id"]), text=st.text(min_size=1, max_size=8))
def test_names_that_kafka_would_refuse_are_refused(name: str, text: str) -> None:
    allowed = all(c.isascii() and (c.isalnum() or c in "._-") for c in text)
    if allowed:
        assert getattr(load_settings(**{name: text}), name) == text
    else:
        with pytest.raises(ConfigurationError, match=name):
            load_settings(**{name: text})


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"policy": "thompson-logistic", "learn_from": "reward"}, "learn_from must be 'response' for policy"),
        (
            {"policy": "rl", "learn_from": "reward"},
            "learn_from must be 'response' for policy 'rl', got 'reward'",
        ),
        ({"policy": "thompson-logistic", "click_model": "cascade"}, "click_model must be 'position' for"),
        ({"click_model": "cascade", "position_bias": "learned"}, "position_bias must be 0 for click_model"),
        ({"dwell_half_ms": {"stay": 1}}, r"dwell_half_ms names \['stay'\]"),
        ({"attribution_windows_ms": {"buy": 1}}, r"attribution_windows_ms names \['buy'\]"),
    ],
)
def test_settings_of_learning_that_contradict_each_other_are_refused(
    values: dict[str, object], rule: str
) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        load_settings(**values)


@pytest.mark.parametrize("value", ["learned", "0.5", 1.0])
def test_position_bias_is_learned_or_a_number(monkeypatch: pytest.MonkeyPatch, value: str | float) -> None:
    monkeypatch.setenv("SLATESTREAM_POSITION_BIAS", str(value))
    assert str(load_settings().position_bias) == str(value)


def test_every_policy_that_a_worker_serves_is_described() -> None:
    described = set(re.findall(r"[a-z-]+", Settings.model_fields["policy"].description or ""))
    assert [name for name, policy in REGISTRY.items() if policy.served and name not in described] == []
