from collections.abc import Callable
from pathlib import Path

import pytest

from model_core.data.vocabulary import Vocabulary
from model_core.network.config import ModelConfig
from model_core.release import folder as files
from model_core.release.folder import write_manifest
from model_core.signals.config import SignalConfig
from tests.once import once_a_run
from tests.streams.releases.life import Life
from tests.streams.releases.made import train_tiny

MakeRelease = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with real graphs, which knows i0 to i59 and was trained on views and likes."""
    return once_a_run(tmp_path_factory, "tiny-release", train_tiny)


@pytest.fixture
def make_release(tmp_path: Path) -> MakeRelease:
    """Makes folders whose manifest vouches for what is in them: any bytes, told apart by `contents`."""

    def make(
        contents: bytes = b"1",
        *,
        actions: dict[str, float] | None = None,
        rows: int = 1000,
        text_encoder: tuple[str, str] = ("none", ""),
    ) -> Path:
        folder = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name in (files.ITEM_ENCODER, files.HISTORY, files.USER, files.MATCH, files.RANKER, files.EASE):
            (folder / name).write_bytes(name.encode() + contents)
        (folder / files.MAPPING).write_bytes(b"mapping")
        write_manifest(
            folder,
            config=ModelConfig(),
            actions=actions or {"view": 0.2, "like": 2.0},
            text_encoder=text_encoder,
            vocabulary=Vocabulary({}, {}, {}),
            signals=SignalConfig(),
            metrics={"slatestream": {"ndcg@10": 0.25}},
            training={"interactions": rows},
        )
        return folder

    return make


@pytest.fixture
def make_life(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Life]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda **settings: Life(tmp_path, tiny, **settings)
