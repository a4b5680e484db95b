"""The catalogue: items as they are served now, folded from `item-state`; the same in every worker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.durability.rows import SCHEMA_VERSION, ItemState, decode, encode
from streams.state.item_index import ItemIndex

MAX_EDGES = 32
FOR_EVER = np.iinfo(np.int64).max
EMBEDDINGS = ("text", "image", "audio")

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def encode_item_state(
    *,
    content_id: str,
    title: str,
    text: NDArray[np.float32] | None,
    image: NDArray[np.float32] | None,
    audio: NDArray[np.float32] | None,
    attributes: Mapping[str, Sequence[str]],
    triples: Sequence[tuple[str, str]],
    available: bool,
    published_ms: int | None,
    expires_ms: int | None,
    partition: int,
    offset: int,
) -> bytes:
    """Value of an item's row in `item-state`, from the record at (partition, offset) of `content`.

    Parameters
    ----------
    text, image, audio : (d,) float32 or None; kept as float16
    """
    return encode(
        ItemState(
            SCHEMA_VERSION,
            content_id,
            title,
            _half(text),
            _half(image),
            _half(audio),
            {relation: list(entities) for relation, entities in attributes.items()},
            list(triples),
            available,
            published_ms,
            expires_ms,
            partition,
            offset,
        )
    )


def encode_deletion(*, content_id: str, partition: int, offset: int) -> bytes:
    """Value that deletes an item and, unlike a null one, still tells its record from an older content."""
    return encode(
        ItemState(
            SCHEMA_VERSION,
            content_id,
            "",
            None,
            None,
            None,
            {},
            [],
            False,
            None,
            None,
            partition,
            offset,
            True,
        )
    )


def _half(vector: NDArray[np.float32] | None) -> bytes | None:
    if vector is None:
        return None
    return np.clip(vector, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2").tobytes()


class Names:
    """Strings numbered in order of appearance, never renumbered."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._rows: dict[str, int] = {}

    def row_of(self, name: str) -> int:
        """Row of a name, -1 if it has none."""
        return self._rows.get(name, -1)

    def add(self, name: str) -> int:
        """Row of a name, made if there is none."""
        row = self._rows.setdefault(name, len(self.names))
        if row == len(self.names):
            self.names.append(name)
        return row


