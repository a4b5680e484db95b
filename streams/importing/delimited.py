"""Text files with a separator between values, as tables: CSV, TSV, RecBole's and MovieLens' files."""

import csv
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.importing.faults import FileError, RowFault
from streams.importing.lines import MAX_LINE, Bad, Lines, Row, open_binary, take_bad, whole

MAX_LINES = 200
"""Of one row whose values are quoted."""
SEPARATORS = ("\t", "::", ",", ";", "|")
QUOTED = (",", ";")  # elsewhere a quotation mark is a letter
NAMES = {"\t": "tabs", "::": "::", ",": "commas", ";": "semicolons", "|": "|"}
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")
"""What Excel writes before the header, to say what is between columns."""
ATOMIC = (".inter", ".item", ".user")

# MovieLens' files without a header: the file's name, its separator, its columns.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
MOVIELENS: dict[str, tuple[str, tuple[str, ...]]] = {
    "u.data": ("\t", ("user_id", "item_id", "rating", "timestamp")),
    "u.user": ("|", ("user_id", "age", "gender", "occupation", "zip_code")),
    "u.item": ("|", ("item_id", "title", "release_date", "video_release_date", "url", *GENRES)),
    "ratings.dat": ("::", ("user_id", "item_id", "rating", "timestamp")),
    "movies.dat": ("::", ("item_id", "title", "genre")),
    "users.dat": ("::", ("user_id", "gender", "age", "occupation", "zip_code")),
}


@dataclass
class Delimited:
    """CSV, TSV, RecBole's atomic files, MovieLens': a row a line, or several where values are quoted."""

    path: Path
    columns: list[str]
    separator: str
    encoding: str
    has_header: bool
    types: dict[str, str] = field(default_factory=dict)  # RecBole's, by column
    begins: int = 1  # the line of the header, or of the first row
    _share: float = 0.0

    @property
    def about(self) -> str:
        """Format of the file in a few words."""
        kind = "RecBole" if self.types else "MovieLens" if not self.has_header else "text"
        return f"{kind}, values between {NAMES.get(self.separator, repr(self.separator))}" + (
            "" if self.encoding == "utf-8" else f", read as {self.encoding}"
        )

    @property
    def layout(self) -> list[str]:
        """See `Table`."""
        return [self.separator, self.encoding, *self.columns]

    def rows(self) -> Iterator[Row | Bad]:
        """Yield the rows after the header; see `Table`."""
        file, raw = open_binary(self.path)
        size = max(os.fstat(raw.fileno()).st_size, 1)
        with raw, file, whole(self.path):
            lines = Lines(file, self.encoding)
            for _ in range(1, self.begins):
                next(iter(lines), None)
            rows = self._quoted(lines) if self.separator in QUOTED else self._plain(lines)
            if self.has_header:
                next(rows, None)
                lines.bad.clear()
            for count, row in enumerate(rows):
                if count % 256 == 0:
                    self._share = raw.tell() / size
                yield from take_bad(lines.bad)
                yield self._checked(row)
            yield from take_bad(lines.bad)
        self._share = 1.0

    def done(self) -> float:
        """See `Table`."""
        return self._share

    def _checked(self, row: Row | Bad) -> Row | Bad:
        if len(row) == 2 and len(row[1]) != len(self.columns):
            text = f"the row has {len(row[1])} values, the header {len(self.columns)}"
            return row[0], RowFault("columns", text), list(row[1])
        return row

    def _plain(self, lines: Lines) -> Iterator[Row | Bad]:
        separator = self.separator
        for line in lines:
            if stripped := line.rstrip("\r\n"):
                yield lines.number, stripped.split(separator)

    def _quoted(self, lines: Lines) -> Iterator[Row | Bad]:
        csv.field_size_limit(MAX_LINE)
        feed = _Feed(lines)
        reader = csv.reader(feed, delimiter=self.separator)
        while True:
            feed.taken.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                number, line = feed.give_back()
                yield number, RowFault("quotes", f"{error}: is a quotation mark not closed?"), line.rstrip()
                continue
            if row:
                yield feed.taken[0][0], row


