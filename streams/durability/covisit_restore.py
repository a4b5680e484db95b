"""Item statistics from their changelog rows: those of a shard, and those that other workers write."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import NO_MOMENTS, CoVisitation
from model_core.signals.horizons import MOMENTS
from streams.durability import unpacking
from streams.durability.unpacking import APPLIED, GONE, KIND, LEFT, OTHER, POPULARITY, READ, SIZE
from streams.kafka.columns import Record, RecordColumns
from streams.state import rows as changelog
from streams.state.item_index import ItemIndex
from streams.state.rows import CoVisits, bounds_of

TOPIC = "policy-state"


@dataclass(frozen=True, slots=True)
class ItemRows:
    """Rows of items that have been read; of one item only the last.

    gone : (m,) uint64, keys of the items of which a row was taken back; of some there is a later row

    keys : (n,) uint64, of the items
    applied, popularity : (n,) int64
    bounds : (n + 1,) int64; others : (bounds[-1],) uint64, counts : (bounds[-1],) int32, their neighbours
    moments : (n, MOMENTS) uint8
    """

    gone: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    applied: NDArray[np.int64]
    popularity: NDArray[np.int64]
    bounds: NDArray[np.int64]
    others: NDArray[np.uint64]
    counts: NDArray[np.int32]
    moments: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys) + len(self.gone)


def read_covisits(records: RecordColumns) -> tuple[ItemRows, RecordColumns]:
    """Read the rows of items among records of policy-state, and return the other records as they are.

    It may be called in any thread.

    Raises
    ------
    ValueError
        If a row is damaged or of a newer schema.
    """
    data, found, keys = _found(records)
    rest = RecordColumns("", 0, records.raw, records.table[found[:, KIND] == OTHER])
    if np.any(found[:, KIND] == LEFT):
        kept = zip(found[:, KIND].tolist(), records, strict=True)
        rows = [_written_anew(record) if kind == LEFT else record for kind, record in kept if kind != OTHER]
        data, found, keys = _found(RecordColumns.of_rows([(row.key, row.value) for row in rows]))
        for bad in np.flatnonzero(found[:, KIND] == LEFT).tolist():
            raise ValueError(f"{TOPIC} row {rows[bad].key!r} is damaged: its columns do not fit together")
    chosen = np.flatnonzero((found[:, KIND] == READ) | (found[:, KIND] == GONE))
    gone = np.unique(keys[found[:, KIND] == GONE])
    _, last = np.unique(keys[chosen][::-1], return_index=True)
    chosen = np.sort(chosen[len(chosen) - 1 - last])
    chosen = chosen[found[chosen, KIND] == READ]
    found = found[chosen]
    bounds = bounds_of(found[:, SIZE])
    others, counts = np.empty(bounds[-1], np.uint64), np.empty(bounds[-1], np.int32)
    unpacking.neighbours(data, found, others, counts)
    moments = np.empty((len(found), MOMENTS), np.uint8)
    unpacking.moments(data, found, moments)
    applied, popularity = found[:, APPLIED].copy(), found[:, POPULARITY].copy()
    return ItemRows(gone, keys[chosen], applied, popularity, bounds, others, counts, moments), rest


def _found(
    records: RecordColumns,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]:
    found, keys = np.empty((len(records), 7), np.int64), np.empty(len(records), np.uint64)
    unpacking.read_covisits(records.data, np.ascontiguousarray(records.table), found, keys)
    return records.data, found, keys


def _written_anew(record: Record) -> Record:
    row = changelog.decode(CoVisits, TOPIC, record.key or b"", record.value or b"")
    row.moments = row.moments or NO_MOMENTS.tobytes()
    return replace(record, value=changelog.encode(row))


def restore_covisits(covisits: CoVisitation, index: ItemIndex, records: RecordColumns) -> None:
    """Put changelog rows back, or another partition's in; an older row never replaces a newer one.

    Records that are no rows of items are left out.

    Raises
    ------
    ValueError
        If a row is damaged or of a newer schema.
    """
    rows, _ = read_covisits(records)
    place_covisits(covisits, rows, *name_covisits(covisits, index, rows))


def name_covisits(
    covisits: CoVisitation, index: ItemIndex, rows: ItemRows
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Make room for the items of rows, and take back what is gone.

    Returns
    -------
    items, others : rows here of the items and of their neighbours
    """
    gone = index.find_keys(rows.gone)
    covisits.drop(gone[gone >= 0])
    items, others = index.rows_of_keys(rows.keys), index.rows_of_keys(rows.others)
    covisits.grow(index.keys)
    return items, others


def place_covisits(
    covisits: CoVisitation, rows: ItemRows, items: NDArray[np.int32], others: NDArray[np.int32]
) -> None:
    """Put rows back, under the numbers that their items have here."""
    covisits.restore(items, rows.applied, rows.popularity, rows.bounds, others, rows.counts, rows.moments)
