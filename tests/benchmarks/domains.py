"""Data sets of several domains as one kind of log, for `cross_domain`: past events in order, then later ones.

`FOLDER/lastfm-kg-mm` and `FOLDER/s3rec` have no times: a user's events are put in their order, and users
beside each other by how far they are through theirs; where there is no order either (`lastfm`), it is drawn.
Most sets number their items from 1, so items but films have the domain's name before their number: a release
takes items of one id for the same.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_core.data.datasets import Dataset, Interactions, Item
from tests.benchmarks.inputs import read_data

BEGIN_MS, STEP_MS = 1_600_000_000_000, 60_000
LATER = 0.2
"""Share of a log with times that is later."""


class Domain(NamedTuple):
    """dataset : in time order; split : events of the past, with which a deployment begins."""

    dataset: Dataset
    split: int


def films(folder: Path | None) -> Domain:
    """ML-100K, in RecBole's files: the last fifth is later."""
    return _by_time(read_data(folder))


def news(folder: Path) -> Domain:
    """IDEA's articles, which have no texts: the last fifth is later."""
    with gzip.open(folder / "idea-news" / "idea-news.inter.gz", "rt", encoding="utf-8") as file:
        next(file)
        rows = [line.rstrip("\n").split("\t") for line in file]
    users, numbers, ratings, times = zip(*rows, strict=True)
    ids = [f"news {one}" for one in numbers]
    log = _log(users, ids, np.array(ratings, np.float32), 1000 * np.array(times, np.float64).astype(np.int64))
    return _by_time(Dataset("news", log, [Item(one, one) for one in sorted(set(ids))], []))


def artists(folder: Path) -> Domain:
    """LastFM: artists with their names and tags, split as given."""
    home = folder / "lastfm-kg-mm"
    with gzip.open(home / "artists.dat.gz", "rt", encoding="utf-8") as file:
        names = dict(line.split("\t")[:2] for line in file)
    with gzip.open(home / "lfm2k_text.tsv.gz", "rt", encoding="utf-8") as file:
        tags = dict(line.rstrip("\n").split("\t") for line in file)
    with gzip.open(home / "lfm2k_og_ids.inter.gz", "rt", encoding="utf-8") as file:
        next(file)
        rows = [line.split() for line in file]
    later = np.array([row[3] == "2" for row in rows])
    order = np.random.default_rng(0).permutation(len(rows))
    order = order[np.argsort(later[order], kind="stable")]
    users, numbers = ([rows[at][column] for at in order.tolist()] for column in (0, 1))
    ids = [f"artist {one}" for one in numbers]
    items = [Item(f"artist {one}", names.get(one, one), text=tags.get(one)) for one in sorted(set(numbers))]
    log = _log(users, ids, np.full(len(rows), 5.0, np.float32), BEGIN_MS + STEP_MS * np.arange(len(rows)))
    return Domain(Dataset("lastfm", log, items, []), int((~later).sum()))


def beauty(folder: Path) -> Domain:
    """Beauty products without texts: each user's last event is later."""
    with gzip.open(folder / "s3rec" / "Beauty.txt.gz", "rt", encoding="utf-8") as file:
        pasts = [line.split() for line in file]
    owner = np.repeat(np.arange(len(pasts)), [len(past) - 1 for past in pasts])
    item = np.array([f"product {one}" for _, *past in pasts for one in past])
    place = np.concatenate([np.arange(1, len(past)) / (len(past) - 1) for past in pasts])
    order = np.argsort(place, kind="stable")
    n = len(order)
    users = np.array([past[0] for past in pasts])[owner[order]]
    log = _log(users, item[order], np.full(n, 5.0, np.float32), BEGIN_MS + STEP_MS * np.arange(n))
    items = [Item(one, one) for one in sorted(set(item.tolist()))]
    return Domain(Dataset("beauty", log, items, []), int((place < 1.0).sum()))


def _log(users: object, items: object, ratings: np.ndarray, times_ms: np.ndarray) -> Interactions:
    order = np.argsort(times_ms, kind="stable")
    return Interactions(
        np.array(users, np.str_)[order], np.array(items, np.str_)[order], ratings[order],
        times_ms[order].astype(np.int64),
    )  # fmt: skip


def _by_time(dataset: Dataset) -> Domain:
    return Domain(dataset, int((1.0 - LATER) * len(dataset.interactions)))


DOMAINS: dict[str, Callable[..., Domain]] = {
    "films": films, "news": news, "artists": artists, "beauty": beauty,
}  # fmt: skip