class _Feed:
    """The lines of quoted rows: what a quotation mark that is never closed has swallowed can be read again.

    Attributes
    ----------
    taken : the lines of the row that is being read, with their numbers
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self._source = lines
        self._again: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_LINES:
            raise csv.Error(f"the row has more than {MAX_LINES} lines")
        if self._again:
            self.taken.append(self._again.popleft())
        else:
            try:
                line = next(self._lines)
            except StopIteration:
                if self.taken:
                    raise csv.Error("the file ends within the row") from None
                raise
            self.taken.append((self._source.number, line))
        return self.taken[-1][1]

    def give_back(self) -> tuple[int, str]:
        """Return the first line of the row; the others are given once more, as rows of their own."""
        self._again.extendleft(reversed(self.taken[1:]))
        return self.taken[0]


def open_delimited(
    path: Path, text: str, encoding: str, separator: str | None, names: Sequence[str] | None
) -> Delimited:
    """Return a text file as a table, by its first line and, where it has no header, by its name.

    Parameters
    ----------
    text : what the file begins with
    separator : between values; found when None
    names : columns of a file without a header

    Raises
    ------
    FileError
        If its first line is no header, or nothing is between its values.
    """
    told = SEPARATOR_LINE.match(text)
    if told is not None:
        separator, text = separator or told[1], text[told.end() :]
    begins = 1 if told is None else 2
    first, _, rest = text.partition("\n")
    if "\r" in first.rstrip("\r"):
        raise FileError(f"{path} has lines that end with CR alone: convert it, as `tr '\\r' '\\n'` does")
    if len(first) > MAX_LINE // 8 and not rest:
        raise FileError(f"{path} line 1 has no end in its first {len(text):,} letters: it is no table")
    known = MOVIELENS.get(path.name.removesuffix(".gz"))
    if known is not None and names is None and not _named(first):
        return Delimited(path, list(known[1]), separator or known[0], encoding, has_header=False)
    atomic = path.suffixes and path.with_suffix("" if path.suffix == ".gz" else path.suffix).suffix in ATOMIC
    separator = separator or ("\t" if atomic else _separator(path, first))
    if names is not None:
        return Delimited(path, list(names), separator, encoding, has_header=False, begins=begins)
    header = first.rstrip("\r\n")
    try:
        parsed = (
            next(csv.reader([header], delimiter=separator))
            if separator in QUOTED
            else header.split(separator)
        )
    except csv.Error as error:
        raise FileError(f"{path} line 1 is no header: {error}") from None
    types = dict(name.split(":", 1) for name in parsed if re.fullmatch(r"[^:]+:(token|float)(_seq)?", name))
    columns = [
        name.split(":", 1)[0].strip() if name.split(":", 1)[0] in types else name.strip() for name in parsed
    ]
    _check_header(path, columns, first)
    return Delimited(path, columns, separator, encoding, has_header=True, types=types, begins=begins)


def _named(first: str) -> bool:
    """Tell whether a MovieLens file has got a header after all."""
    return re.search(r"user_?id|item_?id|movie_?id", first, re.IGNORECASE) is not None


def _separator(path: Path, first: str) -> str:
    best = max(SEPARATORS, key=first.count)
    if not first.count(best):
        raise FileError(
            f"{path} line 1 is one value, {first.strip()[:60]!r}: no tab, comma, semicolon, | or :: is "
            "between columns; say --separator, if there is another"
        )
    return best


def _check_header(path: Path, columns: list[str], first: str) -> None:
    numbers = [name for name in columns if re.fullmatch(r"-?\d+(\.\d+)?", name)]
    if numbers and 2 * len(numbers) >= len(columns):
        raise FileError(
            f"{path} line 1 is no header but values, {first.strip()[:60]!r}: name its {len(columns)} "
            "columns, such as --columns user_id,item_id,rating,timestamp"
        )
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise FileError(f"{path} line 1 has the column {twice[0]!r} more than once")
