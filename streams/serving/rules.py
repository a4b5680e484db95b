"""Features of candidates that the rules of a slate need: vectors, groups and freshness."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.settings import Settings
from streams.state.catalogue import Catalogue

# Values of the group relation looked at per item.
MAX_GROUPS = 8


class RuleColumns:
    """Columns of `Candidates` for the rules in force; none for rules that are not.

    It reads the catalogue on the inference thread: an item that changes at this moment is as it was or as
    it will be.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue

    def of(
        self, rows: NDArray[Any], items: NDArray[np.float32], now_ms: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the columns by name.

        Parameters
        ----------
        rows : (B, C) int, item rows
        items : (n, D) float32, item vectors
        now_ms : (B,) int64, time of each request
        """
        columns: dict[str, NDArray[Any]] = {}
        settings = self._settings
        if settings.diversity:
            vectors = items[rows]
            length = np.linalg.norm(vectors, axis=-1, keepdims=True)
            columns["vectors"] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
        if settings.group_relation is not None:
            columns["groups"] = self._groups(rows, settings.group_relation)
        if settings.fresh_share:
            since = now_ms[:, None] - settings.fresh_ms
            columns["fresh"] = self._catalogue.published_ms(rows) > since
        return columns

    def _groups(self, rows: NDArray[Any], relation: str) -> NDArray[np.int32]:
        names, table = self._catalogue.relations, self._catalogue.edge_table
        if relation not in names or not len(table):
            return np.full((*rows.shape, 1), -1, np.int32)
        edges = table[np.clip(rows, 0, len(table) - 1)]  # (B, C, edges, 2)
        values = np.where(edges[..., 1] == names.index(relation), edges[..., 0], -1)
        values[(rows < 0) | (rows >= len(table))] = -1
        return -np.sort(-values, axis=2)[..., :MAX_GROUPS]
