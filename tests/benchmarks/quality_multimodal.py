"""Top-20 on TikTok's short videos, with and without what they look and sound like.

Run `python -m tests.benchmarks.quality_multimodal` from the repository's root. The split is that of the data
(train, validation, test); every item is ranked but those the user met in training, as in the figures
published for it, of which most also had texts, which this copy lacks. Everything is chosen on the validation
part; the test part is read once by each model. Closed-form models have no seed; the others run once a seed.
"""

import gzip
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import sparse

from model_core.evaluation.topn import estimate, paired_difference, ranking_metrics, top_items
from model_core.network.fusion import MODES
from tests.benchmarks.inputs import check_files, faults_told
from tests.benchmarks.rivals.fused_linear import ridge_without_self, vector_kernel
from tests.benchmarks.rivals.interactions import Interactions
from tests.benchmarks.rivals.item_walk import fit_walk, tune_walk
from tests.benchmarks.rivals.multimodal import MultimodalConfig, fit_multimodal

K = 20
BLOCK = 1000
GROUPS = ("floors", "walk", "network", "blend", "ablation", "modes", "ease")
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the walk in a blend
PUBLISHED = {"LightGCN": 0.0653, "MMGCN": 0.0730, "LATTICE": 0.0843, "BM3": 0.0957, "DiffMM": 0.1129}
ABLATIONS = {"without image": {"image"}, "without audio": {"audio"}, "without both": {"image", "audio"}}
GATED = "network gated"
Scorer = Callable[[np.ndarray], np.ndarray]
Result = dict[str, np.ndarray]


@dataclass(frozen=True)
class Data:
    train: Interactions
    validation: Interactions
    test: Interactions
    features: dict[str, np.ndarray]
    matrix: sparse.csr_matrix


def load(folder: Path) -> Data:
    features = {name: np.load(folder / f"{name}_feat.npy").astype(np.float32) for name in ("image", "audio")}
    pairs = {}
    for name in ("train", "valid", "test"):
        with gzip.open(folder / f"{name}.tsv.gz", "rt") as lines:
            pairs[name] = np.loadtxt(lines, dtype=np.int64, delimiter="\t").T
    n_users = 1 + max(int(users.max()) for users, _ in pairs.values())
    n_items = len(features["image"])
    parts = [Interactions(*pairs[name], n_users, n_items) for name in ("train", "valid", "test")]
    ones = np.ones(len(parts[0].users), np.float32)
    matrix = sparse.csr_matrix((ones, (parts[0].users, parts[0].items)), (n_users, n_items))
    return Data(*parts, features, matrix)


def measure(data: Data, held: Interactions, scorer: Scorer) -> Result:
    """Recall and NDCG of each user who has held-out items."""
    users = np.unique(held.users)
    relevant = sparse.csr_matrix(
        (np.ones(len(held.users), np.bool_), (held.users, held.items)), data.matrix.shape
    )
    found = []
    for begin in range(0, len(users), BLOCK):
        block = users[begin : begin + BLOCK]
        top = top_items(scorer(block), data.matrix[block].toarray() > 0, K)
        found.append(ranking_metrics(top, relevant[block].toarray()))
    return {name: np.concatenate([block[name] for block in found]) for name in ("recall", "ndcg")}


def chosen(data: Data, scorers: dict[str, Scorer]) -> tuple[str, Scorer]:
    """Take the best by NDCG on validation."""
    reached = {
        name: float(measure(data, data.validation, scorer)["ndcg"].mean()) for name, scorer in scorers.items()
    }
    best = max(reached, key=reached.__getitem__)
    return best, scorers[best]


def popularity(data: Data) -> Scorer:
    counts = np.asarray(data.matrix.sum(0))
    return lambda users: np.tile(counts, (len(users), 1))


def item_knn(data: Data) -> tuple[str, Scorer]:
    """Cosine neighbours (Sarwar et al. 2001)."""
    counts = np.asarray(data.matrix.sum(0)).ravel()
    unit = data.matrix @ sparse.diags(1 / np.sqrt(np.maximum(counts, 1)).astype(np.float32))
    similar = (unit.T @ unit).toarray()
    np.fill_diagonal(similar, 0)
    models = {}
    for k in (20, 100):
        cut = np.where(similar >= np.partition(similar, -k, axis=0)[-k], similar, 0).astype(np.float32)
        models[f"{k} neighbours"] = _linear(data, cut)
    return chosen(data, models)


