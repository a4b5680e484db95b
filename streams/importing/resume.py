"""Saves the progress of an import in a small file beside the data, until it is complete."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from streams.events import UNDECODABLE
from streams.importing.faults import FileError

SUFFIX = ".slatestream-import"


class Place(msgspec.Struct):
    """Progress of a file: how many of its records were published, with which choices and to which topic."""

    published: int
    made_by: dict[str, Any]


class Resume:
    """Keeps the place of one file's import.

    Parameters
    ----------
    made_by
        Whatever decides which records come in which order, and where to: another one's place means nothing.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        self._path = path.with_name(path.name + SUFFIX)
        # As it looks when it has been read again: tuples are lists then.
        self._made_by = msgspec.json.decode(msgspec.json.encode(made_by))

    @property
    def path(self) -> Path:
        """The file that keeps it."""
        return self._path

    def published(self) -> int:
        """Return how many records were published before; 0 when nothing is known.

        Raises
        ------
        FileError
            When an import of this file stands half done that was another one.
        """
        try:
            place = msgspec.json.decode(self._path.read_bytes(), type=Place)
        except FileNotFoundError:
            return 0
        except (OSError, *UNDECODABLE) as error:
            raise FileError(f"{self._path} cannot be read: {error}; --restart begins anew") from None
        for name, value in self._made_by.items():
            if place.made_by.get(name) != value:
                raise FileError(
                    f"{self._path} is of an import that was interrupted after {place.published:,} records, "
                    f"with another {name} ({place.made_by.get(name)!r}, now {value!r}): go on with "
                    "that one, or say --restart to begin anew"
                )
        return place.published

    def keep(self, published: int) -> None:
        """Write down how many were published; a folder that cannot be written to keeps nothing."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            fresh.write_bytes(msgspec.json.encode(Place(published, self._made_by)))
            os.replace(fresh, self._path)
        except OSError:
            return

    def forget(self) -> None:
        """Remove the file: the import is through, or is to begin anew."""
        self._path.unlink(missing_ok=True)
