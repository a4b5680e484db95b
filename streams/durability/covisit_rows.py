"""Items' co-visits as rows of `policy-state`."""

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from streams.durability import packing
from streams.kafka.packed_rows import PackedRows
from streams.state.item_index import ItemIndex
from streams.state.rows import Taken


def take_covisits(
    covisits: CoVisitation, index: ItemIndex, partition: int, *, most: int | None = None
) -> Taken:
    """Take the rows, so many at most, of the items whose co-visits changed since they were last taken."""
    rows = covisits.take_dirty(most)
    return Taken(_covisit_rows(covisits, index, partition, rows), lambda: covisits.put_back(rows))


def _covisit_rows(
    covisits: CoVisitation, index: ItemIndex, partition: int, rows: NDArray[np.int32]
) -> PackedRows:
    """Copy what the rows say; they are packed later."""
    bounds, others, counts = covisits.neighbours_of(rows)
    applied, popularity = covisits.applied[rows], covisits.popularity[rows]
    moments = covisits.moments_of(rows)
    keys = index.keys

    def pack() -> tuple[packing.Data, NDArray[np.int64]]:
        out = np.empty(len(rows) * packing.COVISIT_BYTES + 12 * len(others), np.uint8)
        spans = np.empty((len(rows), 3), np.int64)
        size = packing.pack_covisits(
            partition, keys[rows], packing.as_bytes(keys), applied, popularity, bounds, others,
            packing.as_bytes(counts), moments, out, spans,
        )  # fmt: skip
        return out[:size], spans

    return PackedRows(len(rows), pack)
