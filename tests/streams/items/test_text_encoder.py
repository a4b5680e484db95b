"""Where a worker's text encoder comes from: its release, or an export made once on the machine."""

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.release.baseline import BaselineScorer
from model_core.release.folder import Release
from streams import cache
from streams.cache import cache_folder
from streams.errors import ConfigurationError
from streams.items.text_encoder import named_encoder, open_text_encoder
from streams.settings import Settings
from tests.tiny_encoder import exported, write_tiny_encoder

TEXTS = ["space robots part 1", "love letters"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache.writable_folder.cache_clear()
    yield
    cache.writable_folder.cache_clear()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_encoder(folder)
    return folder


def exports() -> list[Path]:
    return sorted((cache_folder() / "text-encoders").iterdir())


def released(name: str, fingerprint: str, *, carries: bool) -> Release:
    return replace(
        BaselineScorer().release,
        text_encoder=name,
        text_encoder_fingerprint=fingerprint,
        carries_text_encoder=carries,
    )


def test_an_encoder_is_exported_once_and_read_from_then_on(tiny: Path, tmp_path: Path) -> None:
    first = named_encoder(str(tiny))
    (folder,) = exports()
    made = (folder / "text_encoder.onnx").stat().st_mtime_ns
    np.testing.assert_array_equal(named_encoder(str(tiny)).encode(TEXTS), first.encode(TEXTS))
    assert exports() == [folder]
    assert (folder / "text_encoder.onnx").stat().st_mtime_ns == made
    np.testing.assert_array_equal(exported(str(tiny), tmp_path / "x").encode(TEXTS), first.encode(TEXTS))


def test_two_workers_that_export_at_once_both_get_it(tiny: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(named_encoder, [str(tiny)] * 2)
    np.testing.assert_array_equal(one.encode(TEXTS), other.encode(TEXTS))
    assert len(exports()) == 1


def test_a_damaged_export_is_made_again(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = named_encoder(str(tiny)).encode(TEXTS)
    (folder,) = exports()
    (folder / "text_encoder.onnx").write_bytes(b"cut off")
    np.testing.assert_array_equal(named_encoder(str(tiny)).encode(TEXTS), wanted)
    assert "exporting" in caplog.text
    assert "must be an ONNX graph that can be loaded" in caplog.text


def test_other_weights_in_the_same_folder_are_another_export(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "encoder"
    shutil.copytree(tiny, source)
    before = named_encoder(str(source))
    write_tiny_encoder(source, seed=1)
    assert named_encoder(str(source)).fingerprint != before.fingerprint
    assert len(exports()) == 2


def test_a_cache_that_cannot_be_written_is_replaced_for_the_time_being(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert named_encoder(str(tiny)).encode(TEXTS).shape == (2, 32)
    assert "text-encoders cannot be written (Not a directory): " in caplog.text


NEITHER = "it must be a folder that exists or a name on Hugging Face, and is neither"


@pytest.mark.parametrize(
    ("name", "why"), [("no/such-encoder", ".+"), ("/none/such", NEITHER), ("none such", NEITHER)]
)
def test_an_encoder_that_cannot_be_had_is_refused_with_its_name(name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"text_encoder: '{name}' cannot be exported: {why}"):
        open_text_encoder(Settings(text_encoder=name), BaselineScorer().release)
    assert exports() == []


def test_none_keeps_no_text_vectors() -> None:
    nothing = Settings(text_encoder="none")
    assert open_text_encoder(nothing, BaselineScorer().release) is None
    assert open_text_encoder(Settings(release=Path("r")), released("none", "", carries=False)) is None


def test_a_release_brings_its_own_encoder(tiny: Path, tmp_path: Path) -> None:
    own = exported(str(tiny), tmp_path / "release")
    settings = Settings(release=tmp_path / "release", text_encoder="none")
    found = open_text_encoder(settings, released("gone", own.fingerprint, carries=True))
    assert found is not None
    np.testing.assert_array_equal(found.encode(TEXTS), own.encode(TEXTS))
    assert not cache_folder().exists()


def test_a_release_without_one_has_it_exported_by_name(tiny: Path, tmp_path: Path) -> None:
    own = exported(str(tiny), tmp_path / "out")
    settings = Settings(release=tmp_path)
    found = open_text_encoder(settings, released(str(tiny), own.fingerprint, carries=False))
    assert found is not None
    assert found.fingerprint == own.fingerprint


@pytest.mark.parametrize("carries", [True, False])
def test_an_encoder_of_another_model_is_refused(tiny: Path, tmp_path: Path, carries: bool) -> None:
    exported(str(tiny), tmp_path / "release")
    settings = Settings(release=tmp_path / "release")
    with pytest.raises(ConfigurationError, match="must be the release's text encoder, with"):
        open_text_encoder(settings, released(str(tiny), "1", carries=carries))
