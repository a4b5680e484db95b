"""NeMig's English click log as arrays (Iana et al. 2023, "NeMig: a bilingual news collection and knowledge
graph about migration"), and what can be said of a shown item, for `quality_news`.
"""

import csv
import gzip
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_core.data.item_text import item_text
from streams.items.text_encoder import named_encoder

HISTORY = 8
RELATIONS = ("hasActor", "hasPlace", "keywords", "publisher")
PRIOR_CLICKS, PRIOR_SHOWN = 2.0, 12.0
ABSTRACT = 400


@dataclass(frozen=True)
class News:
    """Impressions, flat: row r is one shown item.

    items, groups, places, users : (n,) rows of item, impression, place in the list, user
    clicked : (n,) bool
    history : (n_groups, HISTORY) item rows, -1 before the first
    texts : (n_items,) str
    entities : per relation the entities of each item
    publishers, subtopics, sentiments : (n_items,) str
    profile : (n_users, d) one-hot age fifth and gender
    """

    items: np.ndarray
    groups: np.ndarray
    places: np.ndarray
    users: np.ndarray
    clicked: np.ndarray
    history: np.ndarray
    texts: list[str]
    entities: dict[str, list[set[str]]]
    publishers: list[str]
    subtopics: list[str]
    sentiments: list[str]
    profile: np.ndarray

    @property
    def n_items(self) -> int:
        return len(self.texts)


def read_news(folder: Path) -> News:
    impressions = []
    with gzip.open(folder / "behaviors.tsv.gz", "rt", encoding="utf-8") as file:
        for line in file:
            _, user, history, shown = line.rstrip("\n").split("\t")
            listed = [entry.rsplit("-", 1) for entry in shown.split()]
            impressions.append((user, history.split(), listed))
    needed = {
        news for _, history, listed in impressions for news in [*history, *(name for name, _ in listed)]
    }
    ids = sorted(needed)
    row = {news: place for place, news in enumerate(ids)}
    described = {}
    with gzip.open(folder / "news.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            described[entry["news_id"]] = entry
    entities: dict[str, list[set[str]]] = {name: [set() for _ in ids] for name in RELATIONS}
    with gzip.open(folder / "kg.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        for news, relation, entity in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if relation in entities and news in row:
                entities[relation][row[news]].add(entity)
    users = sorted({user for user, _, _ in impressions})
    user_row = {user: place for place, user in enumerate(users)}
    history = np.full((len(impressions), HISTORY), -1)
    for at, (_, past, _) in enumerate(impressions):
        last = [row[news] for news in past][-HISTORY:]
        history[at, HISTORY - len(last) :] = last
    sizes = [len(listed) for _, _, listed in impressions]
    return News(
        items=np.array([row[name] for _, _, listed in impressions for name, _ in listed]),
        groups=np.repeat(np.arange(len(impressions)), sizes),
        places=np.concatenate([np.arange(size) for size in sizes]),
        users=np.repeat([user_row[user] for user, _, _ in impressions], sizes),
        clicked=np.array([label == "1" for _, _, listed in impressions for _, label in listed]),
        history=history,
        texts=[item_text(described[news]["title"], described[news]["abstract"][:ABSTRACT]) for news in ids],
        entities=entities,
        publishers=[min(names, default="") for names in entities["publisher"]],
        subtopics=[described[news]["subtopic"] for news in ids],
        sentiments=[described[news]["sentiment"] for news in ids],
        profile=_profile(folder / "users_age_gender.csv", users),
    )


def _profile(path: Path, users: list[str]) -> np.ndarray:
    with path.open(encoding="utf-8") as file:
        known = {entry["uid"]: entry for entry in csv.DictReader(file)}
    ages = np.array([float(known[user]["Age"]) for user in users])
    fifths = np.digitize(ages, np.quantile(ages, [0.2, 0.4, 0.6, 0.8]))
    return np.hstack([one_hot([known[user]["Gender"] for user in users], 2), np.eye(5)[fifths]])


def one_hot(values: list[str], most: int) -> np.ndarray:
    """Columns for the most common values; the rest have zeros."""
    common = [value for value, _ in Counter(values).most_common(most)]
    return np.array([[value == name for name in common] for value in values], np.float64)


def text_vectors(news: News, cache: Path) -> np.ndarray:
    """Encode the texts with the frozen encoder, once: (n_items, dim)."""
    encoder = named_encoder("minilm")
    digest = hashlib.sha256(repr((encoder.fingerprint, news.texts)).encode()).hexdigest()[:16]
    path = cache / f"news-vectors-{digest}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder.encode(news.texts))
    return np.load(path)


def item_statistics(news: News, train: np.ndarray) -> np.ndarray:
    """Of items in training, the row itself left out: log CTR, mean place, share first, log count, (n, 4)."""

    def others(values: np.ndarray) -> np.ndarray:
        own = np.where(train, values, 0.0)
        return np.bincount(news.items, own, news.n_items)[news.items] - own

    shown = others(np.ones(len(news.items)))
    clicks = others(news.clicked.astype(float))
    place = (others(news.places.astype(float)) + 2.4 * 6) / (shown + 6)
    first = (others((news.places == 0).astype(float)) + 1) / (shown + 6)
    rate = np.log((clicks + PRIOR_CLICKS) / (shown + PRIOR_SHOWN))
    return np.column_stack([rate, place, first, np.log1p(shown)])


def similarities(news: News, vectors: np.ndarray) -> np.ndarray:
    """Largest and mean cosine between each row's item and the history; 0 without one: (n, 2)."""
    past = news.history[news.groups]  # (n, HISTORY)
    cosine = np.stack([(vectors[news.items] * vectors[past[:, at]]).sum(1) for at in range(HISTORY)], 1)
    known = past >= 0
    largest = np.where(known, cosine, -1.0).max(1)
    mean = np.where(known, cosine, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    return np.column_stack([np.where(known.any(1), largest, 0.0), mean])


def overlaps(news: News) -> np.ndarray:
    """Share of entities in common with the history, rare ones counting more: (n, len(RELATIONS))."""
    columns = []
    for relation in RELATIONS:
        sets = news.entities[relation]
        degree = Counter(entity for entities in sets for entity in entities)
        rarity = {entity: float(np.log(len(sets) / count)) for entity, count in degree.items()}
        values = np.zeros(len(news.items))
        starts = np.searchsorted(news.groups, np.arange(len(news.history) + 1))
        for group, past in enumerate(news.history):
            liked = past[past >= 0]
            weight: dict[str, float] = defaultdict(float)
            for item in liked:
                for entity in sets[item]:
                    weight[entity] += rarity[entity]
            if not weight:
                continue
            for at in range(starts[group], starts[group + 1]):
                own = sets[news.items[at]]
                common = sum(weight[entity] for entity in own if entity in weight)
                values[at] = common / (len(liked) * (1 + len(own)) ** 0.5)
        columns.append(values)
    return np.column_stack(columns)


def principal(vectors: np.ndarray, most: int) -> np.ndarray:
    """Principal components of the vectors, each of variance 1: (n_items, most)."""
    left, size, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    found = (left * size)[:, :most]
    return found / found.std(0)
