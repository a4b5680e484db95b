"""The served model on films that it has not seen in training."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from model_core.data.batches import ItemBatch
from model_core.data.datasets import Interactions
from model_core.data.item_text import item_text
from model_core.data.vocabulary import Edges
from model_core.inputs.corpus import make_corpus, rating_actions
from model_core.inputs.replay import Replay, item_batch, item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.model import Model
from model_core.signals.cold_start import extend_ease
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.sample_signals import fit_log, map_log
from model_core.training.networks import fit_model
from tests.benchmarks.cold_films import Films

K = 10
WEIGHTS = {"view": 0.2, "like": 2.0}


class Encoded:
    """The films' texts, encoded already, where a text encoder is asked for."""

    name, fingerprint = "minilm", ""

    def __init__(self, films: Films) -> None:
        texts = (item_text(item.title, item.text, item.attributes) for item in films.items)
        self.row_of = {text: row for row, text in enumerate(texts)}
        self.vectors = films.text

    def encode(self, texts: list[str]) -> np.ndarray:
        return self.vectors[[self.row_of[text] for text in texts]]


class Product:
    """The served model's networks, trained without the held-out items, then shown all of them."""

    def __init__(self, films: Films, known: np.ndarray, new: np.ndarray, epochs: int):
        encoder: Any = Encoded(films)
        rows = np.concatenate((known, new))
        self.order = rows  # its item row r is the films' row order[r]
        ids = {films.items[row].item_id for row in known}
        events = films.dataset.interactions
        kept = np.isin(events.item_ids, sorted(ids))
        events = Interactions(
            events.user_ids[kept], events.item_ids[kept], events.ratings[kept], events.timestamps_ms[kept]
        )
        items = [films.items[row] for row in known]
        config, self.signals = ModelConfig(), SignalConfig()
        small = make_corpus(
            replace(films.dataset, interactions=events, items=items),
            rating_actions(events),
            WEIGHTS,
            encoder,
            config.n_neighbours,
        )
        self.users = np.searchsorted(
            np.unique(films.dataset.interactions.user_ids), np.unique(events.user_ids)
        )
        self.small = small
        self.model: Model = fit_model(
            small, len(small.log), tuple(WEIGHTS.values()), config, TrainConfig(epochs=epochs), self.signals
        )[0]
        every = make_corpus(
            replace(films.dataset, interactions=events, items=[films.items[row] for row in rows]),
            rating_actions(events), WEIGHTS, encoder, config.n_neighbours,
        )  # fmt: skip
        # What the vocabulary of training does not name is unknown: new items, and entities of theirs alone.
        edges = every.edges
        named = (edges.entities < len(small.vocabulary.entity_rows) + 1) & edges.mask
        self.batch = replace(
            item_batch(every),
            entities=np.where(named, edges.entities, 0),
            relations=np.where(named, edges.relations, 0),
            edge_mask=named,
            id_rows=np.where(np.arange(len(rows)) < len(known), every.id_rows, 0),
        )
        self.corpus = every
        self.n_known = len(known)

    def ease(self, *, mapped: bool) -> Ease:
        """What the release's EASE says of all films, new ones included where `mapped`."""
        small, n = self.small, len(self.order)
        features = item_features(small)
        ease, mapping = (fit(small.log, self.signals, features) for fit in (fit_log, map_log))
        wide = Ease(
            np.append(ease.bounds, np.full(n - self.n_known, ease.bounds[-1])), ease.items, ease.weights
        )
        if not mapped:
            return wide
        new, weights = np.arange(self.n_known, n), np.zeros((n, n - self.n_known), np.float32)
        weights[: self.n_known] = (mapping.places(self.batch)[new] @ mapping.weights).T
        return extend_ease(wide, weights, new, keep=len(new))

    @torch.inference_mode()
    def lists(self, ease: Ease, new_only: bool, **hidden: Any) -> np.ndarray:
        """Ten items a user, (n_users, 10) rows of `order`; `hidden` replaces inputs of the item encoder."""
        batch: ItemBatch = replace(self.batch, **hidden)
        names = ("id_rows", "text", "text_mask", "entities", "relations", "edge_mask")
        vectors = self.model.encoder(**{name: torch.as_tensor(getattr(batch, name)) for name in names})
        config, log = self.model.ranker.config, self.corpus.log
        replay = Replay(
            log, Edges(batch.entities, batch.relations, batch.edge_mask), self.small.stated,
            signals=self.signals, ease=ease,
            history_length=config.history_length, n_affinities=config.n_affinities,
        )  # fmt: skip
        replay.advance(len(log))
        lists = []
        for users in np.array_split(np.arange(log.n_users, dtype=np.int32), max(1, log.n_users // 64)):
            request = replay.requests(users, np.full(len(users), log.times_ms[-1]))
            inputs = {name: torch.as_tensor(getattr(request, name)) for name in request.__dataclass_fields__}
            if new_only:
                inputs["eligible"][:, : self.n_known] = False
            rows, valid, probability = self.model.ranker(vectors, **inputs)[:3]
            best = torch.where(valid, probability, -1.0).argsort(dim=1, descending=True, stable=True)[:, :K]
            lists.append(rows.gather(1, best).numpy())
        return np.concatenate(lists)


def run_product(
    films: Films, known: np.ndarray, new: np.ndarray, epochs: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per variant the lists among new items and among all, in the films' rows."""
    product = Product(films, known, new, epochs)
    fresh = np.arange(len(product.order)) >= product.n_known
    bare = {"edge_mask": product.batch.edge_mask & ~fresh[:, None]}
    variants: dict[str, tuple[bool, dict[str, Any]]] = {
        "slatestream": (True, {}),
        "slatestream, networks alone": (False, {}),
        "networks, new items without text": (False, {"text_mask": product.batch.text_mask & ~fresh}),
        "networks, new items without graph": (False, bare),
    }
    eases = {mapped: product.ease(mapped=mapped) for mapped in (True, False)}
    lists = {}
    for name, (mapped, hidden) in variants.items():
        pair = []
        for new_only in (True, False):
            whole = np.zeros((len(films.liked), K), np.int64)
            whole[product.users] = product.order[product.lists(eases[mapped], new_only, **hidden)]
            pair.append(whole)
        lists[name] = (pair[0], pair[1])
    return lists
