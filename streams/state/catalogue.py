"""The catalogue: items as they are served now, folded from `item-state`; the same in every worker."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.signals.reserved import Growing
from streams.state.item_columns import FOR_EVER, LIKELY_ITEMS, ItemVectors, Windows, grown
from streams.state.item_index import ItemIndex
from streams.state.postings import Postings
from streams.state.rows import ItemState, decode

MAX_EDGES = 32
DELETION_S = 86_400
EMBEDDINGS = ("text", "image", "audio")
ENTITY_BITS = 32  # a pair of relation and entity is one number: the entity in the low bits
ENTITY = (1 << ENTITY_BITS) - 1


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


class Catalogue:
    """Items by row of the index. An item exists from its first row until it is deleted."""

    def __init__(self, index: ItemIndex) -> None:
        self._index = index
        self.n_live = 0
        self.truncated_edges = 0
        self._entities, self._relations = Names(), Names()
        self._titles: list[str] = []
        self._postings = Postings()
        self._beyond: dict[int, list[int]] = {}  # pairs of an item that its row of edges has no room for
        self._vectors = {kind: ItemVectors() for kind in EMBEDDINGS}
        self._degrees = np.zeros(1024, np.int32)
        self._windows = Windows(
            np.zeros(0, np.bool_), np.zeros(0, np.bool_), *(np.zeros(0, np.int64) for _ in range(3))
        )
        self._rows_of_source = Growing(np.int64, width=(2,), fill=-1, likely=LIKELY_ITEMS)
        self._source = self._rows_of_source.reach(0)  # partition and offset of the content
        self._rows_of_edges = Growing(np.int32, width=(MAX_EDGES, 2), fill=-1, likely=LIKELY_ITEMS)
        self._edges = self._rows_of_edges.reach(0)  # entity and relation, -1 = padding

    # Fold

    def apply(self, records: Iterable[Any]) -> NDArray[np.int32]:
        """Fold records of `item-state` (`.key`, `.value`); return the rows that changed, deleted ones too.

        A row made from an older record of the same content partition than the known one is left out: it
        was written by a worker that read an earlier part of the log again. Such a worker is not a day behind:
        an older deletion of an item that has no row makes none.

        Raises
        ------
        ValueError
            If a row is damaged or of a newer schema.
        """
        states: list[ItemState | None] = []
        names: list[str] = []
        stamps: list[int] = []
        known: dict[str, bool] = {}
        for record in records:
            if record.key is None:
                continue
            value = record.value
            state = decode(ItemState, "item-state", record.key, value) if value is not None else None
            name = state.item_id if state else record.key.decode(errors="replace")
            if state is None or state.deleted:
                known.setdefault(name, self._index.row_of(name) >= 0)
                if not known[name] and record.timestamp < 1000 * (self._index.now_s - DELETION_S):
                    continue
            known[name] = True
            states.append(state)
            names.append(name)
            stamps.append(record.timestamp)
        if not names:
            return np.zeros(0, np.int32)
        rows = self._index.rows_of(names)
        self._reserve(int(rows.max()))
        latest, begun = self._latest(rows, states, stamps)
        changed = np.fromiter(latest, np.int32, len(latest))
        self._put(changed, list(latest.values()), begun)
        return changed

    def forget(self, rows: NDArray[np.int32]) -> None:
        """Let deleted rows be as those of which nothing was ever said."""
        self._source[rows[rows < len(self._source)]] = -1

    def _latest(
        self, rows: NDArray[np.int32], states: Sequence[ItemState | None], stamps: Sequence[int]
    ) -> tuple[dict[int, ItemState | None], dict[int, int]]:
        """Find the last word on each row, and note where it comes from.

        Returns
        -------
        latest : None = deleted
        begun : since when the rows exist, in ms, of those that did not before, or were deleted in between
        """
        latest: dict[int, ItemState | None] = {}
        begun: dict[int, int] = {}
        sources: dict[int, tuple[int, int]] = {}
        existed, stored = self._windows.known[rows].tolist(), self._source[rows].tolist()
        for row, state, stamp, was_known, source in zip(
            rows.tolist(), states, stamps, existed, stored, strict=True
        ):
            partition, offset = sources.get(row, source)
            if state is None:
                sources[row] = partition, offset + 1  # what is read again up to here stays deleted
            elif state.partition != partition or state.offset >= offset:
                sources[row] = state.partition, state.offset
            else:
                continue
            if state is None or state.deleted:
                latest[row] = None
                begun.pop(row, None)
            else:
                exists = latest[row] is not None if row in latest else was_known
                if not exists:
                    begun[row] = stamp if state.since_ms is None else state.since_ms
                latest[row] = state
        if sources:
            self._source[list(sources)] = list(sources.values())
        return latest, begun

    def _put(
        self, rows: NDArray[np.int32], states: Sequence[ItemState | None], begun: dict[int, int]
    ) -> None:
        """Write distinct rows, a column at a time; see `_latest`."""
        windows = self._windows
        known = np.array([state is not None for state in states], np.bool_)
        was_known = windows.known[rows]
        self.n_live += int(known.sum()) - int(was_known.sum())
        self._index.n_described = self.n_live
        self._link(rows, states, was_known)
        for row, state in zip(rows.tolist(), states, strict=True):
            self._titles[row] = state.title if state else ""
        for kind, vectors in self._vectors.items():
            vectors.put(rows, [getattr(state, kind, None) for state in states], len(windows.known))
        windows.available[rows] = [state is not None and state.available for state in states]
        windows.published[rows] = [(state and state.published_ms) or 0 for state in states]
        windows.expires[rows] = [
            FOR_EVER if state is None or state.expires_ms is None else state.expires_ms for state in states
        ]
        windows.since[list(begun)] = list(begun.values())
        windows.known[rows] = known

    def _link(
        self, rows: NDArray[np.int32], states: Sequence[ItemState | None], was_known: NDArray[np.bool_]
    ) -> None:
        entered: list[int] = []  # entities that gain an item, and below those that lose one
        left: list[int] = []
        at: list[int] = []  # cells of the edge table
        values: list[int] = []
        for row, state, known in zip(rows.tolist(), states, was_known.tolist(), strict=True):
            before = self._pairs_of(row) if known else []
            pairs = [] if state is None else self._pairs(state)
            new, old = dict.fromkeys(pairs), dict.fromkeys(before)
            gone = [pair for pair in before if pair not in new]
            come = [pair for pair in pairs if pair not in old]
            self._postings.remove(gone, row)
            self._postings.add(come, row)
            left += [pair & ENTITY for pair in gone]
            entered += [pair & ENTITY for pair in come]
            if len(before) > MAX_EDGES:
                self.truncated_edges -= len(self._beyond.pop(row))
            if len(pairs) > MAX_EDGES:
                self._beyond[row] = pairs[MAX_EDGES:]
                self.truncated_edges += len(pairs) - MAX_EDGES
            kept = pairs[:MAX_EDGES]
            at += range(row * MAX_EDGES, row * MAX_EDGES + len(kept))
            values += kept
        while len(self._entities.names) > len(self._degrees):
            self._degrees = grown(self._degrees, 2 * len(self._degrees))
        np.add.at(self._degrees, entered, 1)
        np.subtract.at(self._degrees, left, 1)
        self._edges[rows[was_known]] = -1
        cells = self._edges.reshape(-1, 2)
        packed = np.array(values, np.int64)
        cells[at, 0], cells[at, 1] = packed & ENTITY, packed >> ENTITY_BITS

    def _pairs(self, state: ItemState) -> list[int]:
        """Relation and entity of each edge, as one number, attributes before triples, without repeats."""
        entity, relation = self._entities.add, self._relations.add
        pairs = []
        for name, values in state.attributes.items():
            code = relation(name) << ENTITY_BITS
            pairs += [code | entity(value) for value in values]
        pairs += [relation(name) << ENTITY_BITS | entity(value) for name, value in state.triples]
        return list(dict.fromkeys(pairs))

    def _pairs_of(self, row: int) -> list[int]:
        """Those that a row has now."""
        edges = self._edges[row].astype(np.int64)
        edges = edges[edges[:, 0] >= 0]
        return [*(edges[:, 1] << ENTITY_BITS | edges[:, 0]).tolist(), *self._beyond.get(row, [])]

    def _reserve(self, row: int) -> None:
        if row < len(self._source):
            return
        capacity = max(1024, row + row // 4)
        self._titles += [""] * (capacity - len(self._titles))
        self._source = self._rows_of_source.reach(capacity)
        self._edges = self._rows_of_edges.reach(capacity)
        self._windows = Windows(*(grown(column, capacity) for column in self._windows))

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
        arrays = (*self._windows, self._source, self._edges)
        vectors = sum(table.nbytes for table in self._vectors.values())
        return vectors + sum(array.nbytes for array in arrays)

    @property
    def windows(self) -> Windows:
        """Times at which items may be served; ask again after anything that may grow it."""
        return self._windows

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
        known = self._windows.known
        return 0 <= row < len(known) and bool(known[row])

    def described_ms(self, name: str, *, after: tuple[int, int] | None = None) -> int | None:
        """When an item was first described since it was last deleted, in ms; None if it does not exist.

        Parameters
        ----------
        after : partition and offset of a deletion: an item that is not known to be described after it does
            not exist
        """
        row = self._index.row_of(name)
        if not self.exists(row):
            return None
        if after is not None:
            partition, offset = self._source[row].tolist()
            if partition != after[0] or offset <= after[1]:
                return None
        return int(self._windows.since[row])

    def title(self, row: int) -> str:
        """Title of an item, "" if it does not exist."""
        return self._titles[row] if 0 <= row < len(self._titles) else ""

    def published_ms(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Publication times in ms, 0 where unknown: as the shape of `rows`."""
        windows = self._windows
        inside = (rows >= 0) & (rows < len(windows.known))
        at = np.where(inside, rows, 0)
        if not len(windows.known):
            return np.zeros(rows.shape, np.int64)
        return np.where(inside & windows.known[at], windows.published[at], 0)

    def since_ms(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return since when items are there, in ms: published, or else first described; n existing rows."""
        windows = self._windows
        published = windows.published[rows]
        since: NDArray[np.int64] = np.where(published > 0, published, windows.since[rows])
        return since

    def eligible(self, now_ms: int, out: NDArray[np.bool_]) -> None:
        """Write into out (N,) which item rows may be served: existing, available, published, not expired."""
        windows = self._windows
        n = min(len(out), len(windows.known))
        out[n:] = False
        out[:n] = windows.open(now_ms, slice(n))

    def postings(self, relation: str, values: Iterable[str]) -> list[NDArray[np.int32]]:
        """Rows of the items with an edge of this relation, a list for each of the values that is known.

        Returns
        -------
        (n,) int32 each, ascending; any thread may read them
        """
        code = self._relations.row_of(relation)
        if code < 0:
            return []
        entities = {self._entities.row_of(value) for value in values} - {-1}
        return [self._postings.rows(code << ENTITY_BITS | entity) for entity in entities]

    def values(self, row: int, relation: str) -> list[str]:
        """Return the values of a relation that an item has, all of them; none if it does not exist."""
        code = self._relations.row_of(relation)
        if code < 0 or not self.exists(row):
            return []
        names = self._entities.names
        return [names[pair & ENTITY] for pair in self._pairs_of(row) if pair >> ENTITY_BITS == code]

    def count_values(self, rows: NDArray[np.int32], relation: str) -> NDArray[np.int32]:
        """Return how many values of a relation some items have: (n,) int32."""
        code = self._relations.row_of(relation)
        if code < 0:
            return np.zeros(len(rows), np.int32)
        counts: NDArray[np.int32] = (self._edges[rows, :, 1] == code).sum(axis=1, dtype=np.int32)
        for at, row in enumerate(rows.tolist() if self._beyond else ()):
            counts[at] += sum(pair >> ENTITY_BITS == code for pair in self._beyond.get(row, ()))
        return counts

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
