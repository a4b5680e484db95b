"""New items: a fifth of ML-100K's films is held out whole, then recommended by what is known of them.

Run `python -m tests.benchmarks.quality_cold` from the repository's root. Films have a title, a year, genres,
a plot and named triples (people, companies, countries, languages, ratings by age). Likes are ratings of 4 and
more. Every user who likes a held-out film is asked for ten, once among the held-out films only, once among
all films that they have not met (there the right answers are held-out films alone). Kernel weights and
penalty are chosen on a fifth of the films that are left.
"""

import csv
import gzip
import itertools
import json
import platform
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from model_core.cold_start import extend_ease, item_mapping
from model_core.config import ModelConfig, TrainConfig
from model_core.corpus import make_corpus, rating_actions
from model_core.datasets import Dataset, Interactions, Item, load_recbole
from model_core.ease import Ease, fit_ease
from model_core.fit import Model
from model_core.fused_linear import entity_kernel, vector_kernel
from model_core.replay import Replay, item_batch
from model_core.scorer import ItemBatch
from model_core.signals import SignalConfig
from model_core.text_encoder import TextEncoder, item_text
from model_core.topn import estimate, paired_difference, ranking_metrics, top_items
from model_core.train import fit_model
from model_core.vocabulary import Edges
from streams.demo.dataset import fetch

K = 10
SIDE = Path(__file__).resolve().parents[3] / "shared/data/movies-sidedata"
WEIGHTS = {"view": 0.2, "like": 2.0}
PENALTIES, GRAPH_WEIGHTS = (10.0, 20.0, 40.0), (4.0, 8.0)
GROUPS = ("text", "graph", "genres", "year")
ABLATIONS = {
    "mapping": (),
    "mapping without text": ("text",),
    "mapping without graph": ("graph",),
    "mapping without text and graph": ("text", "graph"),
    "mapping by text alone": ("graph", "genres", "year"),
    "mapping by graph alone": ("text", "genres", "year"),
}
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
    known = np.flatnonzero(np.diff(ease.bounds))
    kernel = np.sum([weight * films.kernels[name] for name, weight in weights.items()], axis=0)
    return extend_ease(ease, item_mapping(kernel, known, new, penalty=penalty), known, new, keep=len(new))


def linear(films: Films, ease: Ease, known: np.ndarray) -> np.ndarray:
    """Scores by EASE of all items: (n_users, n_items)."""
    likes = np.zeros(films.liked.shape, np.float32)
    likes[:, known] = films.liked[:, known]
    return likes @ ease.dense()


