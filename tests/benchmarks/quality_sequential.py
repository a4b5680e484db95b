"""Sequential recommendation on S3-Rec's LastFM and Beauty and on ML-1M: leave-one-out, every item ranked.

    python -m tests.benchmarks.quality_sequential --data beauty

A user's last item is the test, the one before it the validation. All is fitted on what comes before both;
at the test, the validation item is part of the history that is read. Items of the history are not ranked, as
in the code of the published figures (it sets their scores to 0). Models end by NDCG@20 on the validation,
EASE's penalty is chosen there, and the weights of the blend with counts are fitted there. "ours" is the
history encoder and the item encoder of a release, begun at co-visits where the recipe says so and trained
on the order alone; "sasrec" is trained by the same loss and in the same steps. What is done is kept in the
folder --out, by data, model and seed, and read back from there: delete it to measure again. A training that
is killed goes on after its last whole epoch. The figures are written to --json.
"""

import gzip
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from model_core.data.vocabulary import Edges
from model_core.evaluation.topn import estimate, paired_difference
from model_core.graph.co_visits import pairs_in_order, spectral_embedding
from model_core.network.config import ModelConfig
from model_core.signals.config import SignalConfig
from model_core.signals.ease import fit_ease
from model_core.signals.sparse import scatter
from model_core.training.checkpoint import Checkpoint
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.rivals.sequences import (
    Rows,
    Scores,
    Sequences,
    attribute_edges,
    bar_history,
    place_metrics,
    target_ranks,
)
from tests.benchmarks.rivals.sequential import (
    HistoryModel,
    SequentialConfig,
    SequentialTrainer,
    fingerprint,
    score_users,
)
from tests.benchmarks.rivals.sequential_signals import SequenceSignals, blend, fit_blend, fit_signals
from tests.benchmarks.sasrec_peer import SasRec

Seconds = NDArray[np.float64]  # by the clock, and of the processor: (2,)
Scorer = Callable[[Sequences, Rows], Iterator[tuple[Rows, Scores]]]
"""Scores all items after the histories of some users, batch by batch; items met have -inf."""
METRICS = ("HR@5", "HR@10", "HR@20", "NDCG@10")
BLEND_USERS = 1000
PENALTIES = (30.0, 100.0, 300.0, 1000.0)
MODELS = ("EASE", "signals", "ours", "without attributes", "sasrec", "sasrec binary")
MET = (0, 5, 12, 40)
"""From how many events of a target in training on its hits are told apart from those of rarer ones."""
SPENT = "seconds"
FITTED_ONCE = ("EASE", "signals")
PUBLISHED = {
    "lastfm": "PopRec HR@10 .0440; SASRec HR@10 .0688 NDCG@10 .0390; S3-Rec HR@10 .0743",
    "beauty": "SASRec HR@10 .0605 NDCG@10 .0318; with sampled softmax .0921, .0531; eSASRec .0928, .0523",
    "ml-1m": "SASRec HR@10 .2392 NDCG@10 .1259; with sampled softmax .2929, .1684; eSASRec .3133, .1772",
}
FILES = {"lastfm": "s3rec/LastFM", "beauty": "s3rec/Beauty", "ml-1m": "ml-1m-seq/ml-1m"}


@dataclass(frozen=True)
class Recipe:
    """What is chosen by data: attributes an item has, events read, width, layers, dropout, whether the ids of
    ours begin at co-visits; how a model trains."""

    attributes: int
    length: int
    dim: int
    layers: int
    dropout: float
    co_visits: bool
    read_decay: float
    train: SequentialConfig


