"""Poisoned training data by ARLib's protocol: how far fake users bring unpopular films, and what others lose.

    python -m tests.benchmarks.quality_poisoned --seeds 5
    python -m tests.benchmarks.quality_poisoned --seeds 1 --release build/poisoned

ARLib (CoderWZW/ARLib) keeps ML-100K's ratings of 4 and more, and splits them 8:1:1 at random, each on its
own; its training part has 44,212 rows. `--split FOLDER` takes its train.txt, val.txt and test.txt; without,
each seed draws a split by that rule. Fakes are 1 % of the users, each with all five targets, which are drawn
from the nine tenths of films that are the least popular, and with as many fillers as users have likes
(`tests.benchmarks.poison`). All models are fitted to the poisoned part and asked for each honest user; all
films with a like in it are ranked, those that the user met left out.

ARLib's models beside ours: GMF, which is matrix factorisation by BPR, and LightGCN; EASE and item-kNN, too.
*Signals* are what a worker ranks by without networks (co-visits, popularity, EASE with a share of low pass);
the share, and then how they are weighed, is what ranks best on the validation part without an attack. With
`--release` releases are trained as well, minutes each. Ours have defences on (the bounds on users and surges)
and off. ARLib knows no times, ours do: honest likes keep theirs,
and a fake acts as honest users do (`patient`: at the times of one, drawn at random), or all fakes act in the
last day (`burst`).

Printed are means over seeds with Student's 95 %: targets' hit ratio (the share of honest users with a target
in their list) and ARLib's own hit rate (targets' share of all places), at 10 and 50, and of the test part
Recall and NDCG.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import Dataset, Interactions
from model_core.evaluation.topn import estimate, ranking_metrics, top_items
from model_core.inputs.corpus import make_corpus
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import fit_known
from model_core.training.linear import SHARES
from model_core.training.recipe import Recipe
from streams.attack.fakes import Known
from streams.demo.taste import LIKED
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.poison import PENALTY, PROFILES, Attacker, profiles
from tests.benchmarks.random_split import Split
from tests.benchmarks.rivals.pairwise import PairwiseConfig, fit_pairwise
from tests.benchmarks.signals_alone import FLOOR, _replay, _signals
from tests.benchmarks.topn_release import release_scores

LENGTHS = (10, 50)
GRID = tuple(weights for weights in product((0.0, 0.1, 0.3, 1.0), repeat=3) if max(weights) == 1.0)
TARGETS, SHARE, UNPOPULAR = 5, 0.01, 0.9
DAY_MS = 86_400_000
LAST = 20  # likes of a user that `gradient` reads
CLEAN = "none"
DEFENCES: dict[str, dict[str, float]] = {
    "on": {},
    "off": {"surge_bound": 0.0, "influence_per_hour": 0, "full_likes": 0},
}
PAIRWISE = {
    "GMF (BPR)": PairwiseConfig(),
    "LightGCN": PairwiseConfig(layers=2, batch=8192, learning_rate=0.01),
}
Bools, Scores = NDArray[np.bool_], NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Likes in time order, honest users first among the rows of users, and the parts they are split into."""

    dataset: Dataset
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    split: Split
    honest: int


