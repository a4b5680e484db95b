"""Data sets with fixed protocols as one kind of log, for `quality_served`.

A log holds the training part, then the validation part, then the test. Where a set has no times, a user's
events are put in their order, and users beside each other by how far they are through theirs; where there is
no order either, it is drawn by the seed. What an item is called stands for its title where it has none, as
in `slatestream train`.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset, Interactions, Item
from model_core.inputs.corpus import rating_actions
from tests.benchmarks import quality_kg, quality_multimodal, quality_sequential
from tests.benchmarks.domains import BEGIN_MS, STEP_MS, news
from tests.benchmarks.random_split import random_split

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Users and items, row by row."""
LATER = 0.2
"""Share of a log with times that is the test."""


class ServedLog(NamedTuple):
    """A log in its order, with what of it is training, validation and test.

    actions : of each event
    trained, known : events of the training part, and of training and validation together
    asked : events that have happened when users are asked
    barred : whether items of the validation part are not ranked even so
    k : length of the lists
    """

    dataset: Dataset
    actions: list[str]
    trained: int
    known: int
    asked: int
    barred: bool
    k: int


def next_of(name: str, folder: Path, seed: int) -> ServedLog:
    """S3-Rec's data: each user's last item is the test, the one before it, read then, the validation."""
    data = quality_sequential.load(name, folder)
    train = data.train
    owner = np.repeat(np.arange(len(train)), np.diff(train.bounds))
    place = (np.arange(len(owner)) - train.bounds[owner]) / np.diff(train.bounds)[owner]
    everybody = np.arange(len(train))
    rows, columns = np.nonzero(data.edges.mask)
    edges: list[list[tuple[str, str]]] = [[] for _ in range(train.n_items)]
    for item, relation, entity in zip(
        rows.tolist(), data.edges.relations[rows, columns], data.edges.entities[rows, columns], strict=True
    ):
        edges[item].append((f"has {relation}", str(entity)))
    log = _in_order(
        name,
        [Item(str(item), str(item), triples=of) for item, of in enumerate(edges)],
        [(owner, train.items), (everybody, data.validation), (everybody, data.test)],
        place,
        k=10,
    )
    return log._replace(asked=log.known)


def artists(folder: Path, seed: int) -> ServedLog:
    """LastFM with a knowledge graph, split at random, 8:1:1 (`quality_kg`)."""
    data = quality_kg.load(folder / "lastfm-kg-mm")
    split = random_split(data.users, data.items, data.n_users, data.n_items, seed=seed)
    edges = quality_kg.neighbours(data)
    items = [
        Item(str(item), str(item), triples=[(str(relation), str(end)) for relation, end in of])
        for item, of in enumerate(edges)
    ]
    parts = [np.nonzero(part) for part in (split.train, split.validation, split.test)]
    log = _in_order(
        "lastfm-kg", items, parts, np.random.default_rng(seed).random(len(parts[0][0])), k=quality_kg.K
    )
    return log._replace(barred=True)


def videos(folder: Path, seed: int) -> ServedLog:
    """TikTok's short videos with image and audio, split as given (`quality_multimodal`)."""
    data = quality_multimodal.load(folder / "tiktok-mm")
    items = [
        Item(str(item), str(item), image=image, audio=audio)
        for item, (image, audio) in enumerate(
            zip(data.features["image"], data.features["audio"], strict=True)
        )
    ]
    parts = [(part.users, part.items) for part in (data.train, data.validation, data.test)]
    place = np.random.default_rng(seed).random(len(data.train.users))
    return _in_order("tiktok", items, parts, place, k=quality_multimodal.K)


def films(folder: Path, seed: int) -> ServedLog:
    """MovieLens latest, small: the last fifth by time is the test."""
    home = folder / "ml-latest-small"
    with (home / "movies.csv").open(encoding="utf-8") as file:
        items = [
            Item(row["movieId"], row["title"], {"genre": row["genres"].split("|")})
            for row in csv.DictReader(file)
        ]
    with (home / "ratings.csv").open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(",") for line in file][1:]
    rows.sort(key=lambda row: int(row[3]))
    log = Interactions(
        np.array([row[0] for row in rows]), np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows], np.float32), 1000 * np.array([row[3] for row in rows], np.int64),
    )  # fmt: skip
    return _by_time(Dataset("ml-latest-small", log, items, []))


def articles(folder: Path, seed: int) -> ServedLog:
    """IDEA's news: the last fifth by time is the test."""
    return _by_time(news(folder).dataset)


def _in_order(
    name: str, items: list[Item], parts: Sequence[Pairs], place: NDArray[np.float64], k: int
) -> ServedLog:
    """Lay out pairs of users and items: training in the order of its places, validation, test."""
    order = np.argsort(place, kind="stable")
    (users, rows), *later = parts
    users, rows = (
        np.concatenate((first[order], *rest))
        for first, rest in ((users, [part[0] for part in later]), (rows, [part[1] for part in later]))
    )
    trained, n = len(order), len(rows)
    known = trained + len(later[0][0])
    log = Interactions(
        users.astype(np.str_), rows.astype(np.str_), np.full(n, np.nan, np.float32),
        BEGIN_MS + STEP_MS * np.arange(n),
    )  # fmt: skip
    return ServedLog(Dataset(name, log, items, []), ["like"] * n, trained, known, trained, False, k)


def _by_time(dataset: Dataset) -> ServedLog:
    known = int((1.0 - LATER) * len(dataset.interactions))
    return ServedLog(dataset, rating_actions(dataset.interactions), known, known, known, False, k=10)


LOGS: dict[str, Callable[[Path, int], ServedLog]] = {
    "lastfm": lambda folder, seed: next_of("lastfm", folder, seed),
    "lastfm-kg": artists,
    "tiktok": videos,
    "beauty": lambda folder, seed: next_of("beauty", folder, seed),
    "ml-latest-small": films,
    "news": articles,
}
