"""`slatestream map`: whether a mapping is sound, and what it makes of some records."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.decoding.refusals import refused
from streams.errors import ConfigurationError, SlatestreamError
from streams.kafka.columns import Record
from streams.kafka.topics import topic_name
from streams.mapping.sample import Sample, Sampled, sample_file, sample_topic
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Event, Translator
from streams.mapping.values import Fault
from streams.pseudonyms import pseudonyms_of
from streams.settings import Settings, load_settings
from streams.settings.sources import REGISTERED, Source

MAX_SHOWN = 2_000  # characters of a value in a table


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of mapping one record.

    Attributes
    ----------
    before : its value as text; of Avro and Protobuf the JSON of what was decoded, where it can be
    events : what it becomes; none where it is left out or fails
    why : why it fails, None where it does not
    """

    record: Record
    before: str
    events: Sequence[Event]
    why: str | None


def map_command(
    mapping: Annotated[
        Path | None, typer.Argument(help="Mapping file; the setting `mapping` without.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Show records before and after, and what fails with why.")
    ] = False,
    records: Annotated[int, typer.Option(min=1, max=100_000, help="How many of each source.")] = 10,
    file: Annotated[
        Path | None, typer.Option(help="JSON Lines to take the records from, instead of the topic.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a record.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
) -> None:
    """Check a mapping file, and see what it makes of some records.

    slatestream map mapping.toml --sample

    slatestream map mapping.toml --sample --file events.jsonl --json

    Exit code 1 when a record fails, 2 when the mapping itself is at fault.
    """
    settings = load_settings(config, mapping=mapping)
    if settings.mapping is None:
        raise ConfigurationError("name a mapping file, or set SLATESTREAM_MAPPING")
    sources = [source for source in settings.sources if topic in (None, source.topic)]
    if not sources:
        raise SlatestreamError(f"{settings.mapping} has no source {topic!r}")
    if file is not None and len(sources) > 1:
        raise SlatestreamError("--file has the records of one source: name it with --topic")
    if file is not None and sources[0].format in REGISTERED:
        raise SlatestreamError(
            f"--file has JSON, and {sources[0].topic} is {sources[0].format}: sample the topic"
        )
    if not sample:
        _show_sources(settings, sources, as_json=as_json)
        return
    failed = 0
    for source in sources:
        taken = _sample(settings, source, records, file)
        outcomes = outcomes_of(settings, source, taken.records)
        failed += sum(outcome.why is not None for outcome in outcomes) + len(taken.faults)
        _show(source, outcomes, taken.faults, as_json=as_json)
    raise typer.Exit(1 if failed else 0)


def outcomes_of(settings: Settings, source: Source, records: Sequence[Sampled]) -> list[Outcome]:
    """Translate records, and hold what comes out against what a worker would refuse."""
    pseudonyms = pseudonyms_of(settings.pseudonym_key_file)
    translator = Translator(source, schemas=schemas_of(settings, source), pseudonyms=pseudonyms)
    return [_outcome(settings, translator, one) for one in records]


def _outcome(settings: Settings, translator: Translator, sampled: Sampled) -> Outcome:
    record = sampled.record
    before = _before(translator, record.value)
    try:
        events = translator.events(record, lambda: sampled.headers)
    except Fault as fault:
        return Outcome(record, before, (), f"{fault.reason}: {fault}")
    for event in events:
        if event.value is None:
            why = None if event.key else "null_key: a deletion names its item or user by `key`"
        else:
            why = refused(settings, translator.source.feeds, event.value, record.timestamp)
        if why is not None:
            return Outcome(record, before, events, why)
    return Outcome(record, before, events, None)


def _before(translator: Translator, value: bytes | None) -> str:
    if value is None or translator.source.format not in REGISTERED:
        return _text(value)
    try:
        # What has no JSON, such as bytes that are no text, is shown as Python writes it.
        return _text(json.dumps(translator.read(value), ensure_ascii=False, default=repr).encode())
    except Fault:
        return _text(value)


def _sample(settings: Settings, source: Source, most: int, file: Path | None) -> Sample:
    if file is not None:
        return sample_file(file, source.topic, most)
    return asyncio.run(sample_topic(settings, source.topic, most))


def _show_sources(settings: Settings, sources: Sequence[Source], *, as_json: bool) -> None:
    rows = [
        {
            "topic": source.topic,
            "feeds": source.feeds,
            "format": source.format,
            "envelope": source.envelope,
            "read": f"into {topic_name(settings, source.feeds)}" if source.repartition else "directly",
            "fields": list(source.all_fields),
        }
        for source in sources
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"{settings.mapping} is sound", title_justify="left")
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(", ".join(cell) if isinstance(cell, list) else str(cell) for cell in row.values()))
    _console().print(table)
    _console().print("`--sample` shows what it makes of records.")


def _show(source: Source, outcomes: Sequence[Outcome], faults: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for outcome in outcomes:
            print(json.dumps(_plain(outcome)))
        for fault in faults:
            print(json.dumps({"error": fault}))
        return
    table = Table(title=f"{source.topic} -> {source.feeds}", title_justify="left", show_lines=True)
    for column in ("at", "before", "after"):
        table.add_column(column, overflow="fold", ratio=None if column == "at" else 1)
    for outcome in outcomes:
        record = outcome.record
        after = "\n".join(_after(outcome))
        table.add_row(
            f"{record.partition}:{record.offset}", escape(outcome.before), after,
            style="red" if outcome.why else "",
        )  # fmt: skip
    console = _console()
    console.print(table)
    for fault in faults:
        console.print(fault, style="red", markup=False)
    failed = sum(outcome.why is not None for outcome in outcomes)
    left_out = sum(not outcome.events and outcome.why is None for outcome in outcomes)
    events = sum(len(outcome.events) for outcome in outcomes if outcome.why is None)
    console.print(f"{len(outcomes)} records: {events} events, {left_out} left out, {failed} failed")


def _after(outcome: Outcome) -> Iterator[str]:
    if outcome.why is not None:
        yield escape(outcome.why)
    elif not outcome.events:
        yield "left out"
    else:
        for event in outcome.events:
            yield escape(_text(_without_nulls(event.value)) if event.value else f"deletes {_text(event.key)}")


def _plain(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _text(record.key),
        "before": outcome.before,
        "after": [
            {
                "key": _text(event.key),
                "value": None if event.value is None else json.loads(_without_nulls(event.value)),
            }
            for event in outcome.events
        ],
        "error": outcome.why,
    }


def _without_nulls(value: bytes) -> bytes:
    return json.dumps(
        {name: one for name, one in json.loads(value).items() if one is not None}, ensure_ascii=False
    ).encode()


def _text(value: bytes | None) -> str:
    if value is None:
        return "null"
    text = value.decode(errors="backslashreplace")
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text):,} characters)"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
