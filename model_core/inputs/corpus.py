"""A dataset as arrays, with its texts encoded: what training and evaluation work on."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import LARGEST, Dataset, Interactions, Item
from model_core.data.item_text import item_text
from model_core.data.vocabulary import Edges, Vocabulary, pad_edges
from model_core.signals.sample_signals import Log
from model_core.signals.stated_preferences import common_names, stack_stated

log = logging.getLogger(__name__)

ENCODED_AT_ONCE = 1_024


class SentenceEncoder(Protocol):
    """Turns texts into vectors, as `model_core.release.text_encoder.TextEncoder` does.

    name : what it is known by; fingerprint : of its weights, the same for encoders that give the same vectors
    """

    name: str
    fingerprint: str

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode texts to (n, T) float32."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Item row i of the log is the vocabulary's row i + 1.

    text : (n_items, T) float32, a zero row where an item has no text; image, audio : alike, of width 0
        where no item has one
    text_encoder : its name and fingerprint
    stated : (n_users, MAX_STATED) int64, entities that users state, 0 = padding; see
        `model_core.signals.stated_preferences`
    """

    log: Log
    vocabulary: Vocabulary
    edges: Edges
    text: NDArray[np.float32]
    image: NDArray[np.float32]
    audio: NDArray[np.float32]
    text_encoder: tuple[str, str]
    stated: NDArray[np.int64]

    @property
    def id_rows(self) -> NDArray[np.int64]:
        """Release rows of the items: (n_items,) int64."""
        return np.arange(1, self.log.n_items + 1)


def rating_actions(
    interactions: Interactions, *, positive: str = "like", other: str = "view", at_least: float = 4.0
) -> list[str]:
    """Name the action of each row by its rating; a row without one is positive."""
    liked = np.isnan(interactions.ratings) | (interactions.ratings >= at_least)
    return [positive if yes else other for yes in liked]


def make_corpus(
    dataset: Dataset,
    actions: Sequence[str],
    weights: Mapping[str, float],
    encoder: SentenceEncoder,
    n_neighbours: int,
    *,
    known: Vocabulary | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Corpus:
    """Number everything and encode the items' texts.

    Parameters
    ----------
    actions
        The action of each interaction.
    weights
        Every action's reward weight; an action is positive from 1 on.
    n_neighbours
        Knowledge-graph edges that are kept of an item.
    known
        Names of a release that is to serve the corpus: its rows of entities and relations are used. Items are
        numbered as the dataset has them all the same.
    progress
        Is told which share of the texts is encoded.

    Raises
    ------
    ValueError
        If there are no items, fewer than two users, an action without a weight, an interaction with an item
        that is not described, or an embedding that is not finite.
    """
    if not dataset.items:
        raise ValueError("items must not be empty: there is nothing to recommend")
    vocabulary = Vocabulary.of(dataset.items, common_names(dataset.users))
    if known is not None:
        vocabulary = Vocabulary(vocabulary.item_rows, known.entity_rows, known.relation_rows)
    log, users = _numbered(dataset.interactions, actions, weights, vocabulary)
    unique = list({item.item_id: item for item in dataset.items}.values())
    text = _encoded(encoder, [item_text(item.title, item.text, item.attributes) for item in unique], progress)
    if not np.isfinite(text).all():
        name = unique[int(np.flatnonzero(~np.isfinite(text).all(1))[0])].item_id
        raise ValueError(f"text of item {name!r} must have a finite vector, got NaN or infinity")
    edges = pad_edges(unique, vocabulary, n_neighbours)
    image, audio = _stack("image", unique), _stack("audio", unique)
    stated = stack_stated(dataset.users, users, vocabulary.entity_rows)
    named = (encoder.name, encoder.fingerprint)
    return Corpus(log, vocabulary, edges, text, image, audio, named, stated)


def _numbered(
    interactions: Interactions, actions: Sequence[str], weights: Mapping[str, float], vocabulary: Vocabulary
) -> tuple[Log, list[str]]:
    """Return interactions by numbers, and the ids of their users in the order of these."""
    unknown = set(actions) - set(weights)
    if unknown:
        raise ValueError(f"actions must be among {sorted(weights)}, got {sorted(unknown)}")
    item_ids, item_of = np.unique(interactions.item_ids, return_inverse=True)
    strange = set(item_ids.tolist()) - vocabulary.item_rows.keys()
    if strange:
        raise ValueError(f"interactions must be with items of the dataset, got {min(strange)!r}")
    users, user_rows = np.unique(interactions.user_ids, return_inverse=True)
    if len(users) < 2:
        raise ValueError(f"interactions must come from at least 2 users, got {len(users)}")
    codes = {action: code for code, action in enumerate(weights, start=1)}
    positive = np.array([False, *(weight >= 1 for weight in weights.values())])
    rows = np.array([vocabulary.item_rows[item_id] for item_id in item_ids.tolist()], np.int32)
    code = np.array([codes[action] for action in actions], np.int64)
    log = Log(
        users=user_rows.astype(np.int32),
        items=rows[item_of] - 1,
        actions=code,
        positive=positive[code],
        times_ms=interactions.timestamps_ms,
        n_users=len(users),
        n_items=len(vocabulary.item_rows),
        positions=interactions.positions,
    )
    return log, users.tolist()


def as_known(corpus: Corpus, dataset: Dataset, known: Vocabulary, n_neighbours: int) -> Corpus:
    """Return a dataset's corpus by the rows that another release has for entities and relations.

    Nothing is encoded again.

    Parameters
    ----------
    dataset : that the corpus was made of
    """
    rows = Vocabulary(corpus.vocabulary.item_rows, known.entity_rows, known.relation_rows)
    items = list({item.item_id: item for item in dataset.items}.values())
    users = np.unique(dataset.interactions.user_ids).tolist()
    stated = stack_stated(dataset.users, users, known.entity_rows)
    return replace(corpus, vocabulary=rows, edges=pad_edges(items, rows, n_neighbours), stated=stated)


def _encoded(
    encoder: SentenceEncoder, texts: list[str], progress: Callable[[float], None]
) -> NDArray[np.float32]:
    """Encode texts, some at a time, so that whoever waits is told how far it is."""
    parts = []
    for begin in range(0, len(texts), ENCODED_AT_ONCE):
        progress(begin / len(texts))
        parts.append(encoder.encode(texts[begin : begin + ENCODED_AT_ONCE]))
    return np.concatenate(parts)


def _stack(kind: str, items: Sequence[Item]) -> NDArray[np.float32]:
    """Put embeddings of the commonest width into one array; an item without one has a zero row."""
    vectors = [getattr(item, kind) for item in items]
    widths = Counter(len(vector) for vector in vectors if vector is not None)
    width = widths.most_common(1)[0][0] if widths else 0
    if len(widths) > 1:
        log.warning(
            "%s embeddings must have one width: those of %d count, %d others do not",
            kind, width, widths.total() - widths[width],
        )  # fmt: skip
    stacked = np.zeros((len(items), width), np.float32)
    for row, (item, vector) in enumerate(zip(items, vectors, strict=True)):
        if vector is not None and len(vector) == width:
            if not np.isfinite(vector).all():
                raise ValueError(f"{kind} of item {item.item_id!r} must be finite, got NaN or infinity")
            if (largest := float(np.abs(vector).max(initial=0.0))) > LARGEST:
                raise ValueError(
                    f"{kind} of item {item.item_id!r} must be of numbers up to {LARGEST:g}, got {largest:g}"
                )
            stacked[row] = vector
    return stacked
