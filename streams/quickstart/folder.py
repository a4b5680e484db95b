"""The folder of a quickstart: its broker's log, its release, and how far it has come."""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.errors import SlatestreamError
from streams.events import UNDECODABLE

NAME = "quickstart.json"
LOCK = ".lock"
WORDS = {
    "files": "other files",
    "columns": "other columns",
    "layout": "columns in another order, or with something else between them",
    "choices": "other options",
}


class Kept(msgspec.Struct):
    """Progress of a quickstart, as kept in its folder.

    Attributes
    ----------
    id : of its broker, which no other quickstart has
    asked : what was to be read, and how
    imported : whether all of it is in the topics
    trained : how the release was, "quick" or "full"; None without one
    events, items : how many there are
    first_ms : time of the earliest event
    user : the id of a user who came often, for the examples
    """

    id: str
    asked: dict[str, Any]
    imported: bool = False
    trained: str | None = None
    events: int = 0
    items: int = 0
    first_ms: int = 0
    user: str | None = None


class Folder:
    """A folder that is ours alone while it is open."""

    def __init__(self, path: Path, kept: Kept, *, stale: Sequence[Path] = ()) -> None:
        self.path = path
        self.kept = kept
        self._stale = stale  # of an earlier quickstart, until there is something to take its place

    @property
    def broker(self) -> Path:
        """Folder of the broker's log."""
        return self.path / "kafka"

    @property
    def release(self) -> Path:
        """Folder of the trained release."""
        return self.path / "release"

    @property
    def store(self) -> Path:
        """Releases that a running worker changes over to."""
        return self.path / "releases"

    @property
    def worker_log(self) -> Path:
        """File of the worker's output."""
        return self.path / "worker.log"

    def keep(self, **changed: Any) -> None:
        """Change what is kept, and write it down: whole or not at all.

        What an earlier quickstart left is removed first, its own note last: who is killed meanwhile may begin
        anew again.
        """
        for one in sorted(self._stale, key=lambda path: path.name == NAME):
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
        self._stale = ()
        self.kept = msgspec.structs.replace(self.kept, **changed)
        fresh = self.path / f"{NAME}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.kept)) + b"\n")
        os.replace(fresh, self.path / NAME)


@contextlib.contextmanager
def open_folder(path: Path, asked: Mapping[str, Any], *, restart: bool = False) -> Iterator[Folder]:
    """Open the folder of a quickstart, new or one to go on with; a new one is nobody's before `keep`.

    Parameters
    ----------
    asked
        What is to be read, and how: a folder that holds something else is refused.
    restart
        Remove what an earlier quickstart left there.

    Raises
    ------
    SlatestreamError
        If another quickstart uses it, it holds something else, or it cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("w")
    except OSError as error:
        raise SlatestreamError(f"--folder {path}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SlatestreamError(
                f"another quickstart runs in {path}: stop it, or name another folder with --folder"
            ) from None
        # As it looks when it has been read again: tuples are lists then.
        yield _open(path, msgspec.json.decode(msgspec.json.encode(asked)), restart=restart)


def _open(path: Path, asked: dict[str, Any], *, restart: bool) -> Folder:
    kept = _read(path / NAME) if not restart else None
    inside = [one for one in path.iterdir() if one.name not in (LOCK, f"{NAME}.new")]
    if kept is None:
        if inside and not (path / NAME).exists():
            raise SlatestreamError(
                f"--folder {path} must be empty or a quickstart's, and holds {inside[0].name}: name another"
            )
        return Folder(path, Kept(uuid.uuid4().hex, asked), stale=inside)
    for name, value in asked.items():
        if (before := kept.asked.get(name, {})) != value:
            raise SlatestreamError(
                f"{path} holds a quickstart of {WORDS.get(name, name)} ({_less(before, value)}, now "
                f"{_less(value, before)}): --restart removes it and begins anew, --folder names another"
            )
    return Folder(path, kept)


def _read(path: Path) -> Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, *UNDECODABLE) as error:
        raise SlatestreamError(f"{path} cannot be read: {error}; --restart begins anew") from None


def _less(value: dict[str, Any], other: dict[str, Any]) -> str:
    """Write down what is in one and not so in the other."""
    own = {name: one for name, one in value.items() if name not in other or other[name] != one}
    return msgspec.json.encode(own).decode()
