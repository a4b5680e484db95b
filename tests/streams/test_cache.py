"""A machine that cannot be written to is served all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams import cache

ROOT = Path(__file__).resolve().parents[2]
COMPILE = (
    "from streams.cache import keep_kernels_writable; keep_kernels_writable();"
    "from online_learning.sampling_kernels import mixed_32;"
    "print(hex(mixed_32(1)));"
    "import os; print(os.environ.get('NUMBA_CACHE_DIR', 'beside'))"
)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    cache.writable_folder.cache_clear()
    cache._temporary.cache_clear()


def compiled(**environment: str) -> tuple[str, str]:
    """Compile a kernel in a process of its own: its result, and where it is kept."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    result, where = done.stdout.splitlines()
    return result, where + done.stderr


def test_kernels_are_kept_beside_their_sources() -> None:
    result, where = compiled()
    assert (result, where) == ("0x514e28b7", "beside")


def test_kernels_that_cannot_be_kept_where_they_should_be_are_kept_in_the_cache_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    result, where = compiled(NUMBA_CACHE_DIR=str(tmp_path / "file" / "x"), XDG_CACHE_HOME=str(tmp_path))
    assert (result, where) == ("0x514e28b7", str(tmp_path / "slatestream" / "kernels"))
    assert list((tmp_path / "slatestream" / "kernels").rglob("*.nbc"))


def test_without_any_place_kernels_are_kept_until_the_process_ends_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file")
    result, where = compiled(NUMBA_CACHE_DIR=nowhere, XDG_CACHE_HOME=nowhere, TMPDIR=str(tmp_path))
    assert result == "0x514e28b7"
    assert where.startswith(str(tmp_path / "slatestream-"))
    assert "kernels cannot be written (Not a directory): " in where


def test_kernels_that_were_compiled_before_are_taken_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they were beside their sources, and where a folder was said."""
    compiled()
    beside = ROOT / "online_learning" / "__pycache__"
    kept = {kernel.name for kernel in beside.glob("sampling_kernels.*.nb[ci]")}
    assert kept
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "unwritable", lambda folder: None if tmp_path in folder.parents else "no room")
    cache.keep_kernels_writable()
    first = Path(os.environ["NUMBA_CACHE_DIR"])
    monkeypatch.setattr(cache, "unwritable", lambda folder: None if folder == again else "no room")
    cache.writable_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    again = tmp_path / "other" / "slatestream" / "kernels"
    cache.keep_kernels_writable()
    assert Path(os.environ["NUMBA_CACHE_DIR"]) == again
    for place in (first, again):
        (folder,) = place.glob("online_learning_*")
        assert kept <= {kernel.name for kernel in folder.iterdir()}
        made = {kernel: kernel.stat().st_mtime_ns for kernel in place.rglob("*.nbi")}
        assert compiled(NUMBA_CACHE_DIR=str(place))[0] == "0x514e28b7"
        assert made == {kernel: kernel.stat().st_mtime_ns for kernel in place.rglob("*.nbi")}


def test_a_folder_that_can_be_written_stays_the_one(tmp_path: Path) -> None:
    assert cache.writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_user_without_a_home_has_a_folder_until_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)  # whom the system does not know
    with pytest.raises(RuntimeError):
        Path.home()
    folder = cache.cache_folder()
    assert cache.cache_folder() == folder == cache.writable_folder(folder)
    assert folder.is_dir()
