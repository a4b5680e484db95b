"""Fixtures for the whole suite: one real Kafka broker a test session, fresh topics a test."""

import gc
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import admin_client, create_topics
from streams.kafka.topics import TOPICS, topic_name
from streams.settings import ENV_PREFIX, Settings, load_settings
from tests.once import once_a_run

# Shared checks assert outside test modules; rewritten, their failures show the values.
pytest.register_assert_rewrite(
    "tests.policy_checks", "tests.propensity_checks", "tests.scorer_checks", "tests.unheard"
)

# The same examples every run; no deadline, as the first call of compiled code takes its time.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")

SettingsFactory = Callable[..., Settings]

# Run side by side, the files that wait longest begin first: no core is left idle at the end by a long one.
LONG = ("tests/e2e/", "tests/deploy/", "tests/streams/commands/", "tests/model_core/", "tests/streams/bench/")


def pytest_configure() -> None:
    """Let SIGINT end what tests start, even where a shell's background has the whole suite ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart() -> None:
    """Look for no garbage while tests are collected: they and what they import stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let garbage be looked for less often, and not in what stays: all tests and what they import."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of long tests first, in the order of `LONG`; within a file nothing moves."""

    def place(item: pytest.Item) -> int:
        return next((at for at, part in enumerate(LONG) if item.nodeid.startswith(part)), len(LONG))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not decide a test."""
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX) or name == "KAFKA_BOOTSTRAP_SERVERS":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """A running Kafka broker, shared by the session: do not stop it, and keep to your own topics."""
    with EmbeddedBroker() as running:
        yield running


def settings_maker(broker: EmbeddedBroker) -> SettingsFactory:
    """Return what makes settings of a broker with a topic prefix and a group that nobody else has."""
    unique = f"t{uuid.uuid4().hex[:12]}"

    def make(**overrides: object) -> Settings:
        fresh = {
            "bootstrap_servers": broker.bootstrap_servers,
            "topic_prefix": f"{unique}.",
            "group_id": unique,
            "http_port": 0,
        }
        return load_settings(**(fresh | overrides))

    return make


@contextmanager
def with_topics(settings: Settings) -> Iterator[Settings]:
    """Make the topics of some settings, and delete them at the end."""
    create_topics(settings)
    yield settings
    with admin_client(settings) as admin:
        admin.delete_topics([topic_name(settings, name) for name in TOPICS])


@pytest.fixture
def make_settings(broker: EmbeddedBroker) -> SettingsFactory:
    """Makes settings of the session's broker with a topic prefix and a group of this test alone."""
    return settings_maker(broker)


@pytest.fixture
def kafka_settings(make_settings: SettingsFactory) -> Iterator[Settings]:
    """Settings whose topics exist, empty, and are deleted after the test."""
    with with_topics(make_settings()) as settings:
        yield settings


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release of random weights that knows i0 to i299; nobody may change it."""

    def make(folder: Path) -> None:
        # Only where it is asked for: PyTorch takes seconds.
        from model_core.network.config import ModelConfig
        from streams.bench.world import random_release

        config = ModelConfig(
            dim=16, layers=1, history_length=8, n_neighbours=4, n_affinities=4, feature_dim=12
        )
        random_release(folder, known=300, config=config)

    return once_a_run(tmp_path_factory, "random-weights", make)