def main(
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of split, targets, fakes and trainings.")] = 5,
    kind: Annotated[list[str] | None, typer.Option(help="Attacks; repeatable.")] = None,
    when: Annotated[str, typer.Option(help="Fakes act: patient or burst.")] = "patient",
    split: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of ARLib's train.txt, val.txt, test.txt."),
    ] = None,
    peers: Annotated[bool, typer.Option(help="Train GMF and LightGCN, too.")] = True,
    release: Annotated[Path | None, typer.Option(help="Train releases as well, into this folder.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of a release.")] = 6,
) -> None:
    """Poison, fit, ask, and print."""
    if when not in WHEN:
        raise typer.BadParameter(f"must be one of {', '.join(WHEN)}, got {when!r}", param_hint="--when")
    kinds = kind or list(PROFILES)
    if strange := sorted(set(kinds) - PROFILES.keys()):
        told = f"must be among {', '.join(PROFILES)}, got {strange[0]!r}"
        raise typer.BadParameter(told, param_hint="--kind")
    torch.set_num_threads(1)
    console = Console(width=170)
    likes = _likes(read_data(data))
    console.print(f"{platform.machine()}; {len(likes.interactions):,} likes, seeds 0..{seeds - 1}, {when}")
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        parts = _drawn(likes, rng) if split is None else _read(split, likes)
        train = parts.train
        rare = np.argsort(train.sum(0), kind="stable")
        rare = rare[train.sum(0)[rare] > 0]  # ARLib knows no film that its training part lacks
        targets = np.sort(rng.choice(rare[: int(UNPOPULAR * len(rare))], TARGETS, replace=False))
        users, per_user = int(train.any(1).sum()), int(train.sum() / train.any(1).sum())
        known = _known(likes, train)
        attacker = Attacker(train, known, targets, int(SHARE * users), per_user, seed)
        console.print(
            f"seed {seed}: {int(train.sum()):,} rows to train on, {users} users, {attacker.n} fakes of "
            f"{per_user} fillers, targets with {train.sum(0)[targets].tolist()} likes"
        )
        chosen: tuple[float, tuple[float, ...]] | None = None
        for attack in (CLEAN, *kinds):
            fakes = [] if attack == CLEAN else profiles(attack, attacker)
            poisoned = _poisoned(likes, parts, fakes, WHEN[when], rng)
            asked = _peers(poisoned, seed, trained=peers)
            for defence, changed in DEFENCES.items():
                signals, chosen = _by_signals(poisoned, SignalConfig(**changed), chosen)  # type: ignore[arg-type]
                asked[f"signals, defences {defence}"] = signals
                if release is not None:
                    recipe = Recipe().changed(train={"seed": seed, "epochs": epochs}, signals=changed)
                    out = release / f"{when}-{attack}-{defence}-{seed}"
                    asked[f"release, defences {defence}"], _ = release_scores(
                        poisoned.dataset, poisoned.split, poisoned.users, poisoned.items, recipe, out=out
                    )
            for name, scores in asked.items():
                reached = _measured(scores[: poisoned.honest], poisoned, targets)
                found.setdefault((attack, name), []).append(reached)
                told = ", ".join(f"{key} {value:.4f}" for key, value in reached.items())
                console.print(f"{attack}, {name}: {told}")
    _show(console, found)


def _likes(dataset: Dataset) -> Dataset:
    """Ratings of `LIKED` and more."""
    liked = dataset.interactions[dataset.interactions.ratings >= LIKED]
    return Dataset(dataset.name, liked, dataset.items, dataset.users)


