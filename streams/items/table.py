"""The item side of scoring: the scorer in use and the vectors of every catalogue item."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch
from model_core.release.baseline import BaselineScorer
from model_core.release.folder import Release
from model_core.release.scorer import Scorer
from model_core.release.signature import check_signature, read_public_keys
from streams.errors import ConfigurationError
from streams.items.ease_signal import EaseSignal
from streams.items.reading import check_settings, signals_of
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_columns import grown
from streams.state.item_index import ItemIndex

log = logging.getLogger(__name__)

AnyScorer = Scorer | BaselineScorer

ENCODE_BATCH = 256
MIN_CAPACITY = 256
BACKGROUND = 2.0  # pause after a batch that nobody waits for, times what it took
MANY_ITEMS, MIN_KNOWN = 20, 0.1  # of so many items a release should know such a share
STEPS = 8  # between one capacity and the next, twice as large: the graphs see few shapes


def load_scorer(settings: Settings, verified: Release | None = None) -> AnyScorer:
    """Load the configured release, or the baseline when none is set.

    Parameters
    ----------
    verified : the release, where its files and its signature have been verified already

    Raises
    ------
    ConfigurationError
        If the release is missing, damaged, not signed as wanted or of a newer schema, contradicts a setting,
        or the GPU that is required is absent.
    """
    if settings.release is None:
        log.warning("no release is set: slates come from co-visits and popularity alone")
        return BaselineScorer(signals_of(settings))
    try:
        if settings.release_public_keys is not None and verified is None:
            check_signature(settings.release, read_public_keys(settings.release_public_keys))
        scorer = Scorer(
            settings.release, require_gpu=settings.require_gpu, threads=settings.inference_threads,
            verified=verified,
        )  # fmt: skip
        check_settings(settings, scorer.release)
        return scorer
    except (ValueError, OSError, RuntimeError) as error:
        raise ConfigurationError(f"release: {settings.release}: {error}") from error


class ItemTable:
    """Vectors of catalogue items, by item row, kept up to date with the catalogue.

    The inference thread writes them in place, between the batches that it scores, and is the only one to
    read them.

    Attributes
    ----------
    vectors : (n, dim) float32
        A view of the rows in use, and a few more.
    edges : (at least n, n_neighbours) int32
        The release's rows of the entities that items are linked to; 0 = none, or not known to it.
    """

    def __init__(
        self,
        index: ItemIndex,
        catalogue: Catalogue,
        scorer: AnyScorer,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._index = index
        self._catalogue = catalogue
        self._scorer = scorer
        self._executor = executor
        self._encoded: Callable[[NDArray[np.int64]], None] = _nobody
        self._matrix = np.zeros((MIN_CAPACITY, scorer.release.dim), np.float32)
        self._used = 0
        self.vectors = self._matrix[:]
        self.edges = np.zeros((MIN_CAPACITY, scorer.release.n_neighbours), np.int32)
        self._known = np.zeros(MIN_CAPACITY, np.bool_)  # rows that the release has, too
        self._has_warned = False
        self._stale: dict[int, None] = {}  # rows to encode, oldest change first
        self._taken = 0  # rows taken from there and not yet encoded
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._entities = np.zeros(0, np.int64)
        self._relations = np.zeros(0, np.int64)
        self.ease: EaseSignal | None = None
        self.fallback: str | None = "no_release"
        if isinstance(scorer, Scorer):
            keep = scorer.release.signals.ease_keep
            self.ease = EaseSignal(scorer.ease, scorer.mapping, scorer.release.items, index, keep=keep)
            self.fallback = None

    def vectors_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return a copy of some vectors, 0 of rows without one: (n, dim). Only for the inference thread."""
        return np.where((rows < self._used)[:, None], self._matrix[np.minimum(rows, self._used - 1)], 0)

    def start(self, crash: Callable[[BaseException], None]) -> None:
        """Begin to encode what changes; an error that is not an item's own goes to `crash`."""

        def done(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                crash(error)

        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(done)

    def tell(self, encoded: Callable[[NDArray[np.int64]], None] | None) -> None:
        """Call `encoded`, in the event loop, with rows whose vectors are in place from now on."""
        self._encoded = encoded or _nobody

    async def stop(self) -> None:
        """Stop encoding."""
        task, self._task = self._task, None  # held on to, its traceback would keep this table in memory
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def refresh(self, rows: NDArray[np.int32]) -> None:
        """Encode rows of the catalogue that changed; until then they keep the vectors they have."""
        described = rows[self._catalogue.windows.known[rows]] if len(rows) else rows
        self._stale.update(dict.fromkeys(described.tolist()))
        if len(described):
            self._wake.set()

    def described(self) -> NDArray[np.int32]:
        """Rows of all items that are described."""
        return np.flatnonzero(self._catalogue.windows.known).astype(np.int32)

    @property
    def pending(self) -> int:
        """Rows waiting to be encoded."""
        return len(self._stale) + self._taken

    @property
    def n_known(self) -> int:
        """Number of described items, of those encoded so far, that the release knows."""
        described = self._catalogue.windows.known
        n = min(len(described), self._used)
        return int(np.count_nonzero(self._known[:n] & described[:n]))

    @property
    def nbytes(self) -> int:
        """Memory of the vectors."""
        return self._matrix.nbytes

    def release_entities(self, entities: NDArray[np.int32]) -> NDArray[np.int64]:
        """Rows of the release's entity table for catalogue entities; 0 for those it does not know."""
        names = self._catalogue.entities
        if len(self._entities) < len(names):
            known = self._scorer.release.entity_rows
            fresh = [known.get(name, 0) for name in names[len(self._entities) :]]
            self._entities = np.concatenate((self._entities, np.array(fresh, np.int64)))
        return _take(self._entities, entities)

    def _release_relations(self, relations: NDArray[np.int16]) -> NDArray[np.int64]:
        names = self._catalogue.relations
        if len(self._relations) < len(names):
            known = self._scorer.release.relation_rows
            fresh = [known.get(name, 0) for name in names[len(self._relations) :]]
            self._relations = np.concatenate((self._relations, np.array(fresh, np.int64)))
        return _take(self._relations, relations)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._stale:
                # All at once: a dictionary that is emptied from its front is walked from there each time.
                taken, self._stale = np.fromiter(self._stale, np.int64, len(self._stale)), {}
                self._taken = len(taken)
                for start in range(0, len(taken), ENCODE_BATCH):
                    rows = taken[start : start + ENCODE_BATCH]
                    batch = self.describe(rows)
                    began = loop.time()
                    await loop.run_in_executor(self._executor, self._encode, rows, batch)
                    self._encoded(rows)
                    self._taken -= len(rows)
                    if self._encoded is _nobody:  # nobody waits for it: the release that serves goes first
                        await asyncio.sleep(BACKGROUND * (loop.time() - began))
            self._warn_of_strangers()

    def _warn_of_strangers(self) -> None:
        """Say once that the release knows hardly an item of the catalogue: its ids may be spelt otherwise."""
        n, known = len(self.described()), self.n_known
        if self.ease is None or self._has_warned or n < MANY_ITEMS or known >= MIN_KNOWN * n:
            return
        self._has_warned = True
        log.warning(
            "release %s knows %d of the %d items that are described, such as %r; its own are such as %r. If "
            "they are the same items, train on the ids of `content`.",
            self._scorer.release.version, known, n, self._index.ids[int(self.described()[0])],
            next(iter(self._scorer.release.item_rows), None),
        )  # fmt: skip

    def describe(self, rows: NDArray[np.int64]) -> ItemBatch:
        """Inputs of the item encoder for some rows, as the catalogue has them now."""
        release, catalogue = self._scorer.release, self._catalogue
        edges, relations, mask = catalogue.edges(rows, release.n_neighbours)
        entities = np.where(mask, self.release_entities(edges), 0)
        known = release.item_rows
        names = [self._index.ids[row] for row in rows.tolist()]
        text, text_mask = catalogue.embeddings("text", rows, release.text_dim)
        image, image_mask = catalogue.embeddings("image", rows, release.image_dim)
        audio, audio_mask = catalogue.embeddings("audio", rows, release.audio_dim)
        return ItemBatch(
            text=text,
            text_mask=text_mask,
            image=image,
            image_mask=image_mask,
            audio=audio,
            audio_mask=audio_mask,
            entities=entities,
            relations=np.where(mask, self._release_relations(relations), 0),
            edge_mask=entities > 0,  # as in training, a link to what the release does not know is none
            id_rows=np.array([known.get(name, 0) for name in names], np.int64),
        )

    async def clear(self, rows: NDArray[np.int32]) -> None:
        """Take away the vectors of rows that no item has any more.

        When this returns, the inference thread has done what it was asked to do before.
        """
        await asyncio.get_running_loop().run_in_executor(self._executor, self._clear, rows)

    def _clear(self, rows: NDArray[np.int32]) -> None:
        here = rows[rows < self._used]
        self._matrix[here], self._known[here] = 0, False
        self._scorer.items_written(here.astype(np.int64))
        if self.ease is not None:
            gone = np.zeros(self._used, np.bool_)
            gone[here] = True
            self.ease.forget(gone)

    def _encode(self, rows: NDArray[np.int64], batch: ItemBatch) -> None:
        """Put new vectors in place, in the inference thread."""
        encoded = self._scorer.encode_items(batch)
        if self.ease is not None:
            self.ease.describe(rows, batch)
        self._used = max(self._used, int(rows.max()) + 1)
        capacity = len(self._matrix)
        if self._used > capacity:
            while self._used > capacity:
                capacity *= 2
            self._matrix, self.edges = grown(self._matrix, capacity), grown(self.edges, capacity)
            self._known = grown(self._known, capacity)
        self._matrix[rows], self.edges[rows], self._known[rows] = encoded, batch.entities, batch.id_rows > 0
        self._scorer.items_written(rows)
        step = max(MIN_CAPACITY, capacity // STEPS)
        self.vectors = self._matrix[: self._used + -self._used % step]


def _nobody(rows: NDArray[np.int64]) -> None:
    """Is told of vectors by which nothing is served."""


def _take(table: NDArray[np.int64], rows: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of a table that may still be empty: then every row is padding."""
    return table[rows] if len(table) else np.zeros(rows.shape, np.int64)
