"""Reads the clicks of a source as columns: the plain ones by a kernel, the others one by one."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.decoding.byte_steps import Data, Table, texts
from streams.decoding.click_kernels import other_keys
from streams.decoding.clicks import ClickColumns, ReadClicks, accepted_clicks
from streams.decoding.records import Rejected, decode
from streams.events import Click, decode_click
from streams.kafka.columns import Record, RecordColumns
from streams.mapping import avro_plan
from streams.mapping.avro_plan import AvroAsJson
from streams.mapping.click_kernels import LEFT_OUT, READ, UNSURE, read_mapped
from streams.mapping.click_plan import ClickPlan, click_plan
from streams.mapping.formats import payload_opening
from streams.mapping.schemas import Schemas, schemas_of
from streams.mapping.translate import Translator
from streams.settings import Settings
from streams.settings.source_paths import Path
from streams.settings.sources import Source, parse_sources

_DIGITS = 20  # of an offset, at most
_SEARCHED = 8  # records of a batch, for the schema that stands around all of them


class ClickReader:
    """Makes `ClickColumns` of the records of a source that feeds `clicks`.

    Parameters
    ----------
    action_codes : code of each action that the settings define
    schemas : of the registry that its formats need

    Attributes
    ----------
    ready : waits until the schemas of records are here
    """

    def __init__(
        self,
        source: Source,
        action_codes: Mapping[str, int],
        max_future_ms: int,
        *,
        schemas: Schemas | None = None,
    ) -> None:
        self._translator = Translator(source, schemas=schemas)
        self.ready = self._translator.ready
        self._codes = dict(action_codes)
        self._max_future_ms = max_future_ms
        self._plan = click_plan(source, action_codes)
        self._as_json: AvroAsJson | None = None
        if self._plan is not None and source.format == "avro":
            assert schemas is not None
            self._as_json = AvroAsJson(self._plan.paths, schemas)
        self._keyed_by_user = source.key == "$key" and source.key_format == "text"

    @property
    def compiled(self) -> bool:
        """Whether the kernel reads these clicks, where they are plain."""
        return self._plan is not None

    def __call__(self, records: RecordColumns) -> ClickColumns:
        """Read a batch."""
        clicks, left_out = ReadClicks.none(records), np.zeros(len(records), np.bool_)
        if self._plan is not None and len(records):
            data, table = (records.data, records.table) if self._as_json is None else self._as_json(records)
            left_out = _read(self._plan, data, table, records, clicks)
        unread = np.flatnonzero(~(clicks.read | left_out))
        rejected: list[Rejected] = []
        more_left_out = 0
        if len(unread):
            translated = self._translator.batch(records.rows(unread))
            clicks.add(decode(translated.records, decode_click), records.offsets, self._codes)
            rejected, more_left_out = translated.rejected, translated.left_out
        columns = accepted_clicks(
            records, clicks, self._codes, self._max_future_ms, rejected=rejected, click=self._click
        )
        columns.left_out = int(np.count_nonzero(left_out)) + more_left_out
        if self._keyed_by_user:
            columns.key_mismatches = other_keys(columns.data, records.table[columns.rows], columns.spans)
        return columns

    def _click(self, records: RecordColumns, row: int) -> Click:
        (event,) = self._translator.events(records[row], lambda: records.headers(row))
        assert event.value is not None  # no click deletes
        return decode_click(event.value)


def _read(
    plan: ClickPlan, data: Data, table: Table, records: RecordColumns, clicks: ReadClicks
) -> NDArray[np.bool_]:
    """Read what the kernel is sure of; return which records are left out. Their JSON lies in `data`."""
    n = len(records)
    affixes, bounds = _affixes(plan.templates, records)
    made = np.empty(n * (len(affixes) + _DIGITS * len(plan.templates)), np.uint8)
    status = np.empty(n, np.uint8)
    used = read_mapped(
        data, table, *plan.tables, affixes, bounds, _opening(plan, records), plan.n_slots, made, clicks.spans,
        clicks.numbers, clicks.keys, status,
    )  # fmt: skip
    if plan.by_headers:
        status[records.have_headers()] = UNSURE
    clicks.data = data
    if used:
        clicks.data = np.concatenate((data, made[:used]))
        clicks.data.flags.writeable = False  # as fetched bytes are
    clicks.read[:] = status == READ
    left_out: NDArray[np.bool_] = status == LEFT_OUT
    return left_out


def _opening(plan: ClickPlan, records: RecordColumns) -> Data:
    """The bytes before the payloads of a batch; empty where they are not beside their schema."""
    values = (records[row].value for row in range(min(len(records), _SEARCHED if plan.in_schemas else 0)))
    found = next((text for value in values if value is not None and (text := payload_opening(value))), b"")
    return np.frombuffer(found, np.uint8)


def _affixes(templates: Sequence[tuple[str | Path, ...]], records: RecordColumns) -> tuple[Data, Table]:
    """Texts before and after the offset of each template."""
    found: list[bytes] = []
    places = {"$topic": records.topic, "$partition": str(records.partition)}
    for parts in templates:
        at = next(k for k, part in enumerate(parts) if isinstance(part, Path) and part.root == "$offset")
        for some in (parts[:at], parts[at + 1 :]):
            found.append(
                "".join(part if isinstance(part, str) else places[part.root] for part in some).encode()
            )
    return texts(tuple(found))


def source_of_clicks(settings: Settings) -> Source | None:
    """Return the topic of another shape that clicks are read from; None where they come as our own."""
    for source in settings.sources:
        if source.feeds == "clicks" and not source.repartition:
            return source
    return None


def reader_of(settings: Settings) -> ClickReader | None:
    """Return what reads clicks of another shape, where they come so."""
    source = source_of_clicks(settings)
    if source is None:
        return None
    codes = {name: code for code, name in enumerate(settings.actions)}
    return ClickReader(source, codes, settings.max_future_ms, schemas=schemas_of(settings, source))


def warm() -> None:
    """Compile the reading of mapped clicks, or load it from the cache."""
    source = parse_sources(_WARM, "warm")[0]
    value = b'{"u":"u","i":"i","t":1000000000000}'
    ClickReader(source, {"like": 0}, 0)(RecordColumns.of([Record("t", 0, 0, 10**12, b"u", value)]))
    avro_plan.warm()


_WARM = """
[[source]]
topic = "t"
feeds = "clicks"
[source.fields]
user_id = "u"
item_id = "i"
action = { constant = "like" }
timestamp_ms = "t"
"""