def _rows(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """User and item row of each like, and the number of users."""
    row_of = {item.item_id: row for row, item in enumerate(dataset.items)}
    names, users = np.unique(dataset.interactions.user_ids, return_inverse=True)
    items = np.array([row_of[item_id] for item_id in dataset.interactions.item_ids.tolist()], np.int64)
    return users.astype(np.int64), items, len(names)


def _drawn(likes: Dataset, rng: np.random.Generator) -> Split:
    """Draw the parts as ARLib's split.py does."""
    users, items, n_users = _rows(likes)
    drawn = rng.random(len(users))
    chosen = (drawn > 0.2, (drawn > 0.1) & (drawn <= 0.2), drawn <= 0.1)
    return _matrices(users, items, chosen, n_users, likes)


def _read(folder: Path, likes: Dataset) -> Split:
    """Read ARLib's parts: a user, an item and a rating a line."""
    users, items, n_users = _rows(likes)
    place = {
        pair: n
        for n, pair in enumerate(
            zip(likes.interactions.user_ids.tolist(), likes.interactions.item_ids.tolist(), strict=True)
        )
    }
    parts = []
    for name in ("train.txt", "val.txt", "test.txt"):
        chosen = np.zeros(len(users), np.bool_)
        for line in (folder / name).read_text().splitlines():
            user, item, _ = line.split()
            chosen[place[user, item]] = True
        parts.append(chosen)
    return _matrices(users, items, (parts[0], parts[1], parts[2]), n_users, likes)


def _matrices(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    chosen: tuple[Bools, Bools, Bools],
    n_users: int,
    likes: Dataset,
) -> Split:
    """Relations of users and items; users without a training row have none in the other parts."""
    parts = []
    for part in chosen:
        matrix = np.zeros((n_users, len(likes.items)), np.bool_)
        matrix[users[part], items[part]] = True
        parts.append(matrix)
    here = parts[0].any(1, keepdims=True)
    return Split(parts[0], parts[1] & here, parts[2] & here)


def _known(likes: Dataset, train: Bools) -> Known:
    """What an attacker knows of the training part; groups are not used here."""
    users, items, _ = _rows(likes)
    there = train[users, items]
    pasts = [items[there & (users == user)][-LAST:] for user in range(len(train))]
    return Known(train.sum(0).astype(np.int64), [frozenset()] * train.shape[1], pasts)


def _patient(likes: Dataset, events: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Times of an honest user with as many likes, drawn at random."""
    names, counts = np.unique(likes.interactions.user_ids, return_counts=True)
    user = rng.choice(names[counts >= events])
    return likes.interactions.timestamps_ms[likes.interactions.user_ids == user][:events]


def _burst(likes: Dataset, events: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Times in the last day of the log."""
    return np.sort(likes.interactions.timestamps_ms[-1] - rng.integers(0, DAY_MS, events))


WHEN: dict[str, Callable[[Dataset, int, np.random.Generator], NDArray[np.int64]]] = {
    "patient": _patient,
    "burst": _burst,
}


def _poisoned(
    likes: Dataset,
    parts: Split,
    fakes: list[NDArray[np.int64]],
    when: Callable[[Dataset, int, np.random.Generator], NDArray[np.int64]],
    rng: np.random.Generator,
) -> Poisoned:
    """Put fakes into the training part."""
    log, n_items = likes.interactions, len(likes.items)
    ids = np.array([item.item_id for item in likes.items])
    # Names of fakes sort behind those of users, which are numbers.
    made_users = [np.full(len(fake), f"fake-{n:04}") for n, fake in enumerate(fakes)]
    made_times = [when(likes, len(fake), rng) for fake in fakes]
    times = np.concatenate([log.timestamps_ms, *made_times])
    order = np.argsort(times, kind="stable")
    whole = Interactions(
        np.concatenate([log.user_ids, *made_users])[order],
        np.concatenate([log.item_ids, *(ids[fake] for fake in fakes)])[order],
        np.full(len(times), 5.0, np.float32),
        times[order],
    )
    dataset = Dataset(likes.name, whole, likes.items, likes.users)
    users, items, n_users = _rows(dataset)
    more = np.zeros((n_users - len(parts.train), n_items), np.bool_)
    filled = more.copy()
    for n, fake in enumerate(fakes):
        filled[n, fake] = True
    split = Split(
        np.concatenate([parts.train, filled]),
        np.concatenate([parts.validation, more]),
        np.concatenate([parts.test, more]),
    )
    return Poisoned(dataset, users, items, split, len(parts.train))


def _peers(poisoned: Poisoned, seed: int, *, trained: bool) -> dict[str, Scores]:
    """Scores of the models of others: those in closed form, and those that are trained."""
    train, validation = poisoned.split.train, poisoned.split.validation
    liked = train.astype(np.float32)
    counts = np.sqrt(np.maximum(liked.sum(0), 1.0))
    cosine = (liked.T @ liked) / counts / counts[:, None]
    np.fill_diagonal(cosine, 0.0)
    scores = {"item-kNN": liked @ cosine, "EASE": liked @ _ease(liked)}
    for name, config in PAIRWISE.items() if trained else ():
        scores[name] = fit_pairwise(train, validation, replace(config, seed=seed))
    return scores


def _ease(liked: Scores) -> Scores:
    """Weights of EASE (Steck 2019): (n_items, n_items)."""
    inverse = np.linalg.inv(liked.T @ liked + PENALTY * np.eye(liked.shape[1], dtype=np.float32))
    weights: Scores = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _by_signals(
    poisoned: Poisoned, config: SignalConfig, chosen: tuple[float, tuple[float, ...]] | None
) -> tuple[Scores, tuple[float, tuple[float, ...]]]:
    """Scores by co-visits, popularity and EASE; share of low pass and weights are chosen if not given."""
    log, split, settings = poisoned.dataset.interactions, poisoned.split, Settings()
    trained = split.train[poisoned.users, poisoned.items]
    part = Dataset(poisoned.dataset.name, log[trained], poisoned.dataset.items, [])
    corpus = make_corpus(part, ["like"] * len(part.interactions), settings.actions, _NoTexts(), 32)
    here = np.flatnonzero(split.train.any(1))

    def reached(scores: Scores) -> float:
        top = top_items(scores, _closed(split), LENGTHS[-1])
        return float(np.nanmean(ranking_metrics(top, split.validation)["ndcg"]))

    def by_ease(share: float) -> Scores:
        return split.train @ fit_known(corpus.log, replace(config, low_pass=share)).dense()

    share = chosen[0] if chosen else max(SHARES, key=lambda one: reached(by_ease(one)))
    replay = _replay(corpus, replace(config, low_pass=share), len(corpus.log))
    signals = _signals(replay, np.arange(len(here), dtype=np.int32))
    shaped = np.zeros((len(split.train), *signals.shape[1:]), np.float32)
    shaped[here] = np.log(FLOOR + signals)

    def weighed(weights: tuple[float, ...]) -> Scores:
        scores: Scores = np.tensordot(np.array(weights, np.float32), shaped, (0, 1))
        return scores

    weights = chosen[1] if chosen else max(GRID, key=lambda one: reached(weighed(one)))
    return weighed(weights), (share, weights)


class _NoTexts:
    """Encoder of a corpus whose texts nobody reads."""

    name, fingerprint = "none", ""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return np.zeros((len(texts), 1), np.float32)


def _closed(split: Split) -> Bools:
    """What no user is listed: films met, and those without a like to train on, which ARLib does not know."""
    closed: Bools = split.train | ~split.train.any(0)
    return closed


def _measured(scores: Scores, poisoned: Poisoned, targets: NDArray[np.int64]) -> dict[str, float]:
    """Figures of honest users."""
    met, test = (part[: poisoned.honest] for part in (_closed(poisoned.split), poisoned.split.test))
    asked = poisoned.split.train[: poisoned.honest].any(1)
    told: dict[str, float] = {}
    for k in LENGTHS:
        top = top_items(scores[asked], met[asked], k)
        there = np.isin(top, targets)
        metrics = ranking_metrics(top, test[asked])
        told |= {
            f"targets' hit@{k}": float(there.any(1).mean()),
            f"targets' share@{k}": float(there.mean()),
            f"recall@{k}": float(np.nanmean(metrics["recall"])),
            f"ndcg@{k}": float(np.nanmean(metrics["ndcg"])),
        }
    return told


def _show(console: Console, found: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    columns = list(next(iter(found.values()))[0])
    for attack in dict.fromkeys(attack for attack, _ in found):
        table = Table(title=f"Attack: {attack}; means over seeds, 95 %", title_justify="left")
        for column in ("model", *columns):
            table.add_column(column, justify="right")
        for (kind, name), rows in found.items():
            if kind == attack:
                table.add_row(name, *(_mean([row[column] for row in rows]) for column in columns))
        console.print(table)


def _mean(values: list[float]) -> str:
    told = estimate(np.array(values))
    return f"{told.mean:.4f}" + (f" ± {told.mean - told.low:.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
