"""The lines of a text file, none longer than memory should bear, each with its number."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from streams.importing.faults import FileError, RowFault

MAX_LINE = 1024 * 1024
HEAD = 256 * 1024
CHUNK = 64 * 1024
GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How a text begins that Excel saved as Unicode text."""
KNOWN = {
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it, or compress it with gzip",
    b"BZh": "is compressed with bzip2: unpack it, or compress it with gzip",
    b"\xfd7zXZ": "is compressed with xz: unpack it, or compress it with gzip",
    b"SQLite format 3": "is an SQLite database: export its table as CSV",
}

Row: TypeAlias = tuple[int, Sequence[Any]]
"""The line of a row, and its values."""
Bad: TypeAlias = tuple[int, RowFault, Any]
"""The line of a bad row, its fault, and its text or values."""


def open_binary(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """Open a file; return it, and the file on the disk, whose place counts.

    What gzip has packed is unpacked, and UTF-16 with a byte order mark is UTF-8.

    Raises
    ------
    FileError
        If it is missing, a folder, or not to be read.
    """
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        hint = f": name its files, such as {path / inside[0]}" if inside else ", and an empty one"
        raise FileError(f"{path} is a folder{hint}")
    try:
        raw = path.open("rb")
        packed = raw.read(2) == GZIP
        raw.seek(0)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    is_wide = _begins(raw, packed=packed) in UTF_16
    file = _unpacked(raw) if packed else raw
    return (cast(IO[bytes], io.BufferedReader(_Utf8(file), CHUNK)) if is_wide else file), raw


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw))


def _begins(raw: IO[bytes], *, packed: bool) -> bytes:
    """Return the first two bytes of a text; none of what is damaged, which reading it will tell."""
    try:
        return (_unpacked(raw) if packed else raw).read(2)
    except (OSError, EOFError, zlib.error):
        return b""
    finally:
        raw.seek(0)


class _Utf8(io.RawIOBase):
    """A text in UTF-16 as UTF-8; what is no letter is U+FFFD."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-16")("replace").decode
        self._left = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return with how many bytes."""
        part = b"\0"
        while part and not self._left:
            part = self._file.read(CHUNK)
            self._left = self._decode(part, not part).encode()
        taken = self._left[: len(buffer)]
        buffer[: len(taken)], self._left = taken, self._left[len(taken) :]
        return len(taken)


def head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked.

    Raises
    ------
    FileError
        If it is empty, or of a kind that is not read.
    """
    file, raw = open_binary(path)
    with raw, file:
        try:
            begin = file.read(HEAD)
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"{path} cannot be unpacked: {error}") from None
    if not begin.strip(b" \t\r\n" + BOM):
        raise FileError(f"{path} is empty")
    for magic, what in KNOWN.items():
        if begin.startswith(magic):
            raise FileError(f"{path} {what}")
    return begin


def encoding_of(path: Path, begin: bytes) -> str:
    """Return utf-8, or cp1252 for a text that is none: what Windows and the older MovieLens write.

    Raises
    ------
    FileError
        If it is no text.
    """
    if b"\0" in begin:
        for places, name in ((begin[1::2], "UTF-16LE"), (begin[::2], "UTF-16BE")):
            if 2 * places.count(0) > len(places):
                raise FileError(
                    f"{path} seems to be {name} without a byte order mark: convert it, as "
                    f"`iconv -f {name} -t UTF-8 {path.name}` does"
                )
        raise FileError(
            f"{path} is binary: CSV, TSV, JSON lines, Parquet, RecBole's and MovieLens' files are read"
        )
    try:
        begin.decode()
    except UnicodeDecodeError as error:
        if len(begin) < HEAD or error.start < len(begin) - 4:  # else a letter is cut in two at the end
            return "cp1252"
    return "utf-8"


class Lines:
    """Iterates over the lines of an open file; what is no line to use is put aside.

    Attributes
    ----------
    number : int
        Of the last line, from 1.
    first : int
        Of the first line that was given since somebody set this to 0.
    bad : list of (int, RowFault, str)
        Lines put aside since somebody emptied the list: number, why, and how it begins.
    """

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self.number = 0
        self.first = 0
        self.bad: list[tuple[int, RowFault, str]] = []

    def __iter__(self) -> Iterator[str]:
        while raw := self._file.readline(MAX_LINE + 1):
            self.number += 1
            if len(raw) > MAX_LINE:
                size = len(raw) + self._pass_over(raw)
                fault = RowFault("too_long", f"the line has {size:,} bytes; at most {MAX_LINE:,} are read")
                self.bad.append((self.number, fault, raw[:80].decode(errors="replace")))
                continue
            if self.number == 1:
                raw = raw.removeprefix(BOM)
            try:
                line = raw.decode(self._encoding)
            except UnicodeDecodeError as error:
                fault = RowFault("encoding", f"byte {error.start + 1} of the line is no {self._encoding}")
                self.bad.append((self.number, fault, raw[:80].decode(errors="replace")))
                continue
            self.first = self.first or self.number
            yield line

    def _pass_over(self, part: bytes) -> int:
        """Go to the line's end without keeping it; return how many bytes that was."""
        size = 0
        while part and not part.endswith(b"\n"):
            part = self._file.readline(MAX_LINE)
            size += len(part)
        return size


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Name the file that turns out to be damaged while it is read."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, ArithmeticError) as error:
        raise FileError(f"{path} is damaged, and cannot be read to its end: {error}") from None


def take_bad(bad: list[Bad]) -> list[Bad]:
    """Return the bad rows found so far, and empty the list."""
    taken = bad[:]
    bad.clear()
    return taken