# Few and short histories need smaller steps, and more of what they say hidden; long ones fewer of a step.
RECIPES = {
    "lastfm": Recipe(
        attributes=16, length=50, dim=64, layers=2, dropout=0.5, co_visits=False, read_decay=0.85,
        train=SequentialConfig(negatives=1024, power=0.5, batch=32, epochs=60, patience=10),
    ),
    "beauty": Recipe(
        attributes=6, length=50, dim=128, layers=1, dropout=0.4, co_visits=True, read_decay=0.6,
        train=SequentialConfig(
            negatives=1024, power=0.5, batch=64, epochs=4, patience=4, learning_rate=1.5e-3
        ),
    ),
    "ml-1m": Recipe(
        attributes=6, length=200, dim=64, layers=2, dropout=0.1, co_visits=False, read_decay=0.85,
        train=SequentialConfig(negatives=512, power=0.5, batch=16, epochs=20, patience=20),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """train, and what comes after it; before_test is train with the validation items."""

    name: str
    train: Sequences
    before_test: Sequences
    validation: Rows
    test: Rows
    edges: Edges


def load(name: str, folder: Path) -> Data:
    file = folder / f"{FILES[name]}.txt.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        given = [[int(item) for item in line.split()[1:]] for line in lines]
    ids = np.unique(np.concatenate(given))
    histories = [np.searchsorted(ids, history).tolist() for history in given]
    before_test, test = Sequences.of(histories, len(ids)).without_last()
    train, validation = before_test.without_last()
    row_of = {item: row for row, item in enumerate(ids.tolist())}
    codes = attributes_of(name, folder)
    attributes = {row_of[item]: codes[item] for item in codes.keys() & row_of.keys()}
    edges = attribute_edges(attributes, len(ids), RECIPES[name].attributes)
    return Data(name, train, before_test, validation, test, edges)


def attributes_of(name: str, folder: Path) -> dict[int, list[int]]:
    """Attribute codes, from 1, of items by their ids: S3-Rec's attributes, or the genres of films."""
    if name != "ml-1m":
        given = json.loads((folder / f"{FILES[name]}_item2attributes.json").read_text("utf-8"))
        return {int(item): codes for item, codes in given.items()}
    with gzip.open(folder / "ml-1m-seq/movies.dat.gz", "rt", encoding="utf-8") as lines:
        films = [line.strip().split("::") for line in lines]
    genres = sorted({genre for film in films for genre in film[2].split("|")})
    code = {genre: at for at, genre in enumerate(genres, 1)}
    return {int(film[0]): [code[genre] for genre in film[2].split("|")] for film in films}


def popularity_places(data: Data, counted: Sequences) -> Rows:
    scores = np.tile(counted.popularity().astype(np.float32), (len(data.test), 1))
    return target_ranks(bar_history(scores, data.before_test, np.arange(len(data.test))), data.test)


def ease_places(data: Data) -> tuple[Rows, str]:
    """Places of the test items by EASE, with the penalty that is best on the validation, and a line on it."""
    users = np.repeat(np.arange(len(data.train), dtype=np.int32), np.diff(data.train.bounds))
    everybody = np.arange(len(data.test))
    some = np.sort(np.random.default_rng(0).permutation(everybody)[: 4 * BLEND_USERS])

    def scored(penalty: float, sequences: Sequences, asked: Rows, wanted: Rows) -> Rows:
        ease = fit_ease(users, data.train.items.astype(np.int32), data.train.n_items, penalty=penalty)
        found = []
        for begin in range(0, len(asked), 512):
            part = asked[begin : begin + 512]
            liked = SparseRows.of([sequences.history(user) for user in part])
            scores = scatter(ease.sparse_scores(liked.bounds, liked.rows), ease.n_items)
            found.append(target_ranks(bar_history(scores, sequences, part), wanted[part]))
        return np.concatenate(found)

    reached = {
        penalty: float(place_metrics(scored(penalty, data.train, some, data.validation))["NDCG@20"].mean())
        for penalty in PENALTIES
    }
    best = max(reached, key=reached.__getitem__)
    return scored(best, data.before_test, everybody, data.test), f"penalty {best:g}"


def no_scores(sequences: Sequences, users: Rows) -> Iterator[tuple[Rows, Scores]]:
    """Scores of no model: the blend is then of counts alone."""
    for begin in range(0, len(users), 512):
        some = users[begin : begin + 512]
        yield some, bar_history(np.zeros((len(some), sequences.n_items), np.float32), sequences, some)


def places(
    data: Data, scorers: Sequence[Scorer], counts: SequenceSignals | None
) -> list[tuple[dict[str, Rows], str]]:
    """Places of the test items by each scorer alone and, with counts, blended with them; and the weights."""
    everybody = np.arange(len(data.test))
    weights = []
    if counts is not None:
        some = np.sort(np.random.default_rng(0).permutation(everybody)[:BLEND_USERS])
        read = counts.read(data.train, some)
        for scorer in scorers:
            scores = np.concatenate([part for _, part in scorer(data.train, some)])
            weights.append(fit_blend(scores, read, data.validation[some]))
    found: list[dict[str, list[Rows]]] = [{"alone": [], "blend": []} for _ in scorers]
    for scored in zip(*(scorer(data.before_test, everybody) for scorer in scorers), strict=True):
        users = scored[0][0]
        read = None if counts is None else counts.read(data.before_test, users)
        for number, (_, scores) in enumerate(scored):
            found[number]["alone"].append(target_ranks(scores, data.test[users]))
            if read is not None:
                mixed = blend(weights[number], scores, read)
                found[number]["blend"].append(target_ranks(mixed, data.test[users]))
    named = ("scores", *counts.names) if counts is not None else ()
    texts = [", ".join(f"{n} {w:.2f}" for n, w in zip(named, of, strict=True)) for of in weights]
    return [
        ({name: np.concatenate(parts) for name, parts in one.items() if parts}, text)
        for one, text in zip(found, texts or [""] * len(found), strict=True)
    ]


def trained(
    data: Data,
    model: str,
    seed: int,
    device: str,
    epochs: int | None,
    state: Path,
    recipe: Recipe,
) -> tuple[HistoryModel | SasRec, str, Seconds]:
    """Fit a model, or go on where `state` was written.

    Returns
    -------
    model, what its training came to, and the seconds that its epochs took, whichever process ran them
    """
    torch.manual_seed(seed)
    made: HistoryModel | SasRec
    if model.startswith("sasrec"):
        made = SasRec(
            data.train.n_items, dim=recipe.dim, layers=recipe.layers, length=recipe.length,
            dropout=recipe.dropout,
        )  # fmt: skip
    else:
        sizes = ModelConfig(history_length=recipe.length, dim=recipe.dim, layers=recipe.layers, text_dim=1)
        made = HistoryModel(sizes, data.edges, attributes=model == "ours", dropout=recipe.dropout)
        if recipe.co_visits:
            begin_at_co_visits(made, data.train)
    config = replace(recipe.train, seed=seed, epochs=min(recipe.train.epochs, epochs or recipe.train.epochs))
    if model == "sasrec binary":
        config = replace(config, loss="binary")
    trainer = SequentialTrainer(made.to(device), data.train, data.validation, config)

    def report(epoch: int, loss: float, reached: float) -> None:
        print(f"    epoch {epoch}: loss {loss:.4f}, validation NDCG@20 {reached:.4f}", flush=True)

    kind = fingerprint(data.train, data.validation, config, made, repr((model, recipe)))
    history = trainer.fit(report=report, checkpoint=Checkpoint(state, kind))
    best = int(np.argmax(history))
    note = f"best epoch {best} of {len(history)}, validation NDCG@20 {history[best]:.4f}"
    return made, note, np.array(trainer.spent)


def begin_at_co_visits(model: HistoryModel, train: Sequences) -> None:
    """Let the ids begin where a release with the recipe's ``graph_embedding = "co-visits"`` lets them."""
    users = np.repeat(np.arange(len(train)), np.diff(train.bounds))
    pairing = SignalConfig()
    pairs = pairs_in_order(users, train.items, train.n_items, window=pairing.window, decay=pairing.pair_decay)
    vectors = torch.as_tensor(spectral_embedding(pairs, model.encoder.config.dim))
    model.encoder.begin_at(torch.arange(1, train.n_items + 1), vectors)


def now() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


def measure(data: Data, model: str, seed: int, device: str, epochs: int | None, out: Path) -> dict[str, Rows]:
    """Places of the test items by a model and seed, from the folder if they lie there."""
    capped = "" if epochs is None or model in FITTED_ONCE else f"-{epochs}-epochs"
    file = out / f"{data.name}-{model.replace(' ', '-')}-{seed}{capped}.npz"
    if file.is_file():
        with np.load(file) as kept:
            if SPENT in kept:  # else another version measured it
                return {name: kept[name] for name in kept.files}
    out.mkdir(parents=True, exist_ok=True)
    state, text, spent = file.with_suffix(".pt"), "", np.zeros(2)
    begun = now()
    signals = SignalConfig(read_decay=RECIPES[data.name].read_decay)
    if model == "EASE":
        places_of, note = ease_places(data)
        found = {"EASE": places_of}
    elif model == "signals":
        ((alike, text),) = places(data, [no_scores], fit_signals(data.train, data.edges, signals))
        ((plain, _),) = places(data, [no_scores], fit_signals(data.train, None, signals))
        found, note = {"counts": plain["blend"], "counts and attributes": alike["blend"]}, ""
    else:
        fitted, note, spent = trained(data, model, seed, device, epochs, state, RECIPES[data.name])
        begun = now()
        edges = data.edges if model == "ours" else None
        counts = None if model.startswith("sasrec") else fit_signals(data.train, edges, signals)
        ((both, text),) = places(data, [partial(score_users, fitted)], counts)
        found = {model: both["alone"], **({f"{model} + counts": both["blend"]} if "blend" in both else {})}
    spent = spent + now() - begun
    seconds = f"{spent[0]:.0f} s, {spent[1]:.0f} s of CPU"
    print(f"  {model}, seed {seed}: {seconds}; {note}; weights: {text or 'none'}", flush=True)
    found = {SPENT: spent} | found
    np.savez(file, **found)
    state.unlink(missing_ok=True)
    return found


def report(data: Data, results: dict[str, list[Rows]]) -> None:
    print(f"\n{'':<30}{'seeds':>6}" + "".join(f"{name:>18}" for name in METRICS))
    for name, seeds in results.items():
        cells = []
        for metric in METRICS:
            means = [float(place_metrics(found)[metric].mean()) for found in seeds]
            over = estimate(np.array(means))
            cells.append(f"{over.mean:.4f}" + (f" ± {over.high - over.mean:.4f}" if len(means) > 1 else ""))
        print(f"{name:<30}{len(seeds):>6}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"published: {PUBLISHED[data.name]}")
    print("\nHR@10, paired over users (mean of seeds), 95 % interval")
    pairs = [(o, t) for o in ("ours + counts", "ours") for t in results if t != o]
    pairs += [("without attributes", "sasrec"), ("without attributes", "EASE")]
    for ours, theirs in pairs:
        if ours in results and theirs in results:
            n = min(len(results[ours]), len(results[theirs]))
            hits = [np.stack([place_metrics(p)["HR@10"] for p in results[m][:n]]) for m in (ours, theirs)]
            found = paired_difference(*hits)
            print(f"{ours} - {theirs}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")


def report_by_count(data: Data, results: dict[str, list[Rows]]) -> None:
    """Print hits at 10 of rare targets and of frequent ones; mean of seeds."""
    of = np.digitize(data.train.popularity()[data.test], MET) - 1
    named = [f"{low} to {high - 1}" for low, high in zip(MET, MET[1:], strict=False)] + [f"from {MET[-1]}"]
    print(f"\n{'HR@10 by events of the target':<36}" + "".join(f"{name:>12}" for name in named))
    shares = [f"{(of == part).mean():.3f}" for part in range(len(MET))]
    print(f"{'share of users':<36}" + "".join(f"{share:>12}" for share in shares))
    for name, seeds in results.items():
        hits = np.mean([place_metrics(found)["HR@10"] for found in seeds], axis=0)
        means = [hits[of == part].mean() if (of == part).any() else np.nan for part in range(len(MET))]
        print(f"{name:<36}" + "".join(f"{mean:>12.4f}" for mean in means))


def main(
    data: Annotated[str, typer.Option(help=", ".join(FILES))] = "lastfm",
    folder: Annotated[Path, typer.Option(help="of the data sets")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(help="seeds 0, 1, ... of each trained model")] = 3,
    models: Annotated[str, typer.Option(help="comma-separated, of " + ", ".join(MODELS))] = ",".join(MODELS),
    epochs: Annotated[int | None, typer.Option(help="at most so many; without it, until no better")] = None,
    out: Annotated[Path, typer.Option(help="where results are kept")] = Path("build/sequential"),
    written: Annotated[Path | None, typer.Option("--json", help="file for the figures")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int, typer.Option(help="of torch")] = 1,
) -> None:
    """Hit rates and NDCG of the next item, ours beside SASRec and counts alone."""
    chosen = [name.strip() for name in models.split(",") if name.strip()]
    if data not in FILES:
        raise typer.BadParameter(f"must be in {sorted(FILES)}, got {data!r}", param_hint="--data")
    if unknown := set(chosen) - set(MODELS):
        raise typer.BadParameter(f"must be of {MODELS}, got {sorted(unknown)}", param_hint="--models")
    torch.set_num_threads(threads)
    loaded = load(data, folder)
    print(
        f"{data}: {len(loaded.test)} users, {loaded.train.n_items} items, leave-one-out, "
        f"all items ranked but those of the history; at most {epochs or 'as many as needed'} epochs\n"
        f"{platform.processor() or platform.machine()}, {device}, {threads} thread(s), Python "
        f"{platform.python_version()}, torch {torch.__version__}",
        flush=True,
    )
    results: dict[str, list[Rows]] = {
        "popularity": [popularity_places(loaded, loaded.train)],
        "popularity, validation too": [popularity_places(loaded, loaded.before_test)],
    }
    spent: dict[str, list[list[float]]] = {}
    for model in chosen:
        for seed in range(1 if model in FITTED_ONCE else seeds):
            found = measure(loaded, model, seed, device, epochs, out)
            spent.setdefault(model, []).append(found.pop(SPENT).tolist())
            for name, places_found in found.items():
                results.setdefault(name, []).append(places_found)
    report(loaded, results)
    report_by_count(loaded, results)
    if written is not None:
        figures = {
            name: {metric: [float(place_metrics(p)[metric].mean()) for p in seeds_of] for metric in METRICS}
            for name, seeds_of in results.items()
        }
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({"data": data, "figures": figures, SPENT: spent}, indent=2) + "\n")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
