"""ML-100K's films with what is known of them, floors for new ones, and EASE mapped on to them."""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_core.data.batches import ItemBatch
from model_core.data.datasets import Dataset, Item
from model_core.data.item_text import item_text
from model_core.data.vocabulary import Vocabulary, pad_edges
from model_core.release.text_encoder import TextEncoder
from model_core.signals.cold_start import ItemFeatures, extend_ease, fit_mapping
from model_core.signals.ease import Ease, fit_ease
from tests.benchmarks.inputs import read_data

FLOORS = ("category popularity", "genre profile", "nearest text", "mean of nearest 5 texts", "mean text")


@dataclass(frozen=True)
class Films:
    """items and text (n_items, 384) by row; met, liked : (n_users, n_items) bool; genres as 0 and 1."""

    dataset: Dataset
    text: np.ndarray
    met: np.ndarray
    liked: np.ndarray
    genres: np.ndarray

    @property
    def items(self) -> list[Item]:
        return self.dataset.items


def read_films(data: Path | None, side: Path, encoder: TextEncoder) -> Films:
    """Join ML-100K with its films' plots and triples."""
    with (side / "links_ml100k.csv").open(encoding="utf-8") as file:
        imdb = {row["item_id"]: row["imdb"] for row in csv.DictReader(file)}
    with gzip.open(side / "omdb_movies.jsonl.gz", "rt", encoding="utf-8") as file:
        plots = {film["imdb"]: film.get("Plot") for film in map(json.loads, file)}
    triples: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with gzip.open(side / "kg_omdb.tsv.gz", "rt", encoding="utf-8") as file:
        for head, relation, tail in (line.rstrip("\n").split("\t") for line in file):
            triples[head].append((relation, tail))
    dataset = read_data(data)
    items = [
        replace(item, triples=triples[imdb.get(item.item_id, "")], text=plots.get(imdb.get(item.item_id, "")))
        for item in dataset.items
    ]
    row_of = {item.item_id: row for row, item in enumerate(items)}
    rows = np.array([row_of[item_id] for item_id in dataset.interactions.item_ids.tolist()])
    ids, users = np.unique(dataset.interactions.user_ids, return_inverse=True)
    met = np.zeros((len(ids), len(items)), np.bool_)
    met[users, rows] = True
    likes = dataset.interactions.ratings >= 4
    liked = np.zeros_like(met)
    liked[users[likes], rows[likes]] = True
    names = sorted({genre for item in items for genre in item.genres})
    text = encoder.encode([item_text(item.title, item.text, item.attributes) for item in items])
    genres = np.array([[name in item.genres for name in names] for item in items], np.float32)
    return Films(replace(dataset, items=items), text, met, liked, genres)


def hold_out(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of some item rows, and the others."""
    mixed = np.random.default_rng(seed).permutation(rows)
    return np.sort(mixed[len(rows) // 5 :]), np.sort(mixed[: len(rows) // 5])


def floors(films: Films, known: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of all items, (n_users, n_items), from the known items' likes."""
    likes = films.liked[:, known].astype(np.float32)
    genres, share = films.genres, np.maximum(films.genres.sum(1, keepdims=True), 1.0)
    popular = likes.sum(0) @ genres[known] / np.maximum(genres[known].sum(0), 1.0)
    profile = likes @ genres[known] / np.maximum(likes.sum(1, keepdims=True), 1.0)
    like = films.text[known] @ films.text.T
    nearest, five = np.zeros(films.liked.shape, np.float32), np.zeros(films.liked.shape, np.float32)
    for user, rows in enumerate(films.liked[:, known]):
        if rows.any():
            top = np.sort(like[rows], axis=0)[-5:]
            nearest[user], five[user] = top[-1], top.mean(0)
    everybody = np.tile((genres @ popular) / share[:, 0], (len(likes), 1))
    return dict(
        zip(
            FLOORS,
            (everybody, (profile * popular) @ (genres / share).T, nearest, five, likes @ like),
            strict=True,
        )
    )


def fit_known(films: Films, known: np.ndarray) -> Ease:
    users, items = np.nonzero(films.liked[:, known])
    return fit_ease(
        users.astype(np.int32), known[items].astype(np.int32), films.liked.shape[1], keep=len(known)
    )


def mapped(films: Films, ease: Ease, new: np.ndarray, without: Collection[str] = ()) -> Ease:
    """EASE with weights for the new items, made as a release makes them, without "text" or "links"."""
    vocabulary = Vocabulary.of(films.items)
    edges, none = pad_edges(films.items, vocabulary, 32), np.zeros(len(films.items), np.bool_)
    empty = np.zeros((len(none), 0), np.float32)
    batch = ItemBatch(
        films.text, none | ("text" not in without), empty, none, empty, none,
        edges.entities, edges.relations, edges.mask & ("links" not in without), none.astype(np.int64),
    )  # fmt: skip
    features = ItemFeatures(batch, len(vocabulary.entity_rows))
    mapping = fit_mapping(ease, features)
    return extend_ease(ease, mapping.weights.T @ features.places(mapping, new).T, new, keep=len(new))