class _Vectors:
    """Embeddings of one kind, by item row; one table for every dimension that occurs."""

    def __init__(self) -> None:
        self.tables: dict[int, tuple[NDArray[np.float16], NDArray[np.bool_]]] = {}

    def put(self, row: int, data: bytes | None, capacity: int) -> None:
        for _, mask in self.tables.values():
            if row < len(mask):
                mask[row] = False
        if not data:
            return
        vector = np.frombuffer(data, "<f2")
        table, mask = self.tables.get(
            len(vector), (np.zeros((0, len(vector)), np.float16), np.zeros(0, np.bool_))
        )
        if row >= len(mask):
            table, mask = _grown(table, capacity), _grown(mask, capacity)
            self.tables[len(vector)] = table, mask
        table[row], mask[row] = vector, True

    def read(self, rows: NDArray[Any], dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        vectors, mask = np.zeros((len(rows), dim), np.float32), np.zeros(len(rows), np.bool_)
        if dim in self.tables:
            table, present = self.tables[dim]
            inside = np.flatnonzero((rows >= 0) & (rows < len(present)))
            inside = inside[present[rows[inside]]]
            vectors[inside], mask[inside] = table[rows[inside]], True
        return vectors, mask


class Catalogue:
    """Items by row of the index. An item exists from its first row until it is deleted."""

    def __init__(self, index: ItemIndex) -> None:
        self._index = index
        self.n_live = 0
        self.truncated_edges = 0
        self._entities, self._relations = Names(), Names()
        self._titles: dict[int, str] = {}
        self._pairs: dict[int, list[tuple[int, int]]] = {}
        self._rows_with: dict[tuple[int, int], dict[int, None]] = {}
        self._vectors = {kind: _Vectors() for kind in EMBEDDINGS}
        self._degrees = np.zeros(1024, np.int32)
        self._known = np.zeros(0, np.bool_)
        self._available = np.zeros(0, np.bool_)
        self._published = np.zeros(0, np.int64)
        self._expires = np.zeros(0, np.int64)
        self._source = np.zeros((0, 2), np.int64)  # partition and offset of the content
        self._edges = np.zeros((0, MAX_EDGES, 2), np.int32)  # entity and relation, -1 = padding

    # Fold

    def apply(self, records: Iterable[Any]) -> NDArray[np.int32]:
        """Fold records of `item-state` (`.key`, `.value`); return the rows whose content is new or changed.

        A row made from an older record of the same content partition than the known one is left out: it
        was written by a worker that read an earlier part of the log again.

        Raises
        ------
        ValueError
            If a row is damaged or of a newer schema.
        """
        changed: dict[int, None] = {}
        for record in records:
            if record.key is None:
                continue
            value = record.value
            state = decode(ItemState, "item-state", record.key, value) if value is not None else None
            item_id = state.item_id if state else record.key.decode(errors="replace")
            row = int(self._index.rows_of([item_id])[0])
            self._reserve(row)
            if self._apply(row, state):
                changed[row] = None
            else:
                changed.pop(row, None)
        return np.fromiter(changed, np.int32, len(changed))

    def _apply(self, row: int, state: ItemState | None) -> bool:
        partition, offset = self._source[row].tolist()
        if state is None:
            self._remove(row)
            self._source[row, 1] = offset + 1  # what is read again up to here stays deleted
            return False
        if state.partition == partition and state.offset < offset:
            return bool(self._known[row])
        self._remove(row)
        self._source[row] = state.partition, state.offset
        if state.deleted:
            return False
        self._known[row] = True
        self._available[row] = state.available
        self._published[row] = state.published_ms or 0
        self._expires[row] = state.expires_ms if state.expires_ms is not None else FOR_EVER
        self._titles[row] = state.title
        for kind in EMBEDDINGS:
            self._vectors[kind].put(row, getattr(state, kind), len(self._known))
        self._link(row, state)
        self.n_live += 1
        return True

    def _link(self, row: int, state: ItemState) -> None:
        edges = [(relation, name) for relation, names in state.attributes.items() for name in names]
        pairs = [
            (self._relations.add(relation), self._entities.add(name))
            for relation, name in dict.fromkeys(edges + state.triples)
        ]
        while len(self._entities.names) > len(self._degrees):
            self._degrees = _grown(self._degrees, 2 * len(self._degrees))
        for pair in pairs:
            self._rows_with.setdefault(pair, {})[row] = None
            self._degrees[pair[1]] += 1
        self._pairs[row] = pairs
        self.truncated_edges += max(0, len(pairs) - MAX_EDGES)
        for column, (relation, entity) in enumerate(pairs[:MAX_EDGES]):
            self._edges[row, column] = entity, relation

    def _remove(self, row: int) -> None:
        if not self._known[row]:
            return
        self.n_live -= 1
        self._known[row] = False
        del self._titles[row]
        pairs = self._pairs.pop(row)
        for pair in pairs:
            self._degrees[pair[1]] -= 1
            del self._rows_with[pair][row]
            if not self._rows_with[pair]:
                del self._rows_with[pair]
        self.truncated_edges -= max(0, len(pairs) - MAX_EDGES)
        self._edges[row] = -1
        for vectors in self._vectors.values():
            vectors.put(row, None, len(self._known))

    def _reserve(self, row: int) -> None:
        if row < len(self._known):
            return
        capacity = max(1024, 2 * row)
        self._known, self._available = _grown(self._known, capacity), _grown(self._available, capacity)
        self._published, self._expires = _grown(self._published, capacity), _grown(self._expires, capacity)
        self._source = _grown(self._source, capacity, -1)
        self._edges = _grown(self._edges, capacity, -1)

    # Reads

    @property
    def entities(self) -> list[str]:
        """Names of the entity rows; only ever appended to."""
        return self._entities.names

    @property
    def relations(self) -> list[str]:
        """Names of the relation rows; only ever appended to."""
        return self._relations.names

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self._known, self._available, self._published, self._expires, self._source, self._edges)
        tables = [pair for vectors in self._vectors.values() for pair in vectors.tables.values()]
        return sum(array.nbytes for array in arrays) + sum(t.nbytes + m.nbytes for t, m in tables)

    @property
    def edge_table(self) -> NDArray[np.int32]:
        """(capacity, MAX_EDGES, 2) int32, entity and relation rows of every item row, -1 = padding."""
        return self._edges

    @property
    def degrees(self) -> NDArray[np.int32]:
        """(at least len(entities),) int32, items that have an edge to each entity."""
        return self._degrees

    def entity_row(self, name: str) -> int:
        """Row of an entity, -1 if no item ever had it."""
        return self._entities.row_of(name)

    def exists(self, row: int) -> bool:
        """Whether an item has been described and not deleted."""
        return 0 <= row < len(self._known) and bool(self._known[row])

    def title(self, row: int) -> str:
        """Title of an item, "" if it does not exist."""
        return self._titles.get(row, "")

    def published_ms(self, row: int) -> int:
        """When an item was published, 0 if it does not say."""
        return int(self._published[row]) if 0 <= row < len(self._known) and self._known[row] else 0

    def published_after(self, since_ms: int, n: int) -> NDArray[np.bool_]:
        """Return which of the first n item rows say they were published later than `since_ms`: (n,) bool."""
        known = min(n, len(self._known))
        after = np.zeros(n, np.bool_)
        after[:known] = self._known[:known] & (self._published[:known] > since_ms)
        return after

    def eligible(self, now_ms: int, out: NDArray[np.bool_]) -> None:
        """Write into out (N,) which item rows may be served: existing, available, published, not expired."""
        n = min(len(out), len(self._known))
        out[n:] = False
        np.logical_and(self._known[:n], self._available[:n], out=out[:n])
        out[:n] &= self._published[:n] <= now_ms
        out[:n] &= self._expires[:n] > now_ms

    def rows_with(self, relation: str, values: Iterable[str]) -> NDArray[np.int32]:
        """Rows of the items that have an edge of this relation to one of the values: (n,) int32."""
        code = self._relations.row_of(relation)
        found: dict[int, None] = {}
        for value in values:
            found.update(self._rows_with.get((code, self._entities.row_of(value)), {}))
        return np.fromiter(found, np.int32, len(found))

    def edges(
        self, rows: NDArray[Any], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.bool_]]:
        """First k edges of some items, attributes before triples.

        Returns
        -------
        entities : (n, k) int32 and relations : (n, k) int16, 0 = padding
        mask : (n, k) bool, False = padding
        """
        table = np.full((len(rows), k, 2), -1, np.int32)
        inside = (rows >= 0) & (rows < len(self._edges))
        width = min(k, MAX_EDGES)
        table[inside, :width] = self._edges[rows[inside], :width]
        mask = table[:, :, 0] >= 0
        table[~mask] = 0
        return table[:, :, 0], table[:, :, 1].astype(np.int16), mask

    def embeddings(
        self, kind: str, rows: NDArray[Any], dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Text, image or audio embeddings of some items, and which have one of this dimension.

        Returns
        -------
        vectors : (n, dim) float32, zero where there is none
        mask : (n,) bool
        """
        return self._vectors[kind].read(rows, dim)


def _grown(array: NDArray[Any], capacity: int, fill: int = 0) -> NDArray[Any]:
    new = np.full((capacity, *array.shape[1:]), fill, array.dtype)
    new[: len(array)] = array
    return new
