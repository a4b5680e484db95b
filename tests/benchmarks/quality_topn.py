"""Top-N quality by random splits: popularity, item-kNN, EASE and the knowledge-fused linear model.

Run `python -m tests.benchmarks.quality_topn --data ~/.cache/slatestream/ml-100k --seeds 5` from the
repository's root. Whatever is tuned is tuned on the validation part of the seed at hand; its test part is
read once, by the models so chosen. Models are fitted on the training part only.

`--release FOLDER` trains and asks the served release too, minutes a seed; it stays in FOLDER by its seed.
`--without-fused` leaves the fused model and its variants out, which take most of the time otherwise.

`--peer-python PEERS/bin/python` puts the models of implicit and lenskit beside ours: `uv venv PEERS`, then
`uv pip install --python PEERS/bin/python implicit==0.7.3 lenskit==2025.8.1`. Theirs are chosen as ours are.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch

from model_core.data.datasets import Dataset
from model_core.data.item_text import item_text
from model_core.evaluation.topn import (
    coverage,
    estimate,
    gini,
    intra_list_diversity,
    novelty,
    paired_difference,
    popularity_buckets,
    ranking_metrics,
    top_items,
)
from model_core.signals.config import SignalConfig
from model_core.signals.ease import fit_ease
from model_core.training.linear import FACTORS, NEARS, SHARES
from model_core.training.recipe import Recipe
from streams.items.text_encoder import named_encoder
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data
from tests.benchmarks.random_split import Split, random_split, recall_by_bucket
from tests.benchmarks.rivals.fused_linear import (
    FusedConfig,
    entity_kernel,
    fit_fused,
    ridge_without_self,
    tune,
    vector_kernel,
)
from tests.benchmarks.topn_release import release_scores

PEER = Path(__file__).with_name("topn_peer.py")
K = 10
SERVED = "linear term of a release"
KEEP, FULL_LIKES = SignalConfig().ease_keep, SignalConfig().full_likes
BUCKETS = 4
PENALTIES = (100.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 800.0)
NEIGHBOURS = (20, 50, 100, 200, 400)
ACCURACY = ("recall", "ndcg", "mrr", "hit")
BEYOND = ("coverage", "gini", "novelty", "diversity")
WITHOUT = {
    "without knowledge graph": {"graph"},
    "without text": {"text"},
    "without genres": {"genres"},
    "without user attributes": {"users"},
    "without any of these": {"graph", "text", "genres", "users"},
}


@dataclass(frozen=True)
class Data:
    """users, items : (n,) rows of the interactions; in_time : (n,) which of these, in time order
    kernels, user_kernel : side information.
    """

    users: np.ndarray
    items: np.ndarray
    in_time: np.ndarray
    n_users: int
    n_items: int
    kernels: dict[str, np.ndarray]
    user_kernel: np.ndarray
    genres: np.ndarray


@dataclass
class Results:
    """Per model one entry a seed: per-user metrics (n_users,), figures of all lists, recall by bucket."""

    accuracy: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in ACCURACY})
    beyond: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in BEYOND})
    buckets: list[np.ndarray] = field(default_factory=list)


def prepare(dataset: Dataset) -> Data:
    """Number users and items, and turn what is known of them into kernels."""
    item_rows = {item.item_id: row for row, item in enumerate(dataset.items)}
    ids, users = np.unique(dataset.interactions.user_ids, return_inverse=True)
    attributes = {user.user_id: user.attributes for user in dataset.users}
    names = sorted({genre for item in dataset.items for genre in item.genres})
    genres = np.array([[name in item.genres for name in names] for item in dataset.items], np.float32)
    encoder = named_encoder("minilm")
    # Titles alone: genres are a group of their own, and the ablation must be able to take them away.
    text = encoder.encode([item_text(item.title, item.text) for item in dataset.items])
    return Data(
        users,
        np.array([item_rows[item_id] for item_id in dataset.interactions.item_ids.tolist()]),
        np.argsort(dataset.interactions.timestamps_ms, kind="stable"),
        len(ids),
        len(dataset.items),
        {
            "genres": entity_kernel([item.genres for item in dataset.items]),
            "graph": entity_kernel([item.triples for item in dataset.items]),
            "text": vector_kernel(text),
        },
        entity_kernel([decades(attributes.get(user_id, {})) for user_id in ids.tolist()]),
        genres,
    )


def decades(attributes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Attributes as entities; an age is that of its decade."""
    return [
        (name, str(int(value) // 10) if name == "age" and value.isdigit() else value)
        for name, value in attributes.items()
    ]


def ndcg(scores: np.ndarray, split: Split) -> float:
    return float(np.nanmean(ranking_metrics(top_items(scores, split.train, K), split.validation)["ndcg"]))


def cosine_knn(x: np.ndarray, neighbours: int) -> np.ndarray:
    """Item-based nearest neighbours (Sarwar et al. 2001): (n_users, n_items) scores."""
    norm = np.sqrt(x.sum(0)) + 1e-9
    similar = x.T @ x / norm[:, None] / norm
    np.fill_diagonal(similar, 0.0)
    least = np.partition(similar, -neighbours, axis=0)[-neighbours]
    return x @ np.where(similar >= least, similar, 0.0)


def candidates(data: Data, split: Split, *, fused: bool) -> tuple[dict[str, np.ndarray], list[str]]:
    """Scores of each model as chosen on validation, and a line on what was chosen."""
    x = split.train.astype(np.float32)
    models = {"popularity": np.tile(x.sum(0), (len(x), 1))}
    knn = {neighbours: cosine_knn(x, neighbours) for neighbours in NEIGHBOURS if neighbours < x.shape[1]}
    neighbours = max(knn, key=lambda value: ndcg(knn[value], split))
    models["item-kNN"] = knn[neighbours]
    gram = x.T @ x
    ease = {penalty: x @ ridge_without_self(gram, penalty) for penalty in PENALTIES}
    penalty = max(ease, key=lambda value: ndcg(ease[value], split))
    models["EASE"] = ease[penalty]
    lines = [
        f"item-kNN: {neighbours} neighbours; EASE: penalty {penalty:g}, NDCG {ndcg(ease[penalty], split):.4f}"
    ]
    trained = data.in_time[split.train[data.users, data.items][data.in_time]]
    kept = {
        (factor, share, near): x @ fit_ease(
            data.users[trained], data.items[trained], data.n_items, penalty=factor * penalty, keep=KEEP,
            low_pass_share=share, near=near, full_likes=FULL_LIKES,
        ).dense()
        for factor, share, near in product(FACTORS, SHARES, NEARS)
    }  # fmt: skip
    chosen = max(kept, key=lambda value: ndcg(kept[value], split))
    models[SERVED] = kept[chosen]
    reached = ndcg(kept[chosen], split)
    lines.append(
        f"{SERVED}: penalty {chosen[0] * penalty:g}, low pass {chosen[1]:g}, nearness {chosen[2]:g}, "
        f"NDCG {reached:.4f}"
    )
    for name, gone in {"fused": set[str](), **WITHOUT}.items() if fused else ():
        kernels = {group: kernel for group, kernel in data.kernels.items() if group not in gone}
        user_kernel = None if "users" in gone else data.user_kernel
        config, reached = tune(x, split.validation, kernels, user_kernel, k=K)
        models[name] = fit_fused(x, kernels, user_kernel, config).scores(x)
        lines.append(f"{name}: NDCG {reached:.4f}, {describe(config)}")
    return models, lines


def peers(python: str, split: Split, seed: int) -> Iterator[tuple[str, np.ndarray, str]]:
    """Give each peer's model as chosen on validation: its name, its scores, and which it is."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "train.npz", Path(folder) / "out.npz"
        np.savez(given, train=split.train)
        command = [python, str(PEER), str(given), str(out), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the peers failed: {' '.join(command)}\n{done.stderr[-2000:]}")
        with np.load(out) as scores:
            reached = {name: ndcg(scores[name], split) for name in scores.files}
            for model in dict.fromkeys(name.split("|")[0] for name in reached):
                best = max(
                    (name for name in reached if name.startswith(f"{model}|")), key=reached.__getitem__
                )
                yield model, scores[best], f"{best.replace('|', ': ')}; NDCG {reached[best]:.4f}"


def describe(config: FusedConfig) -> str:
    values = {name: getattr(config, name) for name in FusedConfig.__slots__ if name != "kernels"}
    return ", ".join(f"{name} {value:g}" for name, value in {**values, **config.kernels}.items())


def record(results: Results, scores: np.ndarray, split: Split, data: Data) -> None:
    top = top_items(scores, split.train | split.validation, K)
    for name, values in ranking_metrics(top, split.test).items():
        results.accuracy[name].append(values)
    results.beyond["coverage"].append(coverage(top, data.n_items))
    results.beyond["gini"].append(gini(top, data.n_items))
    results.beyond["novelty"].append(novelty(top, split.train))
    results.beyond["diversity"].append(intra_list_diversity(top, data.genres))
    results.buckets.append(recall_by_bucket(top, split.test, popularity_buckets(split.train, BUCKETS)))


def interval(values: list[float], digits: int = 4) -> str:
    found = estimate(np.asarray(values))
    return f"{found.mean:.{digits}f} ± {found.high - found.mean:.{digits}f}"


def report(results: dict[str, Results]) -> None:
    print(f"\n{'accuracy@10':<24}" + "".join(f"{name:>18}" for name in ACCURACY))
    for name, result in results.items():
        means = [[float(np.nanmean(seed)) for seed in result.accuracy[metric]] for metric in ACCURACY]
        print(f"{name:<24}" + "".join(f"{interval(values):>18}" for values in means))
    main = [name for name in results if name not in WITHOUT]
    print(f"\n{'beyond accuracy':<24}" + "".join(f"{name:>18}" for name in BEYOND))
    for name in main:
        print(f"{name:<24}" + "".join(f"{interval(results[name].beyond[metric]):>18}" for metric in BEYOND))
    titles = [f"quarter {bucket + 1}" for bucket in range(BUCKETS)]
    print(f"\n{'recall@10, rare to popular':<28}" + "".join(f"{title:>12}" for title in titles))
    for name in main:
        print(f"{name:<28}" + "".join(f"{value:>12.4f}" for value in np.mean(results[name].buckets, axis=0)))
    print("\npaired over users, 95 % interval")
    best = next(name for name in ("slatestream", "fused", SERVED) if name in results)
    for ours, theirs in [(best, name) for name in results if name != best]:
        for metric in ("ndcg", "recall", "mrr"):
            pair = [np.stack(results[name].accuracy[metric]) for name in (ours, theirs)]
            found = paired_difference(*pair)
            base = float(np.nanmean(pair[1]))
            print(
                f"{ours} - {theirs}, {metric}@{K}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
                f"{found.mean / base:+.2%} [{found.low / base:+.2%}, {found.high / base:+.2%}], "
                f"p {found.p_value:.1g}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=2020)
    parser.add_argument("--release", type=Path, help="folder of the releases of the seeds")
    parser.add_argument("--without-fused", action="store_true")
    parser.add_argument("--peer-python", help="Python of an environment with implicit and lenskit")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    begun = time.perf_counter()
    dataset = read_data(arguments.data, max_triples=1000)
    data = prepare(dataset)
    print(
        f"{dataset.name}: random 8:1:1 per user, all interactions, full ranking, train and validation "
        f"filtered, top {K}; tuned by NDCG on each seed's validation\nseeds {list(seeds)}; "
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}",
        flush=True,
    )
    results: dict[str, Results] = {}
    for seed in seeds:
        split = random_split(data.users, data.items, data.n_users, data.n_items, seed=seed)
        models, lines = candidates(data, split, fused=not arguments.without_fused)
        if arguments.release:
            models["slatestream"], line = release_scores(
                dataset, split, data.users, data.items, Recipe().changed(train={"seed": seed}),
                out=arguments.release / str(seed),
            )  # fmt: skip
            lines.append(f"slatestream: {line}")
        if arguments.peer_python:
            for name, scores, line in peers(arguments.peer_python, split, seed):
                models[name] = scores
                lines.append(line)
        for name, scores in models.items():
            record(results.setdefault(name, Results()), scores, split, data)
        print(f"seed {seed}, {time.perf_counter() - begun:.0f} s\n  " + "\n  ".join(lines), flush=True)
    report(results)
    if not arguments.peer_python:
        print("skipped: implicit and lenskit, for want of --peer-python")


if __name__ == "__main__":
    with faults_told():
        main()
