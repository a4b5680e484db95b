"""Training with generated fakes in the loop: does a weight for each user keep poisoned logs from EASE?

    python -m tests.benchmarks.quality_generated --seeds 3

Split, targets and attacks are those of `quality_poisoned`. Who trains does not know the targets, and whether
there are fakes in the log. So fakes are generated against the log as it is, with targets of their own, kind
after kind (`tests.benchmarks.poison`); each time all users are described by what the log says of them, EASE
that is fitted with these fakes included, and a logistic regression learns to tell the fakes from all others.
By it a user counts less in EASE the more they look like a fake. How much less is chosen on the validation
part: the strongest of `ODDS` by which Recall@50 falls by at most `MOST_LOST`.

Printed are the share of honest users with a target in their list of 50 and Recall@50 of the test part, for
EASE with the bound on users (`full_likes`) and beside it these weights, learned from all kinds and from all
but the one that attacks; and AUC, by which fakes are told from honest users. The last row is EASE without
the fakes. Means over seeds with Student's 95 %, and what each is ahead of the first row, paired.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from model_core.evaluation.topn import estimate, ranking_metrics, top_items
from model_core.robust.influence import likes_share
from model_core.signals.config import SignalConfig
from streams.attack.fakes import Known
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.poison import PENALTY, Attacker, profiles
from tests.benchmarks.quality_poisoned import CLEAN, SHARE, TARGETS, UNPOPULAR, _drawn, _known, _likes
from tests.benchmarks.random_split import Split

Bools, Floats = NDArray[np.bool_], NDArray[np.float32]
BOUND = "full_likes"
KINDS = ("random", "bandwagon", "gradient", "optimised")
ROUNDS = 2
"""Times that each kind is generated."""
FAKES, FILLERS = (4, 16), (20, 80)
ODDS = (1.0, 10.0, 100.0, 1000.0)
"""How many times as likely a fake is taken to be as where the regression learned."""
MOST_LOST = 0.005
K, NEAREST, PAIRS = 50, (1, 4, 7, 15), (3, 10, 30)
RARE, NEW = 80, 20


def main(
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of split, targets and fakes.")] = 3,
    kind: Annotated[list[str] | None, typer.Option(help="Attacks; repeatable.")] = None,
) -> None:
    """Attack, learn, fit, and print."""
    torch.set_num_threads(1)
    console, likes = Console(width=140), _likes(read_data(data))
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        parts = _drawn(likes, rng)
        train, targets = parts.train, _rare(parts.train, rng)
        users, per_user = int(train.any(1).sum()), int(train.sum() / train.any(1).sum())
        known = _known(likes, train)
        attacker = Attacker(train, known, targets, int(SHARE * users), per_user, seed)
        for attack in (CLEAN, *(kind or KINDS)):
            fakes = [] if attack == CLEAN else profiles(attack, attacker)
            for name, row in _compared(attack, parts, fakes, known, targets, seed).items():
                found.setdefault((attack, name), []).append(row)
                console.print(f"seed {seed}, {attack}, {name}: " + ", ".join(f"{one:.4f}" for one in row))
    _show(console, found)


def _compared(
    attack: str,
    parts: Split,
    fakes: list[NDArray[np.int64]],
    known: Known,
    targets: NDArray[np.int64],
    seed: int,
) -> dict[str, tuple[float, ...]]:
    """Targets' hit@50, Recall@50 and AUC of each way to fit EASE to a poisoned log."""
    log, honest = _with(parts.train, fakes), len(parts.train)
    bound = likes_share(np.maximum(log.sum(1), 1), SignalConfig().full_likes)

    def reached(shares: Floats, wanted: Bools) -> tuple[float, float]:
        return _reached(parts.train @ weighed_ease(log, shares), log, wanted, targets)

    pasts = [*known.pasts, *(fake[-len(max(known.pasts, key=len)) :] for fake in fakes)]
    made = generated(log, Known(log.sum(0), known.groups, pasts), np.random.default_rng([seed, 5]))
    found: dict[str, tuple[float, ...]] = {BOUND: (*reached(bound, parts.test), np.nan)}
    least = (1.0 - MOST_LOST) * reached(bound, parts.validation)[1]
    here = described(log)
    for name, without in (("and weights", None), ("and weights of other kinds", attack)):
        if attack == CLEAN and without:
            continue
        doubt = learned([row for by, row in made if by != without])(here)
        told = np.mean(doubt[honest:, None] > doubt[:honest]) if fakes else np.nan
        for odds in reversed(ODDS):
            shares = (bound / (1.0 + odds * np.exp(doubt))).astype(np.float32)
            if odds == ODDS[0] or reached(shares, parts.validation)[1] >= least:
                break
        found[name] = (*reached(shares, parts.test), float(told))
    if fakes:
        bound[honest:] = 0.0
        found["without the fakes"] = (*reached(bound, parts.test), np.nan)
    return found


def generated(log: Bools, known: Known, rng: np.random.Generator) -> list[tuple[str, tuple[Floats, Bools]]]:
    """Attack a log, each kind some times: the kind, what describes each user, and who is a fake."""
    made = []
    for kind in KINDS * ROUNDS:
        n, fillers = (int(rng.integers(*bounds)) for bounds in (FAKES, FILLERS))
        attacker = Attacker(log, known, _rare(log, rng), n, fillers, int(rng.integers(2**31)))
        whole = _with(log, profiles(kind, attacker))
        made.append((kind, (described(whole), np.arange(len(whole)) >= len(log))))
    return made