def ease(data: Data, *, sides: tuple[str, ...], quick: bool) -> tuple[str, Scorer]:
    """EASE, users weighted by a power of their number of items, modalities' rows stacked under them."""
    size = np.maximum(np.asarray(data.matrix.sum(1)).ravel(), 1)
    grid = [(0.5, 1.0)] if quick else [(0.0, 100.0), (0.0, 400.0), (0.5, 1.0), (0.5, 4.0), (1.0, 0.5)]
    models = {}
    for power, penalty in grid:
        weighted = sparse.diags(size ** (-power / 2)).astype(np.float32) @ data.matrix
        gram = (weighted.T @ weighted).toarray()
        for share in (0.1, 0.5) if sides else (0.0,):
            joined = gram.copy()
            for name in sides:
                joined += np.float32(share * penalty) * vector_kernel(data.features[name])
            name = f"user power {power}, penalty {penalty}" + (f", side {share}" if sides else "")
            models[name] = _linear(data, ridge_without_self(joined, penalty))
    return chosen(data, models)


def _linear(data: Data, weights: np.ndarray) -> Scorer:
    return lambda users: data.matrix[users] @ weights


def walks(data: Data) -> Iterator[tuple[str, str, Scorer]]:
    walk = fit_walk(data.train, data.features)
    for name, gone in {"walk": set[str](), **{f"walk {k}": v for k, v in ABLATIONS.items()}}.items():
        weights, _ = tune_walk(walk, data.validation, data.train, k=K, without=gone)
        note = ", ".join(f"{path} {weight:g}" for path, weight in weights.items() if weight)
        yield name, note, lambda users, weights=weights: walk.scores(users, weights)


def networks(data: Data, seed: int, epochs: int, groups: set[str]) -> Iterator[tuple[str, str, Scorer]]:
    ours = MultimodalConfig(seed=seed, epochs=epochs)
    tasks = []
    if groups & {"network", "blend"}:
        tasks.append((GATED, ours, data.features))
    if "network" in groups:
        tasks.append(("LightGCN", MultimodalConfig.lightgcn(seed=seed, epochs=epochs), {}))
    if "ablation" in groups:
        for name, gone in ABLATIONS.items():
            left = {key: value for key, value in data.features.items() if key not in gone}
            tasks.append((f"network {ours.fusion} {name}", ours, left))
    if "modes" in groups:
        others = [mode for mode in MODES if mode != ours.fusion]
        tasks += [(f"network {mode}", replace(ours, fusion=mode), data.features) for mode in others]
    for name, config, features in tasks:
        model = fit_multimodal(data.train, data.validation, features, config, k=K)
        note = f"recall on validation {max(model.curve):.4f}, look {int(np.argmax(model.curve)) + 1}"
        yield name, f"{note} of {len(model.curve)}", model.scores


def average(networks: list[Scorer]) -> Scorer:
    """Mean of networks, each with mean 0 and deviation 1 over a user's items."""
    return lambda users: np.mean([_standard(one(users)) for one in networks], axis=0)


def blend(data: Data, networks: list[Scorer], walk: Scorer) -> tuple[str, Scorer]:
    """Mean of networks, and of those and a walk, with the walk's share chosen on validation."""
    network = average(networks)

    def mixed(share: float) -> Scorer:
        return lambda users: (1 - share) * _standard(network(users)) + share * _standard(walk(users))

    return chosen(data, {f"walk {share}": mixed(share) for share in SHARES})


