import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from kafka.admin import ConfigResource, ConfigResourceType

from model_core.release.folder import RANKER
from streams.kafka.topic_admin import admin_client
from streams.kafka.topics import topic_name
from streams.releases.changes import publish_change, read_changes
from streams.releases.live import live_release
from streams.releases.store import ReleaseStore, StoreUnreachable
from streams.settings import Settings
from tests.e2e.client import wait_until
from tests.streams.releases.made import variant


class Life:
    """A store of releases, which of them were promoted, and a worker that starts with both."""

    def __init__(self, settings: Settings, tiny: Path, tmp_path: Path) -> None:
        self.folder = tmp_path / "store"
        self.cache = tmp_path / "cache" / "slatestream" / "releases"
        self.settings = settings.model_copy(update={"release_store": str(self.folder)})
        self._tiny, self._made = tiny, tmp_path

    def promote(self, number: int, **made: Any) -> str:
        """Put a release into the store and promote it; return its version."""
        folder = self._made / f"made-{len(list(self._made.iterdir()))}"
        actions = {"view": 0.2, "like": 1.0 + number}
        release = variant(self._tiny, folder, gain=1.0 + number / 10, actions=actions, **made)
        version = ReleaseStore(str(self.folder)).put(release).version
        asyncio.run(publish_change(self.settings, "promote", version, by="ann"))
        return version

    def start(self) -> str | None:
        """Version that a worker serves that starts now; None for none."""
        live = asyncio.run(live_release(self.settings))
        assert live is not None
        assert live.settings.release is None or live.settings.release.name == live.scorer.release.version
        return None if live.settings.release is None else live.scorer.release.version

    def refused(self) -> list[tuple[str, str]]:
        """Versions that were refused, and why."""
        changes = asyncio.run(read_changes(self.settings))
        return [(change.version, change.reason) for change in changes if change.change == "refuse"]

    def writes_nothing(self) -> bool:
        """Whether the broker refuses a record of another worker."""
        try:
            asyncio.run(publish_change(self.settings, "refuse", "0" * 12, by="bob", reason="long" * 50))
        except KafkaError:
            return True
        return False


@pytest.fixture
def life(kafka_settings: Settings, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Life(kafka_settings, tiny, tmp_path)


def test_a_damaged_release_is_refused_once_and_the_one_before_serves(life: Life):
    first, second = life.promote(1), life.promote(2)
    (life.folder / second / RANKER).write_bytes(b"damaged")

    assert [life.start(), life.start()] == [first, first]
    ((refused, why),) = life.refused()
    assert (refused, "must have SHA-256" in why) == (second, True)

    life.promote(2)  # what is put again is mended
    (life.folder / second / RANKER).write_bytes(b"damaged")
    assert life.start() == first
    assert [version for version, _ in life.refused()] == [second, second]


def test_a_release_that_lacks_a_file_is_refused(life: Life):
    first, second = life.promote(1), life.promote(2)
    (life.folder / second / RANKER).unlink()

    assert life.start() == first
    assert life.refused() == [(second, f"release {second} in {life.folder} lacks {RANKER}")]


def test_a_store_that_is_away_is_no_fault_of_its_releases(life: Life):
    first = life.promote(1)
    assert life.start() == first
    second = life.promote(2)
    away = life.folder.rename(life.folder.with_name("away"))

    assert life.start() == first
    for copy in life.cache.iterdir():
        copy.rename(away / f"cached-{copy.name}")
    with pytest.raises(StoreUnreachable, match=f"release store {life.folder} is not there"):
        life.start()
    assert life.refused() == []

    away.rename(life.folder)
    assert life.start() == second


def test_a_release_that_was_trained_with_another_text_encoder_is_refused(life: Life):
    first = life.promote(1)
    second = life.promote(2, text_encoder={"name": "minilm", "fingerprint": "0123456789abcdef"})

    assert life.start() == first
    ((refused, why),) = life.refused()
    assert refused == second
    assert "must be the release's text encoder, with the fingerprint 0123456789abcdef" in why


def test_who_may_not_write_a_refusal_serves_all_the_same(life: Life, caplog: pytest.LogCaptureFixture):
    first, second = life.promote(1), life.promote(2)
    (life.folder / second / RANKER).write_bytes(b"damaged")
    topic = topic_name(life.settings, "model-releases")
    limit = {"max.message.bytes": "60"}
    with admin_client(life.settings) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=limit)])
    wait_until(life.writes_nothing, "the broker takes no record")

    assert life.start() == first
    assert second not in dict(life.refused())
    assert f"the refusal of release {second} is in this log only" in caplog.text


def test_without_a_store_or_beside_a_folder_nothing_is_asked_for(life: Life, tmp_path: Path):
    plain = life.settings.model_copy(update={"release_store": None, "bootstrap_servers": "nowhere:1"})
    chosen = plain.model_copy(update={"release_store": "nowhere", "release": tmp_path})

    for settings in (plain, chosen):
        assert asyncio.run(live_release(settings)) is None


def test_a_graph_that_does_not_load_is_refused_and_the_release_before_serves(life: Life):
    first, second = life.promote(1), life.promote(2, files={RANKER: b"signed, and no graph"})

    assert life.start() == first
    ((refused, why),) = life.refused()
    assert (refused, "must be an ONNX graph that can be loaded" in why) == (second, True)
