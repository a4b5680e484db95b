"""A log served back to itself: at any moment of it, the requests a worker would put to its scorer."""

import numpy as np
from numpy.typing import NDArray

from model_core.data.corpus import Corpus
from model_core.data.samples import affinities
from model_core.data.vocabulary import Edges
from model_core.release.batches import ItemBatch, ScoreBatch, SparseRows, sparse_signals
from model_core.signals.cold_start import ItemFeatures
from model_core.signals.ease import Ease
from model_core.signals.sample_signals import Log, SignalConfig, SignalState
from model_core.signals.stated import join_stated


def item_batch(corpus: Corpus) -> ItemBatch:
    """Inputs of the item encoder for all items of a corpus; a part that is all zero is missing."""
    edges = corpus.edges
    text, image, audio = corpus.text, corpus.image, corpus.audio
    return ItemBatch(
        text, (text != 0).any(1), image, (image != 0).any(1), audio, (audio != 0).any(1),
        edges.entities, edges.relations, edges.mask, corpus.id_rows,
    )  # fmt: skip


def item_features(corpus: Corpus) -> ItemFeatures:
    """What the items of a corpus say of themselves."""
    return ItemFeatures(item_batch(corpus), len(corpus.vocabulary.entity_rows))


class Replay:
    """State of a log folded up to `position`, in memory."""

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
    ) -> None:
        self.log = log
        self.edges = edges
        self.stated = stated
        self.history_length = history_length
        self.n_affinities = n_affinities
        self.position = 0
        self.state = SignalState(log.n_users, log.n_items, signals, ease)
        order = np.argsort(log.users, kind="stable")
        bounds = np.searchsorted(log.users[order], np.arange(log.n_users + 1))
        self._events = [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    def advance(self, position: int) -> None:
        """Fold the log up to (not with) row `position`."""
        if position < self.position:
            raise ValueError(f"position must be at least {self.position}, got {position}")
        self.state.fold(self.log, self.position, position)
        self.position = position

    def requests(self, users: NDArray[np.int32], times_ms: NDArray[np.int64]) -> ScoreBatch:
        """Make requests of users at given times from what has been folded; items met are not eligible."""
        length, b = self.history_length, len(users)
        history = np.full((b, length), -1, np.int64)
        actions, ages = np.zeros((b, length), np.int64), np.zeros((b, length), np.float32)
        for row, user in enumerate(users):
            events = self._events[user]
            events = events[: np.searchsorted(events, self.position)][-length:]
            if len(events):
                history[row, -len(events) :] = self.log.items[events]
                actions[row, -len(events) :] = self.log.actions[events]
                ages[row, -len(events) :] = (times_ms[row] - self.log.times_ms[events]) / 1000.0
        entities, weights = self._affinities(users, times_ms)
        popularity, signals, values = sparse_signals(self.state.read(users))
        return ScoreBatch(
            history=history,
            history_actions=actions,
            history_age_s=ages,
            user_entities=entities,
            user_entity_weights=weights,
            popularity=popularity,
            signals=signals,
            signal_values=values,
            eligible=np.ones(self.log.n_items, np.bool_),
            excluded=SparseRows.of([np.flatnonzero(seen) for seen in self.state.seen[users]]),
        )

    def _affinities(
        self, users: NDArray[np.int32], times_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As in training: each request is an event after all those folded."""
        parts = [self._events[user] for user in users]
        parts = [events[: np.searchsorted(events, self.position)][-512:] for events in parts]
        rows = np.concatenate([np.append(events, -1) for events in parts])
        owner = np.repeat(np.arange(len(users)), [len(events) + 1 for events in parts])
        asked = rows < 0
        times = np.where(asked, times_ms[owner], self.log.times_ms[rows])
        log = Log(
            owner.astype(np.int32),
            self.log.items[rows],
            self.log.actions[rows],
            self.log.positive[rows] & ~asked,
            times,
            len(users),
            self.log.n_items,
        )
        near = affinities(log, np.flatnonzero(asked), self.edges, self.n_affinities)
        return join_stated(self.stated[users], *near)