def recall(scores: np.ndarray, barred: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    return ranking_metrics(top_items(scores, barred, K), relevant)


def tune(films: Films, known: np.ndarray, gone: Iterable[str], seed: int) -> tuple[dict[str, float], float]:
    """Weights of the kernels and penalty with the best recall on a fifth of the known items."""
    rest, held = hold_out(known, seed + 1)
    ease = fit_known(films, rest)
    groups = [name for name in GROUPS if name not in gone]
    tried = []
    for penalty, graph in itertools.product(PENALTIES, GRAPH_WEIGHTS if "graph" in groups else (1.0,)):
        weights = {name: graph if name == "graph" else 1.0 for name in groups}
        scores = linear(films, mapped(films, ease, weights, penalty, held), rest)[:, held]
        found = recall(scores, np.zeros_like(films.liked[:, held]), films.liked[:, held])["recall"]
        tried.append((float(np.nanmean(found)), weights, penalty))
    _, weights, penalty = max(tried, key=lambda one: one[0])
    return weights, penalty


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
            config,
        )
        self.users = np.searchsorted(
            np.unique(films.dataset.interactions.user_ids), np.unique(events.user_ids)
        )
        self.model: Model = fit_model(
            small, len(small.log), tuple(WEIGHTS.values()), config, TrainConfig(epochs=epochs), self.signals
        )[0]
        every = make_corpus(
            replace(films.dataset, interactions=events, items=[films.items[row] for row in rows]),
            rating_actions(events), WEIGHTS, encoder, config,
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

    @torch.inference_mode()
    def lists(self, ease: Ease, new_only: bool, **hidden: Any) -> np.ndarray:
        """Ten items a user, (n_users, 10) rows of `order`; `hidden` replaces inputs of the item encoder."""
        batch: ItemBatch = replace(self.batch, **hidden)
        names = ("id_rows", "text", "text_mask", "entities", "relations", "edge_mask")
        vectors = self.model.encoder(**{name: torch.as_tensor(getattr(batch, name)) for name in names})
        config, log = self.model.ranker.config, self.corpus.log
        replay = Replay(
            log, Edges(batch.entities, batch.relations, batch.edge_mask), signals=self.signals, ease=ease,
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
    films: Films, known: np.ndarray, new: np.ndarray, extended: Ease, epochs: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per variant the lists among new items and among all, in the films' rows."""
    product = Product(films, known, new, epochs)
    place = np.argsort(product.order)
    plain, full = (
        reorder(fit_known(films, known), product.order, place),
        reorder(extended, product.order, place),
    )
    fresh = np.arange(len(product.order)) >= product.n_known
    bare = {"edge_mask": product.batch.edge_mask & ~fresh[:, None]}
    variants: dict[str, tuple[Ease, dict[str, Any]]] = {
        "slatestream": (plain, {}),
        "slatestream, new items without text": (plain, {"text_mask": product.batch.text_mask & ~fresh}),
        "slatestream, new items without graph": (plain, bare),
        "slatestream with mapped EASE": (full, {}),
    }
    lists = {}
    for name, (ease, hidden) in variants.items():
        pair = []
        for new_only in (True, False):
            whole = np.zeros((len(films.liked), K), np.int64)
            whole[product.users] = product.order[product.lists(ease, new_only, **hidden)]
            pair.append(whole)
        lists[name] = (pair[0], pair[1])
    return lists


def reorder(ease: Ease, order: np.ndarray, place: np.ndarray) -> Ease:
    """The same weights over rows in another order."""
    dense = ease.dense()[np.ix_(order, order)]
    liked, items = np.nonzero(dense)
    bounds = np.searchsorted(liked, np.arange(len(place) + 1)).astype(np.int64)
    return Ease(bounds, items.astype(np.int32), dense[liked, items])


@dataclass
class Results:
    """By model, one entry a seed: metrics by user (n_users,)."""

    among_new: dict[str, list[dict[str, np.ndarray]]]
    among_all: dict[str, list[dict[str, np.ndarray]]]


def measure(
    results: Results, name: str, films: Films, known: np.ndarray, new: np.ndarray, scores: Any
) -> None:
    """Note how scores (n_users, n_items), or a pair of lists, do."""
    relevant = np.zeros_like(films.liked)
    relevant[:, new] = films.liked[:, new]
    if isinstance(scores, tuple):
        first, second = scores
    else:
        barred = np.zeros_like(films.met)
        barred[:, known] = True
        first = top_items(scores, barred, K)
        barred[:, known] = films.met[:, known]
        second = top_items(scores, barred, K)
    results.among_new.setdefault(name, []).append(ranking_metrics(first, relevant))
    results.among_all.setdefault(name, []).append(ranking_metrics(second, relevant))


def report(title: str, results: dict[str, list[dict[str, np.ndarray]]], chance: float | None) -> None:
    print(f"\n{title}\n{'':<38}{'recall@10':>20}{'NDCG@10':>20}{'hit@10':>20}{'seeds':>7}")
    if chance is not None:
        print(f"{'random (expected)':<38}{chance:>11.4f}")
    means = {}
    for name, seeds in results.items():
        cells = []
        for metric in ("recall", "ndcg", "hit"):
            found = estimate(np.array([np.nanmean(seed[metric]) for seed in seeds]))
            half = f" ± {found.high - found.mean:.4f}" if np.isfinite(found.high) else ""
            cells.append(f"{found.mean:.4f}{half}")
        means[name] = float(np.mean([np.nanmean(seed["recall"]) for seed in seeds]))
        print(f"{name:<38}" + "".join(f"{cell:>20}" for cell in cells) + f"{len(seeds):>7}")
    best = max(FLOORS, key=means.__getitem__)
    print(f"best floor: {best}; against it, recall@10 paired over users, 95 %:")
    for name, seeds in results.items():
        if name in FLOORS:
            continue
        ours, theirs = (
            np.stack([seed["recall"] for seed in one]) for one in (seeds, results[best][: len(seeds)])
        )
        found = paired_difference(ours, theirs)
        ratio = np.nanmean(ours, axis=1).mean() / np.nanmean(theirs, axis=1).mean()
        print(
            f"  {name:<38}{ratio:>6.2f} times, {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
            f"p {found.p_value:.1g}"
        )


def report_both(results: Results, held: int) -> None:
    report(f"Among the {held} held-out films", results.among_new, K / held)
    report("Held-out films among all films not met", results.among_all, None)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of ML-100K; fetched when left out.")] = None,
    side: Annotated[Path, typer.Option(help="Folder with the films' plots and triples.")] = SIDE,
    seeds: Annotated[int, typer.Option(min=1, help="How many times a fifth is held out.")] = 5,
    product_seeds: Annotated[
        int, typer.Option(min=0, help="Of those, with the served model trained too.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the served model.")] = 2,
) -> None:
    """Recommend films that nobody has met, beside category popularity, text neighbours and chance."""
    needed = ("links_ml100k.csv", "omdb_movies.jsonl.gz", "kg_omdb.tsv.gz")
    if missing := [name for name in needed if not (side / name).is_file()]:
        raise typer.BadParameter(f"{side} has no {missing[0]}", param_hint="--side")
    begun = time.perf_counter()
    torch.set_num_threads(1)
    encoder = TextEncoder("minilm", device="cpu")
    films = read_films(fetch(data), side, encoder)
    n = len(films.items)
    print(
        f"{__doc__.split('Run')[0].strip()}\n{n} films, {n // 5} held out a seed, seeds 0 to {seeds - 1}, "
        f"served model: {product_seeds} seeds, {epochs} epochs\n"
        f"{platform.processor() or platform.machine()}, 1 thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        flush=True,
    )
    results = Results({}, {})
    mappings: list[Ease] = []
    for seed in range(seeds):
        known, new = hold_out(np.arange(n), seed)
        for name, scores in floors(films, known).items():
            measure(results, name, films, known, new, scores)
        ease = fit_known(films, known)
        for name, gone in ABLATIONS.items():
            weights, penalty = tune(films, known, gone, seed)
            extended = mapped(films, ease, weights, penalty, new)
            measure(results, name, films, known, new, linear(films, extended, known))
            if not gone:
                mappings.append(extended)
                print(f"seed {seed}: weights {weights}, penalty {penalty:g}", flush=True)
        print(f"seed {seed} done, {time.perf_counter() - begun:.0f} s", flush=True)
    report_both(results, n // 5)
    for seed in range(min(seeds, product_seeds)):
        known, new = hold_out(np.arange(n), seed)
        for name, lists in run_product(films, known, new, mappings[seed], epochs).items():
            measure(results, name, films, known, new, lists)
        print(f"served model, seed {seed} done, {time.perf_counter() - begun:.0f} s", flush=True)
        report_both(results, n // 5)


if __name__ == "__main__":
    typer.run(main)
