"""A log served back to itself: at any moment of it, the requests a worker would put to its scorer."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch, ScoreBatch, SparseRows
from model_core.data.vocabulary import Edges
from model_core.inputs.corpus import Corpus
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease, Rows
from model_core.signals.horizons import HORIZONS
from model_core.signals.joint import LikedItems, joint_scores
from model_core.signals.parts import PartsReader
from model_core.signals.pasts import Pasts, chosen
from model_core.signals.popularity import Popularity
from model_core.signals.reader import Drawn, Reader
from model_core.signals.sample_signals import CovisitReplay, Log, UserEvents
from model_core.signals.trends import Trends, popularity_signal

N_CODES = 256  # of actions


def item_batch(corpus: Corpus) -> ItemBatch:
    """Inputs of the item encoder for all items of a corpus; a part that is all zero is missing."""
    edges = corpus.edges
    text, image, audio = corpus.text, corpus.image, corpus.audio
    return ItemBatch(
        text, (text != 0).any(1), image, (image != 0).any(1), audio, (audio != 0).any(1),
        edges.entities, edges.relations, edges.mask, corpus.id_rows,
    )  # fmt: skip


def item_features(corpus: Corpus) -> ItemFeatures:
    """Features of a corpus's items: attributes and texts."""
    return ItemFeatures(item_batch(corpus), len(corpus.vocabulary.entity_rows))


def reader_of(
    edges: Edges, stated: NDArray[np.int64], signals: SignalConfig, history_length: int, n_affinities: int
) -> Reader:
    """Make the reader of a log's users: its actions have a release's codes already."""
    return Reader(
        signals,
        history_length=history_length,
        n_affinities=n_affinities,
        n_entities=1 + int(max(edges.entities.max(initial=0), stated.max(initial=0))),
        codes=np.arange(N_CODES),
    )


class Replay:
    """State of a log folded up to `position`, in memory.

    Parameters
    ----------
    keys : (n,) uint64, of the items; see `CovisitReplay`
    """

    def __init__(
        self,
        log: Log,
        edges: Edges,
        stated: NDArray[np.int64],
        *,
        history_length: int,
        n_affinities: int,
        signals: SignalConfig,
        ease: Ease,
        keys: NDArray[np.uint64] | None = None,
    ) -> None:
        self.log = log
        self._stated = stated
        self._edges = edges.entities.astype(np.int32)
        self.ease = ease
        self._described = np.ones(log.n_items, np.bool_)
        surge = signals.surge_bound
        self._popularity = Popularity(surge, signals.read_temper)
        self._parts, self._trends = PartsReader(), Trends(surge)
        self._horizon = signals.horizon
        self._events = UserEvents(log, signals.depth)
        self._counted = CovisitReplay(log, signals, keys=keys)
        self._reader = reader_of(edges, stated, signals, history_length, n_affinities)

    @property
    def position(self) -> int:
        """Row of the log that comes next."""
        return self._counted.position

    def advance(self, position: int) -> None:
        """Fold the log up to (not with) row `position`."""
        self._counted.advance(position)

    def requests(
        self,
        users: NDArray[np.int32],
        times_ms: NDArray[np.int64],
        *,
        before: NDArray[np.int64] | None = None,
    ) -> ScoreBatch:
        """Make requests of users at given times from what has been folded; items met are not eligible.

        Parameters
        ----------
        users : (B,) int32; -1 is somebody of whom nothing is known
        before : (B,) int64, row of the log before which lies what each user had done; all that has been
            folded where it is not given
        """
        rows = np.full(len(users), self.position) if before is None else before
        pasts = self._events.before(np.maximum(users, 0), np.where(users < 0, 0, rows))
        stated = np.where(users[:, None] < 0, 0, self._stated[users])
        described = self._described
        drawn = self._reader.draw(pasts, times_ms, described=described)
        parts = self._parts.read([self._counted.counts])
        self._popularity.read(parts, self.log.n_items)
        signals, values = joint_scores(
            parts,
            *self._popularity.weighed(drawn.window),
            self._popularity.tempers,
            liked_items(self.ease, drawn),
        )
        return ScoreBatch(
            **self._reader.users(
                pasts, times_ms, drawn, described=described, edges=self._edges, stated=stated
            ),
            popularity=popularity_signal(self._horizon, self._popularity, self._trends, parts, times_ms),
            signals=signals,
            signal_values=values,
            eligible=np.ones(self.log.n_items, np.bool_),
            excluded=self._met(pasts),
        )

    def levels(self, now_ms: int) -> NDArray[np.float32]:
        """Popularity of items at a moment, as a feature of a release.

        Returns
        -------
        levels : (1 + HORIZONS, n_items) float32, counting events of any age alike, then at each half-life
        """
        parts, n = self._parts.read([self._counted.counts]), self.log.n_items
        self._popularity.read(parts, n)
        self._trends.read(parts, n, now_ms)
        decayed = [self._trends.popularity(now_ms, horizon) for horizon in range(HORIZONS)]
        return np.stack((self._popularity.levels, *decayed))

    def met(self, users: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which items some users have met: (B, n_items)."""
        rows = self._met(self._pasts(users))
        dense = np.zeros((len(users), self.log.n_items), np.bool_)
        dense[np.repeat(np.arange(len(users)), np.diff(rows.bounds)), rows.rows] = True
        return dense

    def _met(self, pasts: Pasts) -> SparseRows:
        everything = np.ones(len(pasts.items), np.bool_)
        bounds, rows = chosen(pasts.bounds, pasts.items, everything, self._described)
        return SparseRows.of([rows[a:b] for a, b in pairwise(bounds.tolist())])

    def _pasts(self, users: NDArray[np.int32]) -> Pasts:
        return self._events.before(users, np.full(len(users), self.position))


def liked_items(ease: Ease, drawn: Drawn) -> LikedItems:
    """Return what EASE reads of users, where it numbers items as the log does."""
    bounds, everything = drawn.liked_bounds, np.arange(ease.n_items, dtype=np.int32)
    return LikedItems(ease, Rows.of(ease), everything, drawn.liked, bounds[:-1], bounds[1:])
