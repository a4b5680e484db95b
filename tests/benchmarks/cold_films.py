"""ML-100K's films with what is known of them, floors for new ones, and EASE mapped on to them."""

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_core.cold_start import extend_ease, item_mapping
from model_core.datasets import Dataset, Item, load_recbole
from model_core.ease import Ease, fit_ease
from model_core.fused_linear import entity_kernel, vector_kernel
from model_core.text_encoder import TextEncoder, item_text

FLOORS = ("category popularity", "genre profile", "nearest text", "mean of nearest 5 texts", "mean text")


@dataclass(frozen=True)
class Films:
    """items and text (n_items, 384) by row; met, liked : (n_users, n_items) bool; kernels by group."""

    dataset: Dataset
    text: np.ndarray
    met: np.ndarray
    liked: np.ndarray
    genres: np.ndarray
    kernels: dict[str, np.ndarray]

    @property
    def items(self) -> list[Item]:
        return self.dataset.items


def read_films(data: Path, side: Path, encoder: TextEncoder) -> Films:
    """Join ML-100K with its films' plots and triples."""
    with (side / "links_ml100k.csv").open(encoding="utf-8") as file:
        imdb = {row["item_id"]: row["imdb"] for row in csv.DictReader(file)}
    with gzip.open(side / "omdb_movies.jsonl.gz", "rt", encoding="utf-8") as file:
        plots = {film["imdb"]: film.get("Plot") for film in map(json.loads, file)}
    triples: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with gzip.open(side / "kg_omdb.tsv.gz", "rt", encoding="utf-8") as file:
        for head, relation, tail in (line.rstrip("\n").split("\t") for line in file):
            triples[head].append((relation, tail))
    dataset = load_recbole(data)
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
    found = [re.search(r"\((\d{4})\)$", item.title) for item in items]
    years = np.array([float(year.group(1)) if year else 1995.0 for year in found])
    kernels = {
        "text": vector_kernel(text),
        "graph": entity_kernel([item.triples for item in items]),
        "genres": entity_kernel([item.genres for item in items]),
        "year": np.exp(-np.abs(years[:, None] - years) / 3.0).astype(np.float32),
    }
    genres = np.array([[name in item.genres for name in names] for item in items], np.float32)
    return Films(replace(dataset, items=items), text, met, liked, genres, kernels)


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


def mapped(films: Films, ease: Ease, weights: Mapping[str, float], penalty: float, new: np.ndarray) -> Ease:
    """EASE with weights for the new items, made from its own by the kernels so weighed."""
    known, mapping = make_mapping(films, ease, weights, penalty, new)
    return extend_ease(ease, mapping, known, new, keep=len(new))


def make_mapping(
    films: Films, ease: Ease, weights: Mapping[str, float], penalty: float, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Items that somebody liked, and how new ones are made of them: (len(known), len(new))."""
    known = np.flatnonzero(np.diff(ease.bounds))
    kernel = np.sum([weight * films.kernels[name] for name, weight in weights.items()], axis=0)
    return known, item_mapping(kernel, known, new, penalty=penalty)


def mapped_popularity(
    films: Films, ease: Ease, weights: Mapping[str, float], penalty: float, new: np.ndarray
) -> np.ndarray:
    """The popularity signal that new items may expect, 0 for all others: (n_items,)."""
    known, mapping = make_mapping(films, ease, weights, penalty, new)
    signal = np.zeros(len(films.items), np.float32)
    signal[new] = np.maximum(np.log1p(films.liked[:, known].sum(0)) @ mapping, 0.0)
    return signal
