"""Imports files: reads each, makes records of its rows, puts them in order and publishes them."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeAlias

from streams.importing.columns import KINDS, ColumnPlan, Told, make_plan
from streams.importing.faults import FileError, Refused
from streams.importing.options import Choices
from streams.importing.records import Record, make_maker, records
from streams.importing.resume import Resume
from streams.importing.tables import open_table
from streams.importing.time_order import TimeOrder
from streams.kafka.publish_rows import CHUNK, publish_rows
from streams.kafka.publisher import Publisher
from streams.kafka.topics import topic_name
from streams.settings import Settings

See: TypeAlias = Callable[[str, Record], None]
"""Is told of each record, and which topic it is for."""
READING = 0.4  # of the time that a file takes whose records are put in order


class Progress(Protocol):
    """Callback for the progress of an import."""

    def __call__(self, file: Path, step: str, share: float, records: int) -> None:
        """Take which share of the file is done, and how many records were made or published by now."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file with its plan, and in words what becomes of its fields."""

    plan: ColumnPlan
    told: dict[str, str]

    @property
    def path(self) -> Path:
        """The file."""
        return self.plan.table.path


@dataclass(slots=True)
class Outcome:
    """Result of importing one file.

    Attributes
    ----------
    records : that were made of its rows
    published : of these, now
    before : of these, by an import that was interrupted
    """

    source: Source
    refused: Refused
    records: int = 0
    published: int = 0
    before: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as one finds it with --json."""
        plan = self.source.plan
        return {
            "file": str(self.source.path),
            "format": plan.table.about,
            "topic": plan.kind,
            "columns": {**plan.fields, **plan.attributes},
            "how": self.source.told,
            "not_read": plan.unread,
            "records": self.records,
            "published": self.published,
            "published_before": self.before,
            "rejected": dict(self.refused.counts),
            "left_out": dict(self.refused.left_out),
            "examples": self.refused.examples,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Options:
    """Options of reading and publishing files; see the command.

    Attributes
    ----------
    columns : names by file or pattern of its name, such as *.dat; "" is for the only file
    cluster : what an interrupted import is known by, beside the topic; the bootstrap servers without
    """

    told: Told = ()
    kind: str | None = None
    separator: str | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sort: bool = True
    restart: bool = False
    dry_run: bool = False
    cluster: str | None = None


def plan_files(files: Sequence[Path], choices: Choices, options: Options) -> list[Source]:
    """Look at all files before anything is published, and return them in the order of the topics.

    Raises
    ------
    FileError
        If one cannot be imported or is named twice, or a column that somebody named is in none of them.
    """
    sources, met = [], set[str]()
    _check_columns(files, options.columns)
    for path in files:
        if (place := os.path.realpath(path)) in met:  # which resolve() does not find of a link to itself
            raise FileError(f"{path} is named twice, and its rows would count twice: name it once")
        met.add(place)
        table = open_table(path, separator=options.separator, names=_names_of(path, options.columns))
        plan = make_plan(table, told=options.told, kind=options.kind)
        _, told = make_maker(plan, choices)
        sources.append(Source(plan, told))
    for name, column in options.told:
        if not any(column in source.plan.table.columns for source in sources):
            columns = "; ".join(f"{one.path.name}: {', '.join(one.plan.table.columns)}" for one in sources)
            raise FileError(f"--map {name}={column}: no file has that column ({columns})")
    return sorted(sources, key=lambda source: KINDS.index(source.plan.kind))


def _names_of(path: Path, columns: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    return next((names for pattern, names in columns.items() if _is_for(pattern, path)), None)


def _is_for(pattern: str, path: Path) -> bool:
    return pattern in ("", str(path)) or fnmatch(path.name, pattern)


def _check_columns(files: Sequence[Path], columns: Mapping[str, Sequence[str]]) -> None:
    for pattern, names in columns.items():
        said = f"--columns {f'{pattern}=' if pattern else ''}{','.join(names)}"
        if not pattern and len(files) > 1:
            raise FileError(f"{said}: of which of {len(files)} files? Say --columns FILE=a,b,c")
        if not any(_is_for(pattern, path) for path in files):
            raise FileError(f"{said}: {pattern} is none of {', '.join(path.name for path in files)}")


async def import_files(
    settings: Settings,
    sources: Sequence[Source],
    choices: Choices,
    options: Options,
    *,
    progress: Progress,
    rejected: TextIO | None = None,
    see: See = lambda kind, record: None,
) -> list[Outcome]:
    """Publish what the files hold, one after the other; return what became of each.

    Each record is published at least once, whatever interrupts: what the broker has confirmed is
    written down until all files are through, and an import that is started again leaves that out. `see` is
    told of every record.
    """
    files = [
        _File(settings, Outcome(source, Refused(str(source.path), rejected)), choices, options, progress, see)
        for source in sources
    ]
    if not options.dry_run:
        for file in files:  # a file that is refused is refused before another is published
            file.look_back()
    async with _publisher(settings, options) as publisher:
        for file in files:
            await file.run(publisher)
    if not options.dry_run:
        for file in files:
            file.forget()
    return [file.outcome for file in files]


@contextlib.asynccontextmanager
async def _publisher(settings: Settings, options: Options) -> AsyncIterator[Publisher | None]:
    if options.dry_run:
        yield None
        return
    publisher = Publisher(settings)
    try:
        await publisher.start()
        yield publisher
    finally:
        await publisher.stop()


class _File:
    """The import of one file."""

    def __init__(
        self,
        settings: Settings,
        outcome: Outcome,
        choices: Choices,
        options: Options,
        progress: Progress,
        see: See,
    ) -> None:
        self._settings = settings
        self.outcome = outcome
        self._options = options
        self._source = outcome.source
        self._tell = progress
        self._see = see
        # Made anew for each pass: it knows which events this one has had.
        self._make, _ = make_maker(self._source.plan, choices)
        plan = self._source.plan
        self._sorts = options.sort and plan.kind == "clicks" and "timestamp" in plan.fields
        self._resume = Resume(self._source.path, self._made_by(choices, options.cluster))

    def _made_by(self, choices: Choices, cluster: str | None) -> dict[str, Any]:
        file, settings = self._source.path.stat(), self._settings
        said = asdict(choices)
        del said["latest_ms"], said["pseudonyms"]
        if choices.pseudonyms is not None:
            said["pseudonyms"] = choices.pseudonyms.key_id
        return {
            "cluster": cluster or settings.bootstrap_servers,
            "topic": topic_name(settings, self._source.plan.kind),
            "file": [file.st_size, file.st_mtime_ns],
            "columns": {**self._source.plan.fields, **self._source.plan.attributes},
            "layout": self._source.plan.table.layout,
            "order": self._sorts,
            "choices": said,
        }

    def look_back(self) -> None:
        """Find out what an interrupted import has published of it; FileError if that was another one."""
        if self._options.restart:
            self._resume.forget()
        self.outcome.before = self._resume.published()

    def forget(self) -> None:
        """Keep nothing of the import: it is through."""
        self._resume.forget()

    async def run(self, publisher: Publisher | None) -> None:
        """Read the file and publish it, or only read it without a publisher."""
        began = time.perf_counter()
        await self._run(publisher, self.outcome.before)
        self.outcome.seconds = time.perf_counter() - began

    async def _run(self, publisher: Publisher | None, before: int) -> None:
        found = records(self._source.plan, self._make, self.outcome.refused)
        if publisher is None:
            await self._each(self._counted(found), "reading", lambda: 1.0)
            return
        if not self._sorts:
            await self._publish(publisher, self._counted(found), before, self._source.plan.table.done)
            return
        order = TimeOrder()
        try:
            await self._each(map(order.add, self._counted(found)), "putting in order", lambda: READING)
            total = max(self.outcome.records, 1)
            await self._publish(
                publisher, order.ordered(), before, lambda: READING + (1 - READING) * self._sent() / total
            )
        finally:
            order.close()

    def _counted(self, found: Iterator[Record]) -> Iterator[Record]:
        for record in found:
            self.outcome.records += 1
            self._see(self._source.plan.kind, record)
            yield record

    async def _each(self, work: Iterator[Any], step: str, most: Callable[[], float]) -> None:
        """Go through all of an iterator, and let others run in between."""
        while sum(1 for _ in islice(work, CHUNK)) == CHUNK:
            share = self._source.plan.table.done() * most()
            self._tell(self._source.path, step, share, self.outcome.records)
            await asyncio.sleep(0)

    def _sent(self) -> int:
        return self.outcome.before + self.outcome.published

    async def _publish(
        self, publisher: Publisher, found: Iterator[Record], before: int, share: Callable[[], float]
    ) -> None:
        await self._each(islice(found, before), "passing over what was published", share)

        def confirmed(total: int) -> None:
            self.outcome.published = total
            self._resume.keep(self._sent())
            self._tell(self._source.path, "publishing", share(), self._sent())

        rows = ((key, value) for _, key, value in found)
        await publish_rows(self._settings, publisher, self._source.plan.kind, rows, progress=confirmed)