def _standard(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.mean(1, keepdims=True)
    return scores / (scores.std(1, keepdims=True) + 1e-9)


def line(name: str, results: list[Result]) -> str:
    """Means over users; the interval is over seeds where there are several, else over users."""
    text = f"{name:<32}"
    for metric in ("recall", "ndcg"):
        values = np.array([result[metric].mean() for result in results])
        found = estimate(values if len(values) > 1 else results[0][metric])
        text += f"  {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"
    return text


def differences(results: dict[str, list[Result]]) -> None:
    print("\npaired over users, 95 % interval, recall@20")
    pairs = [(base, f"{base} {name}") for base in ("walk", GATED) for name in ABLATIONS]
    pairs += [("walk", GATED), (GATED, "LightGCN"), ("network and walk", GATED), ("network and walk", "walk")]
    for whole, part in pairs:
        if whole in results and part in results:
            both = [np.stack([one["recall"] for one in results[name]]) for name in (whole, part)]
            seeds = max(len(values) for values in both)
            both = [np.broadcast_to(values, (seeds, values.shape[1])) for values in both]
            found = paired_difference(*both)
            print(
                f"{whole} - {part}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
                f"p {found.p_value:.1g}"
            )


def main(
    data: Annotated[Path, typer.Option(help="Folder with train.tsv.gz, image_feat.npy ...")] = Path(
        "../shared/data/tiktok-mm"
    ),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    first_seed: int = 2020,
    trainings: Annotated[int, typer.Option(min=1, help="Seeds whose networks are averaged too.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="At most, of each network.")] = 40,
    only: Annotated[list[str] | None, typer.Option(help=f"Groups to run: {', '.join(GROUPS)}.")] = None,
    quick: Annotated[bool, typer.Option(help="One seed, 20 epochs, one EASE of each kind.")] = False,
) -> None:
    """Print Recall@20 and NDCG@20 of each model, each with its 95 % interval, as they are found."""
    check_files(data, "train.tsv.gz")
    groups = set(only or GROUPS)
    if groups - set(GROUPS):
        raise typer.BadParameter(f"--only must be of {GROUPS}, got {sorted(groups - set(GROUPS))}")
    if quick:
        seeds, epochs = 1, min(epochs, 20)
    torch.set_num_threads(1)
    begun = time.process_time()
    loaded = load(data)
    print(
        f"{data.name}: given split, {len(loaded.train.users):,} / {len(loaded.validation.users):,} / "
        f"{len(loaded.test.users):,} pairs, full ranking, training items filtered, top {K}\n"
        f"seeds {list(range(first_seed, first_seed + seeds))}; {platform.processor() or platform.machine()}, "
        f"1 thread, CPU, torch {torch.__version__}\npublished recall, most with texts: {PUBLISHED}\n"
        f"{'':<32}  recall@20                 ndcg@20",
        flush=True,
    )
    results: dict[str, list[Result]] = {}

    def record(name: str, note: str, scorer: Scorer) -> None:
        results.setdefault(name, []).append(measure(loaded, loaded.test, scorer))
        shown = line(name, results[name][-1:])
        print(f"{shown}  {time.process_time() - begun:5.0f} s  {note}", flush=True)

    if "floors" in groups:
        record("popularity", "", popularity(loaded))
        record("item-kNN", *item_knn(loaded))
    if "walk" in groups:
        for name, note, scorer in walks(loaded):
            record(name, note, scorer)
    gated = []
    if groups & {"network", "blend", "ablation", "modes"}:
        for seed in range(first_seed, first_seed + seeds):
            for name, note, scorer in networks(loaded, seed, epochs, groups):
                record(name, f"seed {seed}, {note}", scorer)
                gated += [scorer] if name == GATED else []
    if "blend" in groups:
        walk = next(walks(loaded))[2]
        for network in gated:
            record("network and walk", *blend(loaded, [network], walk))
        for begin in range(0, len(gated) - trainings + 1, trainings):
            some = gated[begin : begin + trainings]
            record(f"{trainings} networks", "", average(some))
            record(f"{trainings} networks and walk", *blend(loaded, some, walk))
    if "ease" in groups:
        record("EASE", *ease(loaded, sides=(), quick=quick))
        record("EASE with modalities", *ease(loaded, sides=tuple(loaded.features), quick=quick))
    print("\nmeans, and intervals over seeds where there are several, else over users")
    for name, found in results.items():
        print(line(name, found))
    differences(results)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
