"""Maps topics' records to events at a worker's intake."""

from streams.decoding.refusals import refused
from streams.kafka.columns import Record, RecordColumns
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Translator
from streams.mapping.values import Fault
from streams.settings import Settings
from streams.settings.sources import Source


def source_of(settings: Settings, topic: str) -> Source | None:
    """Return the source that a topic of the broker is; None where it is none."""
    return next((source for source in settings.sources if source.topic == topic), None)


def refused_of_source(settings: Settings, source: Source, record: Record) -> str | None:
    """Say why a worker would refuse a record of a source; None when it would take it."""
    try:
        events = Translator(source, schemas=schemas_of(settings, source)).events(record)
    except Fault as fault:
        return f"{fault.reason}: {fault}"
    for event in events:
        if event.value is not None:
            why = refused(settings, source.feeds, event.value, record.timestamp)
            if why is not None:
                return why
        elif not event.key:
            return "null_key: a deletion names its item or user by `key`"
    return None


def as_ours(settings: Settings, name: str, records: RecordColumns) -> RecordColumns:
    """Return records of what is read for an input as records of ours; those that cannot be are left out."""
    source = next((one for one in settings.sources if one.feeds == name and not one.repartition), None)
    if source is None:
        return records
    return Translator(source, schemas=schemas_of(settings, source)).batch(records).records
