"""Top-N with a knowledge graph: popularity, EASE, LightGCN, fused linear, the graph recommender and blends.

Run `python -m tests.benchmarks.quality_kg --data ../shared/data/lastfm-kg-mm --seeds 3` from the repository's
root. The interactions are those of the published tables (KGCN's preparation of HetRec's Last.FM, which
LightKG and AdaKG use too): the rows of user_artists.dat whose artist the knowledge graph knows, whatever the
listening count. A graph model is the mean of several trainings: random draws alone move one by more than most
differences. Whatever is chosen is chosen by NDCG@10 on the validation part of the split at hand; its test
part is read once, by the models so chosen. Models are fitted on the training part only. Who is whose friend
(HetRec's user_friends.dat) is side information that the published models do not read: models with it are
named so, and stand beside those without.
"""

import gzip
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn.models import LightGCN

from model_core.evaluation.topn import estimate, paired_difference, ranking_metrics, top_items
from model_core.signals.ease import fit_ease
from tests.benchmarks.inputs import check_files, faults_told
from tests.benchmarks.random_split import Split, random_split
from tests.benchmarks.rivals.fused_linear import FusedLinear, entity_kernel, low_pass, ridge_without_self
from tests.benchmarks.rivals.graph_encoder import Edges, JoinedGraph
from tests.benchmarks.rivals.graph_recommender import (
    GraphConfig,
    GraphModel,
    TrainedGraph,
    train_graph,
    validation_ndcg,
    without_facts,
)

K = 10
METRICS = ("recall", "mrr", "ndcg", "hit")
PENALTIES = (40.0, 100.0)
KERNEL_WEIGHT = 2.0
USER_PENALTIES = (60.0, 120.0)
FRIENDS = (0.0, 10.0, 20.0)
SHARES = (0.0, 0.5, 1.0, 2.0)
RANK, TEMPER = 48, 0.25
BLENDS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
PUBLISHED = (
    "KGCN .2149/.0924, KGAT .2583/.1152, LightGCN .2695/.1204, KGIN .2727/.1242, LightKG .2976/.1351, "
    "AdaKG .3053/.1398 (the table of AdaKG, CIKM 2026: same interactions and facts, 8:1:1 drawn otherwise)"
)
COMPARED = (
    ("graph", "graph, one training"),
    ("graph", "LightGCN"),
    ("graph", "graph without facts"),
    ("graph", "EASE"),
    ("fused linear", "EASE"),
    ("graph + EASE", "EASE"),
    ("graph + EASE", "LightGCN"),
    ("graph + fused linear", "EASE"),
    ("graph + fused linear", "graph"),
    ("graph + fused linear", "both without facts"),
    ("fused linear, friends", "fused linear"),
    ("graph, friends", "graph"),
    ("both, friends", "graph + fused linear"),
    ("both, friends", "LightGCN"),
    ("both, friends", "EASE"),
)

Scores = np.ndarray
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """users, items : (n,) rows; triples : (m, 3) head, relation, tail, items numbered below the entities.

    friends : (f, 2) rows of users, each pair both ways
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int
    triples: np.ndarray
    friends: np.ndarray

    @property
    def n_entities(self) -> int:
        return int(self.triples[:, [0, 2]].max()) + 1 - self.n_items

    def graph(self, train: np.ndarray, *, friends: bool = False) -> JoinedGraph:
        users, items = np.nonzero(train)
        n_nodes = self.n_users + self.n_items + self.n_entities
        facts = self.triples + np.array([self.n_users, 0, self.n_users])
        if friends:
            one, other = self.friends[self.friends[:, 0] < self.friends[:, 1]].T
            relation = np.full_like(one, self.triples[:, 1].max() + 1)
            facts = np.concatenate((facts, np.stack((one, relation, other), 1)))
        return JoinedGraph.join(
            users, items, facts, n_users=self.n_users, n_items=self.n_items, n_nodes=n_nodes
        )


def load(folder: Path) -> Data:
    """Read user_artists.dat, user_friends.dat, kg.txt and artists' entities; artist of entity i is item i."""
    entities = dict(np.loadtxt(folder / "item_index2entity_id.txt", dtype=np.int64).tolist())
    rows, friends = (
        np.loadtxt(folder / f"{name}.dat.gz", dtype=np.int64, skiprows=1)
        for name in ("user_artists", "user_friends")
    )
    rows = rows[np.isin(rows[:, 1], list(entities))]
    ids, users = np.unique(rows[:, 0], return_inverse=True)
    friends = np.searchsorted(ids, friends[np.isin(friends, ids).all(1)])
    friends = np.unique(np.concatenate((friends, friends[:, ::-1])), axis=0)
    relations: dict[str, int] = {}
    with gzip.open(folder / "kg.txt.gz", "rt") as file:
        facts = [line.split() for line in file]
    triples = [(int(h), relations.setdefault(r, len(relations)), int(t)) for h, r, t in facts]
    items = np.array([entities[artist] for artist in rows[:, 1].tolist()])
    return Data(users, items, len(ids), len(entities), np.array(triples, np.int64), friends)


