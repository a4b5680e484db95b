"""Knowledge-graph embedding: filtered MRR and Hits@k on held-out triples, and of nodes never trained on.

    python tests/benchmarks/quality_kge.py --data FOLDER
    python tests/benchmarks/quality_kge.py --data FOLDER --named ../shared/data/movies-sidedata

Every table has a floor: how often a node is the head, or the tail, of the relation in training. The graph
of ml-100k has opaque entities, so what a name tells is measured on the named graph: entities, then items,
are held out with all their triples and get their vectors from their name (items: title and plot).
"""

import argparse
import csv
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from model_core.data.datasets import Dataset, Item
from model_core.data.item_text import item_text
from model_core.graph.kge import KgeConfig, train_embeddings
from model_core.graph.knowledge_graph import (
    CUTOFFS,
    SIDES,
    KnowledgeGraph,
    Scores,
    Split,
    frequency_scores,
    rank_triples,
    ranking_quality,
    split_triples,
)
from model_core.graph.node_embeddings import FAMILIES, NodeEmbeddings, fit_name_map
from streams.items.text_encoder import named_encoder
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data

UNSEEN = 0.1  # of the entities, or of the items


def named_items(dataset: Dataset, folder: Path) -> list[Item]:
    """Describe a dataset's items by OMDb's triples, whose entities read "person:Charles Chaplin"."""
    with (folder / "links_ml100k.csv").open(encoding="utf-8") as file:
        imdb = {row["item_id"]: row["imdb"] for row in csv.DictReader(file)}
    attributes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(folder / "kg_omdb.tsv.gz", "rt", encoding="utf-8") as file:
        for film, relation, entity in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            attributes[film][relation].append(entity)
    with gzip.open(folder / "omdb_movies.jsonl.gz", "rt", encoding="utf-8") as file:
        films = map(json.loads, file)
        plots = {film["imdb"]: film.get("Plot") for film in films}
    return [
        Item(item.item_id, item.title, dict(attributes[film]), text=plots.get(film))
        for item in dataset.items
        if (film := imdb.get(item.item_id))
    ]


def show(name: str, scores: Scores, split: Split, graph: KnowledgeGraph, seconds: float = 0.0) -> None:
    """Print a row: both sides together, then the MRR of each."""
    ranks = rank_triples(scores, split.test, graph.triples)
    both = ranking_quality(np.concatenate([ranks[side] for side in SIDES]))
    row = [both["mrr"], *(both[f"hits@{k}"] for k in CUTOFFS)]
    row += [ranking_quality(ranks[side])["mrr"] for side in SIDES]
    print(f"{name:<24}" + "".join(f"{value:10.4f}" for value in row) + f"{seconds:8.0f} s", flush=True)


def header(title: str, graph: KnowledgeGraph, split: Split) -> None:
    """Print what is measured and the columns."""
    sizes = f"{len(graph.items)} items, {len(graph.entities)} entities, {len(graph.relations)} relations"
    parts = f"{len(split.train)} / {len(split.valid)} / {len(split.test)}"
    print(f"\n{title}: {sizes}, triples {parts} (train / valid / test)")
    columns = ("MRR", *(f"Hits@{k}" for k in CUTOFFS), "MRR head", "MRR tail", "training")
    print(" " * 24 + "".join(f"{column:>10}" for column in columns), flush=True)


def compare_models(graph: KnowledgeGraph, configs: Iterable[KgeConfig], seed: int) -> None:
    """Print a row for the floor and for each model."""
    split = split_triples(graph, seed=seed)
    header(f"seed {seed}", graph, split)
    show("floor: frequency", frequency_scores(split.train, graph.n_nodes, len(graph.relations)), split, graph)
    for config in configs:
        began = time.perf_counter()
        trained = train_embeddings(graph, split, config)
        best = max(trained.curve, key=lambda point: point.mrr)
        seconds = time.perf_counter() - began
        show(f"{config.model} (epoch {best.epoch})", trained.embeddings.scores(), split, graph, seconds)


def compare_unseen(items: list[Item], kind: str, config: KgeConfig, seed: int) -> None:
    """Hold a tenth of the entities, or of the items, out, and give them vectors by their names."""
    graph = KnowledgeGraph.of(items)
    described = {item.item_id: item_text(item.title, item.text) for item in items}
    if kind == "items":
        nodes, texts = np.arange(len(graph.items)), [described[item] for item in graph.items]
        kinds = np.full(len(nodes), "item")
    else:
        nodes = np.arange(len(graph.items), graph.n_nodes)
        texts = [name.replace(":", ": ") for name in graph.entities]
        kinds = np.array([name.split(":")[0] for name in graph.entities])
    rng = np.random.default_rng(seed)
    unseen = np.sort(rng.choice(nodes, int(UNSEEN * len(nodes)), replace=False))
    split = split_triples(graph, seed=seed, unseen=unseen)
    began = time.perf_counter()
    learned = train_embeddings(graph, split, config).embeddings
    seconds = time.perf_counter() - began
    seen = np.intersect1d(nodes, split.train[:, [0, 2]])
    text = named_encoder("minilm").encode(texts)
    first = nodes[0]
    by_name = fit_name_map(text[seen - first], learned.nodes[seen]).vectors(text[unseen - first])
    # A name such as "person: ..." tells the kind too, which is much of what can be known of a node.
    by_kind = learned.nodes[unseen]
    for name in np.unique(kinds[seen - first]):
        mean = learned.nodes[seen[kinds[seen - first] == name]].mean(0)
        by_kind[kinds[unseen - first] == name] = mean
    header(f"seed {seed}, {len(unseen)} {kind} unseen, {config.model}", graph, split)
    show("floor: frequency", frequency_scores(split.train, graph.n_nodes, len(graph.relations)), split, graph)
    rows: dict[str, NodeEmbeddings] = {
        "a random node's vector": learned.with_nodes(unseen, learned.nodes[rng.choice(seen, len(unseen))]),
        "the mean vector": learned,
        "the mean of its kind": learned.with_nodes(unseen, by_kind),
        "from its name": learned.with_nodes(unseen, by_name),
    }
    for name, embeddings in rows.items():
        show(name, embeddings.scores(), split, graph, seconds)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--named", type=Path, help="the folder movies-sidedata, for ml-100k")
    parser.add_argument("--models", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--dim", type=int, default=KgeConfig().dim)
    parser.add_argument("--epochs", type=int, default=KgeConfig().epochs)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = read_data(options.data)
    for seed in options.seeds:
        configs = [
            KgeConfig(model=model, dim=options.dim, epochs=options.epochs, seed=seed)
            for model in options.models
        ]
        if options.named is None:
            compare_models(KnowledgeGraph.of(dataset.items), configs, seed)
            continue
        items = named_items(dataset, options.named)
        for kind in ("entities", "items"):
            for config in configs:
                compare_unseen(items, kind, config, seed)


if __name__ == "__main__":
    with faults_told():
        main()