def described(log: Bools) -> Floats:
    """What a log says of each user, by which fakes may be told: (n_users, n).

    Whether what they like is popular, and expected by EASE of the rest of it; how near other users are by
    what few like, for fakes share their targets; and how often rare pairs of theirs are liked together.
    """
    liked = log.astype(np.float32)
    likes, popularity = np.maximum(liked.sum(1), 1.0), np.maximum(liked.sum(0), 1.0)
    expected = (liked @ weighed_ease(log, np.ones(len(log), np.float32))) * liked
    few = liked * (popularity < NEW)
    level = np.log(popularity)
    mean = liked @ level / likes
    spread = np.sqrt(np.maximum(liked @ level**2 / likes - mean**2, 0.0))
    columns = [
        np.log(likes), mean, spread, (liked / popularity).sum(1), few.sum(1) / likes,
        expected.sum(1) / likes, (expected * few).sum(1) / np.maximum(few.sum(1), 1.0),
    ]  # fmt: skip
    for power in (1, 2):
        weighed = liked * np.log(len(log) / popularity) ** power
        weighed /= np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-9)
        alike = weighed @ weighed.T
        np.fill_diagonal(alike, 0.0)
        columns += list(-np.sort(-alike, 1)[:, NEAREST].T)
    rows: Floats = np.column_stack((*columns, _pairs(log, liked, popularity, likes))).astype(np.float32)
    return rows


def _pairs(log: Bools, liked: Floats, popularity: Floats, likes: Floats) -> Floats:
    """How far the most unlikely pairs of rare items of each user are liked together beyond chance."""
    chance = np.outer(popularity, popularity) * (likes**2).sum() / likes.sum() ** 2
    beyond = np.maximum((liked.T @ liked - chance) / np.sqrt(chance + 1.0), 0.0)
    beyond[np.maximum(popularity[:, None], popularity) >= RARE] = 0.0
    np.fill_diagonal(beyond, 0.0)
    found = np.zeros((len(log), len(PAIRS)), np.float32)
    for user in range(len(log)):
        own = np.flatnonzero(log[user])
        pairs = -np.sort(-beyond[np.ix_(own, own)][np.triu_indices(len(own), 1)])[: PAIRS[-1]]
        found[user] = [pairs[:n].mean() if len(pairs) else 0.0 for n in PAIRS]
    return np.log1p(found)


def learned(samples: Sequence[tuple[Floats, Bools]]) -> Callable[[Floats], Floats]:
    """Fit a logistic regression on what describes users, and its squares: gives the logit of a fake."""
    rows, fake = (np.concatenate(part) for part in zip(*samples, strict=True))
    mean, scale = rows.mean(0), rows.std(0) + 1e-6

    def inputs(of: Floats) -> torch.Tensor:
        z = torch.from_numpy(np.clip((of - mean) / scale, -6.0, 6.0))
        return torch.cat((z, z**2, torch.ones(len(z), 1)), 1)

    x, y = inputs(rows), torch.from_numpy(fake.astype(np.float32))
    weights = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        of = functional.binary_cross_entropy_with_logits(x @ weights, y) + 1e-2 / len(x) * (weights**2).sum()
        of.backward()
        return of

    optimizer.step(loss)  # type: ignore[arg-type]

    def logit(of: Floats) -> Floats:
        told: Floats = (inputs(of) @ weights.detach()).numpy()
        return told

    return logit


def weighed_ease(log: Bools, shares: Floats) -> Floats:
    """Weights of EASE where each user counts so much: (n_items, n_items)."""
    liked = log.astype(np.float32)
    sums = (liked * shares[:, None]).T @ liked
    inverse = np.linalg.inv(sums + PENALTY * np.eye(len(sums), dtype=np.float32))
    weights: Floats = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _rare(log: Bools, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw targets as `quality_poisoned` does."""
    likes = log.sum(0)
    rare = np.argsort(likes, kind="stable")
    rare = rare[likes[rare] > 0]
    return np.sort(rng.choice(rare[: int(UNPOPULAR * len(rare))], TARGETS, replace=False))


def _with(log: Bools, fakes: list[NDArray[np.int64]]) -> Bools:
    """The log with fakes behind its users."""
    more = np.zeros((len(fakes), log.shape[1]), np.bool_)
    for row, fake in zip(more, fakes, strict=True):
        row[fake] = True
    return np.concatenate((log, more))


def _reached(scores: Floats, log: Bools, wanted: Bools, targets: NDArray[np.int64]) -> tuple[float, float]:
    """Share of honest users with a target in their list, and recall."""
    train = log[: len(scores)]
    asked = train.any(1)
    top = top_items(scores[asked], (train | ~log.any(0))[asked], K)
    recall = np.nanmean(ranking_metrics(top, wanted[asked])["recall"])
    return float(np.isin(top, targets).any(1).mean()), float(recall)


def _show(console: Console, found: dict[tuple[str, str], list[tuple[float, ...]]]) -> None:
    table = Table(title=f"Means over seeds, 95 %; ahead: of {BOUND}, paired", title_justify="left")
    for column in ("attack", "EASE, with", f"targets' hit@{K}", f"Recall@{K}", "AUC", "ahead: hit", "recall"):
        table.add_column(column, justify="right")
    for (attack, name), rows in found.items():
        own = np.array(rows)
        ahead = own[:, :2] - np.array(found[attack, BOUND])[:, :2]
        told = "" if name == BOUND else "ahead"
        table.add_row(attack, name, *map(_mean, own.T), *(told and _mean(column) for column in ahead.T))
    console.print(table)


def _mean(values: NDArray[np.float64]) -> str:
    if np.isnan(values).all():
        return ""
    told = estimate(values)
    return f"{told.mean:.4f}" + (f" ± {told.mean - told.low:.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
