"""Files as tables: columns by name, and rows with the lines they stand on, read one by one."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import msgspec

from streams.errors import SlatestreamError
from streams.events import UNDECODABLE
from streams.importing.delimited import open_delimited
from streams.importing.faults import FileError, RowFault
from streams.importing.lines import Bad, Lines, Row, encoding_of, head, open_binary, take_bad, whole

SAMPLE = 2_000


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
        with raw, file, whole(self.path):
            lines = Lines(file, self.encoding)
            for line in lines:
                yield from take_bad(lines.bad)
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
            yield from take_bad(lines.bad)
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
        with _parquet(self.path) as file, whole(self.path):
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
    return open_delimited(path, text, encoding, separator, names)


def _refuse_names(path: Path, names: Sequence[str] | None) -> None:
    if names is not None:
        raise FileError(f"--columns {','.join(names)}: {path} names its columns itself")


def _json_lines(path: Path, encoding: str) -> JsonLines:
    file, raw = open_binary(path)
    columns: dict[str, None] = {}
    with raw, file, whole(path):
        for line in islice(Lines(file, encoding), SAMPLE):
            try:
                columns |= dict.fromkeys(msgspec.json.decode(line, type=dict[str, Any]))
            except UNDECODABLE:
                continue
    return JsonLines(path, list(columns), encoding)


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