class PygLightGcn(nn.Module):
    """PyG's LightGCN under the loss, the draws and the early stopping of the graph recommender."""

    def __init__(self, graph: JoinedGraph, config: GraphConfig) -> None:
        super().__init__()
        self.model = LightGCN(graph.n_nodes, config.dim, config.layers)
        nn.init.normal_(self.model.embedding.weight, std=0.1)  # as the graph recommender's

    def forward(self, edges: Edges) -> Tensor:
        return functional.normalize(self.model.get_embedding(edges.index), dim=1)


def ndcg(scores: Scores, split: Split) -> float:
    return validation_ndcg(torch.as_tensor(scores), split.train, split.validation, K)


def best(candidates: dict[str, Scores], split: Split) -> tuple[str, Scores]:
    """Choose by validation."""
    name = max(candidates, key=lambda name: ndcg(candidates[name], split))
    return name, candidates[name]


def linear_models(data: Data, split: Split, announce: Announce) -> dict[str, Scores]:
    x = split.train.astype(np.float32)
    users, items = (rows.astype(np.int32) for rows in np.nonzero(split.train))
    models = {"popularity": np.tile(x.sum(0), (len(x), 1))}
    ease = {
        f"{penalty:g}": x @ fit_ease(users, items, data.n_items, penalty=penalty).dense()
        for penalty in PENALTIES
    }
    chosen, models["EASE"] = best(ease, split)
    announce(f"EASE: penalty {chosen}, {ndcg(models['EASE'], split):.4f}")
    for name, weight, friends in (
        ("fused linear", KERNEL_WEIGHT, FRIENDS[:1]),
        ("fused linear without facts", 0.0, FRIENDS[:1]),
        ("fused linear, friends", KERNEL_WEIGHT, FRIENDS),
    ):
        models[name], chosen = fused(data, split, x, weight, friends)
        announce(f"{name}: {chosen}, {ndcg(models[name], split):.4f}")
    return models


def neighbours(data: Data) -> list[list[tuple[int, int]]]:
    """Facts of each item, as (relation with direction, other end)."""
    out: list[list[tuple[int, int]]] = [[] for _ in range(data.n_items)]
    for head, relation, tail in data.triples.tolist():
        for item, edge in ((head, (relation, tail)), (tail, (-1 - relation, head))):
            if item < data.n_items:
                out[item].append(edge)
    return out


def fused(
    data: Data, split: Split, x: np.ndarray, weight: float, friends: tuple[float, ...]
) -> tuple[Scores, str]:
    """Choose the items' part, then the users' part and the shares of both others beside it."""
    gram = x.T @ x + weight * entity_kernel(neighbours(data))
    parts = {f"{penalty:g}": ridge_without_self(gram, penalty) for penalty in PENALTIES}
    penalty, scores = best({name: x @ weights for name, weights in parts.items()}, split)
    circles: list[list[int]] = [[user] for user in range(data.n_users)]
    for user, friend in data.friends.tolist():
        circles[user].append(friend)
    near = entity_kernel(circles)
    users = {
        f"{penalty:g}, friends {weight:g}": ridge_without_self(x @ x.T + weight * near, penalty)
        for penalty, weight in product(USER_PENALTIES, friends)
    }
    smooth = low_pass(x, RANK, TEMPER)
    smooth_scores, user_scores = x @ smooth, {name: weights.T @ x for name, weights in users.items()}
    found = {
        (name, user, low): ndcg(scores + user * user_scores[name] + low * smooth_scores, split)
        for name, user, low in product(users, SHARES, SHARES)
    }
    name, user, low = max(found, key=lambda key: found[key])
    model = FusedLinear(parts[penalty] + low * smooth, user * users[name])
    return model.scores(x), f"penalty {penalty}, users' {name}, shares {user:g} and {low:g}"


def graph_models(
    data: Data, split: Split, seeds: list[int], variants: bool, progress: Progress, announce: Announce
) -> dict[str, Scores]:
    graph = data.graph(split.train)
    bare = without_facts(graph)
    runs: dict[str, tuple[JoinedGraph, GraphConfig, Callable[[JoinedGraph, GraphConfig], nn.Module]]] = {
        "LightGCN": (bare, GraphConfig(neighbours=data.n_users), PygLightGcn),
        "graph without facts": (bare, GraphConfig(), GraphModel),
        "graph": (graph, GraphConfig(), GraphModel),
        "graph, friends": (data.graph(split.train, friends=True), GraphConfig(), GraphModel),
    }
    if variants:
        runs["graph without the loss of facts"] = (graph, GraphConfig(knowledge=0.0), GraphModel)
        runs["graph, attention rule"] = (graph, GraphConfig(rule="attention"), GraphModel)
    models = {}
    for name, (side, config, build) in runs.items():
        parts = []
        for seed in seeds:
            task = progress.add_task(f"{name}, seed {seed}", total=1.0)
            trained = train_graph(
                side,
                split.train,
                split.validation,
                replace(config, seed=seed),
                build=build,
                report=lambda stage, done, task=task: progress.update(task, completed=done),
            )
            progress.remove_task(task)
            parts.append(standard(trained.scores()))
            announce(f"{name}, seed {seed}: {describe(trained)}")
        if name == "graph":
            models["graph, one training"] = parts[0]
        models[name] = np.mean(parts, axis=0)
        announce(f"{name}: mean of {len(parts)}, {ndcg(models[name], split):.4f}")
    return models


