"""Files as tables: columns by name, and rows with the lines they stand on, read one by one."""

import contextlib
import csv
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from streams.errors import SlatestreamError
from streams.events import UNDECODABLE
from streams.importing.faults import FileError, RowFault
from streams.importing.lines import MAX_LINE, Lines, encoding_of, head, open_binary

SAMPLE = 2_000
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

Row: TypeAlias = tuple[int, Sequence[Any]]
Bad: TypeAlias = tuple[int, RowFault, Any]


class Table(Protocol):
    """A file that can be read from its beginning, again and again."""

    path: Path
    columns: list[str]

    @property
    def about(self) -> str:
        """Format of the file in a few words."""

    @property
    def layout(self) -> list[str]:
        """The layout of the columns: their order, and the separator."""

    def rows(self) -> Iterator[Row | Bad]:
        """Yield line and values of each row, in the order of `columns`; of a bad one line, fault and text."""

    def done(self) -> float:
        """Return which share of the file the running `rows` has read."""


def sample(table: Table) -> list[Sequence[Any]]:
    """Return the values of the first good rows."""
    good = (row[1] for row in table.rows() if len(row) == 2)
    return list(islice(good, SAMPLE))


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
        with raw, file, _whole(self.path):
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
                yield from _taken(lines.bad)
                yield self._checked(row)
            yield from _taken(lines.bad)
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


@dataclass
class JsonLines:
    """A JSON object a line."""

    path: Path
    columns: list[str]
    encoding: str
    about: str = "JSON lines"
    _share: float = 0.0

    @property
    def layout(self) -> list[str]:
        """See `Table`: a value has its column's name beside it."""
        return [self.encoding]

    def rows(self) -> Iterator[Row | Bad]:
        """Yield the objects' values; None where an object has no such field; see `Table`."""
        file, raw = open_binary(self.path)
        size = max(os.fstat(raw.fileno()).st_size, 1)
        columns, decode = self.columns, msgspec.json.Decoder(dict[str, Any]).decode
        with raw, file, _whole(self.path):
            lines = Lines(file, self.encoding)
            for line in lines:
                yield from _taken(lines.bad)
                if lines.number % 256 == 0:
                    self._share = raw.tell() / size
                if not line.strip():
                    continue
                try:
                    values = decode(line)
                except UNDECODABLE as error:
                    yield lines.number, RowFault("json", str(error)), line.rstrip("\r\n")
                    continue
                yield lines.number, [values.get(name) for name in columns]
            yield from _taken(lines.bad)
        self._share = 1.0

    def done(self) -> float:
        """See `Table`."""
        return self._share


@dataclass
class Parquet:
    """A Parquet file; its lines are its rows, from 1."""

    path: Path
    columns: list[str]
    about: str = "Parquet"
    _share: float = 0.0

    @property
    def layout(self) -> list[str]:
        """See `Table`: the file itself says it."""
        return []

    def rows(self) -> Iterator[Row | Bad]:
        """Yield the rows, a batch of a row group at a time; see `Table`."""
        with _parquet(self.path) as file, _whole(self.path):
            total, line = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(batch_size=5_000, columns=self.columns, use_threads=False):
                for values in zip(*(_values(column) for column in batch.columns), strict=True):
                    line += 1
                    yield line, values
                self._share = line / total

    def done(self) -> float:
        """See `Table`."""
        return self._share


def open_table(path: Path, *, separator: str | None = None, names: Sequence[str] | None = None) -> Table:
    """Return a file as a table, by what it begins with and, where it has no header, by its name.

    Parameters
    ----------
    separator
        Between values; found when None.
    names
        Columns of a file without a header; one that names them itself is refused.

    Raises
    ------
    FileError
        If it cannot be read as any kind of table.
    """
    begin = head(path)
    if begin.startswith(b"PAR1"):
        _refuse_names(path, names)
        with _parquet(path) as file:
            return Parquet(path, list(file.schema_arrow.names))
    if path.suffix == ".parquet":
        raise FileError(f"{path} is no Parquet file: it does not begin with PAR1")
    encoding = encoding_of(path, begin)
    text = begin.decode(encoding, errors="replace").removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        _refuse_names(path, names)
        return _json_lines(path, encoding)
    if text.lstrip().startswith("[") and "{" in text[:200]:
        raise FileError(f"{path} is one JSON array: write an object a line, as `jq -c '.[]'` does")
    return _delimited(path, text, encoding, separator, names)


def _refuse_names(path: Path, names: Sequence[str] | None) -> None:
    if names is not None:
        raise FileError(f"--columns {','.join(names)}: {path} names its columns itself")


def _json_lines(path: Path, encoding: str) -> JsonLines:
    file, raw = open_binary(path)
    columns: dict[str, None] = {}
    with raw, file, _whole(path):
        for line in islice(Lines(file, encoding), SAMPLE):
            try:
                columns |= dict.fromkeys(msgspec.json.decode(line, type=dict[str, Any]))
            except UNDECODABLE:
                continue
    return JsonLines(path, list(columns), encoding)


def _delimited(
    path: Path, text: str, encoding: str, separator: str | None, names: Sequence[str] | None
) -> Delimited:
    told = SEPARATOR_LINE.match(text)
    if told is not None:
        separator, text = separator or told[1], text[told.end() :]
    begins = 1 if told is None else 2
    first, _, rest = text.partition("\n")
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
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise FileError(f"{path} line 1 has the column {twice[0]!r} more than once")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Name the file that turns out to be damaged while it is read."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, ArithmeticError) as error:
        raise FileError(f"{path} is damaged, and cannot be read to its end: {error}") from None


def _taken(bad: list[Bad]) -> list[Bad]:
    taken = bad[:]
    bad.clear()
    return taken


def _values(column: Any) -> list[Any]:
    """Return a column's values; times to the microsecond, which is what Python's have."""
    if str(column.type).startswith("timestamp[ns"):
        from pyarrow import timestamp

        column = column.cast(timestamp("us", column.type.tz), safe=False)
    found: list[Any] = column.to_pylist()
    return found


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import lib, parquet
    except ModuleNotFoundError:
        raise SlatestreamError(
            f"{path} is a Parquet file, which pyarrow reads: pip install 'slatestream[import]'"
        ) from None
    try:
        return parquet.ParquetFile(path, pre_buffer=False)
    except (OSError, lib.ArrowException) as error:
        raise FileError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