def describe(trained: TrainedGraph) -> str:
    step, reached = max(trained.curve, key=lambda point: point[1])
    return f"step {step} of {trained.curve[-1][0]}, {reached:.4f}"


def standard(scores: Scores) -> Scores:
    """Centre and scale each user's scores, so that two models' can be added."""
    centred = scores - scores.mean(1, keepdims=True)
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-9)


def blends(models: dict[str, Scores], split: Split, announce: Announce) -> dict[str, Scores]:
    """Add two models' standard scores with the weight that validation chooses."""
    pairs = {
        "graph + EASE": ("graph", "EASE"),
        "graph + fused linear": ("graph", "fused linear"),
        "both without facts": ("graph without facts", "fused linear without facts"),
        "graph + fused linear with friends": ("graph", "fused linear, friends"),
        "both, friends": ("graph, friends", "fused linear, friends"),
    }
    blended = {}
    for name, (first, second) in pairs.items():
        one, other = standard(models[first]), standard(models[second])
        weight, blended[name] = best({f"{value:g}": one + value * other for value in BLENDS}, split)
        announce(f"{name}: weight {weight}, {ndcg(blended[name], split):.4f}")
    return blended


def show(results: dict[str, dict[str, list[np.ndarray]]], console: Console) -> None:
    """Print means over users with the interval over seeds, and differences paired over users."""
    console.print(f"\n{'full ranking, top 10':<34}" + "".join(f"{name + '@10':>18}" for name in METRICS))
    for name, metrics in results.items():
        found = [estimate(np.array([np.nanmean(seed) for seed in metrics[metric]])) for metric in METRICS]
        cells = (f"{value.mean:.4f} ± {value.high - value.mean:.4f}" for value in found)
        console.print(f"{name:<34}" + "".join(f"{cell:>18}" for cell in cells))
    console.print(f"published, Recall@10/MRR@10: {PUBLISHED}")
    console.print("\npaired over users, 95 % interval")
    for ours, theirs in COMPARED:
        for metric in ("recall", "ndcg"):
            pair = [np.stack(results[name][metric]) for name in (ours, theirs)]
            found = paired_difference(*pair)
            console.print(
                f"{ours} - {theirs}, {metric}@10: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
                f"p {found.p_value:.1g}",
                markup=False,
            )


def main(
    data: Annotated[Path, typer.Option(help="folder lastfm-kg-mm")] = Path("../shared/data/lastfm-kg-mm"),
    seeds: Annotated[int, typer.Option(min=1, help="splits, each with model seeds of its own")] = 3,
    trainings: Annotated[int, typer.Option(min=1, help="of each graph model, averaged")] = 3,
    first_seed: int = 2020,
    variants: Annotated[bool, typer.Option(help="train without the loss of facts, and by attention")] = False,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Measure top-N quality on Last.FM with its knowledge graph."""
    console = Console(width=160, highlight=False)
    check_files(data, "user_artists.dat.gz")
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    loaded = load(data)
    console.print(
        f"{data.name}: {len(loaded.users)} interactions, {loaded.n_users} users, {loaded.n_items} items, "
        f"{len(loaded.triples)} facts, {len(loaded.friends) // 2} friendships; "
        "random 8:1:1 per user, full ranking, train and validation filtered\n"
        f"seeds {list(range(first_seed, first_seed + seeds))}; {platform.machine()}, {threads} thread(s), "
        f"{'CUDA' if torch.cuda.is_available() else 'no CUDA'}, Python {platform.python_version()}, "
        f"torch {torch.__version__}; {trainings} training(s) a graph model; validation NDCG@10 at choices",
        markup=False,
    )
    results: dict[str, dict[str, list[np.ndarray]]] = {}
    with Progress(console=console, transient=True) as progress:
        for seed in range(first_seed, first_seed + seeds):
            split = random_split(loaded.users, loaded.items, loaded.n_users, loaded.n_items, seed=seed)

            def announce(line: str, seed: int = seed) -> None:
                console.print(f"seed {seed}, {time.perf_counter() - begun:.0f} s: {line}", markup=False)

            models = graph_models(
                loaded, split, [seed + 100 * part for part in range(trainings)], variants, progress, announce
            )
            models = linear_models(loaded, split, announce) | models
            models |= blends(models, split, announce)
            for name, scores in models.items():
                top = top_items(scores, split.train | split.validation, K)
                metrics = ranking_metrics(top, split.test)
                for metric in METRICS:
                    results.setdefault(name, {}).setdefault(metric, []).append(metrics[metric])
            for name, found in results.items():
                announce(f"test, {name}: " + " ".join(f"{np.nanmean(found[m][-1]):.4f}" for m in METRICS))
    show(results, console)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
