"""How quality falls as the log is corrupted: ML-100K in time order.

    python -m tests.benchmarks.quality_noise --seeds 3
    python -m tests.benchmarks.quality_noise --seeds 3 --trained --until 0.2

Of the events before the split a share is corrupted, each in one of three ways, equally often: the event is of
another item (any, alike), its action is the other one (a like becomes a view, a view a like), or its time is
moved by up to a week. Later events, which are the truth, stay as they are. Everybody who likes something
later is asked once at the split; all items but those met are ranked. A seed draws the corruption. Models are
the signals that every score is given (`signals_alone`, each by itself and weighed as chosen before the
split), and with `--trained` a release of each corrupted log, trained as `slatestream train` does it, with the
seed for its own.

Printed are means over seeds of NDCG@10, and the share of the quality without corruption that is left, with
Student's 95 % over seeds; `noise.png` has the curves.
"""

import json
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from model_core.evaluation.evaluate import TOP, future, item_knn, measure
from model_core.evaluation.topn import top_items
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.signals.sample_signals import Log
from model_core.training.recipe import Recipe
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.signals_alone import _replay, _signals, at_split

WEEK_MS = 7 * 86_400_000
SIGNALS = ("co-visits", "popularity", "EASE")
METRIC = "ndcg@10"


def main(
    data: DataFolder = None,
    until: Annotated[float, typer.Option(help="Train on this first fraction by time.")] = 0.6,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    share: Annotated[list[float] | None, typer.Option(help="Shares of corrupted events; repeatable.")] = None,
    trained: Annotated[bool, typer.Option("--trained", help="Train a release of each log, too.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Of a release.")] = 6,
    out: Annotated[Path, typer.Option(help="Folder of noise.png and noise.json.")] = Path("build/noise"),
) -> None:
    """Corrupt, measure; print and draw the curves."""
    console = Console(width=140)
    shares = [0.0, *(share or (0.05, 0.1, 0.2, 0.4))]
    dataset, settings, recipe = read_data(data), Settings(), Recipe()
    encoder = named_encoder(settings.text_encoder)
    corpus = make_corpus(
        dataset, rating_actions(dataset.interactions), settings.actions, encoder, recipe.model.n_neighbours
    )
    split = int(until * len(corpus.log))
    users = len(future(corpus.log, split).users)
    console.print(f"{platform.machine()}; first {split:,} events, {users} users asked, seeds 0..{seeds - 1}")
    found: dict[str, NDArray[np.float64]] = {}
    for s, corrupted in enumerate(shares):
        for seed in range(seeds):
            noisy = replace(corpus, log=corrupt(corpus.log, corrupted, split, seed))
            reached = _signals_of(noisy, recipe, split)
            if trained:
                reached["slatestream"] = _trained(noisy, recipe, settings, until, seed, epochs)
            for name, value in reached.items():
                found.setdefault(name, np.zeros((seeds, len(shares))))[seed, s] = value
            told = ", ".join(f"{name} {value:.4f}" for name, value in reached.items())
            console.print(f"{corrupted:.0%} corrupted, seed {seed}: {told}")
    out.mkdir(parents=True, exist_ok=True)
    told_all = {name: rows.tolist() for name, rows in found.items()}
    (out / "noise.json").write_text(json.dumps({"shares": shares, METRIC: told_all}))
    _show(console, found, shares)
    _draw(out / "noise.png", found, shares)
    console.print(f"Curves in {out / 'noise.png'}.")


def corrupt(log: Log, share: float, split: int, seed: int) -> Log:
    """Corrupt a share of the events before the split; the log stays in time order."""
    rng = np.random.default_rng([seed, 77])
    drawn = rng.permutation(split)[: round(share * split)]
    wrong_item, wrong_action, wrong_time = np.array_split(drawn, 3)
    items, times = log.items.copy(), log.times_ms.copy()
    actions, positive = log.actions.copy(), log.positive.copy()
    items[wrong_item] = rng.integers(0, log.n_items, len(wrong_item))
    view, like = (log.actions[log.positive == liked][0] for liked in (False, True))
    positive[wrong_action] = ~positive[wrong_action]
    actions[wrong_action] = np.where(positive[wrong_action], like, view)
    # Nothing is moved beyond the split: the truth is what came later, and that alone.
    moved = times[wrong_time] + rng.integers(-WEEK_MS, WEEK_MS, len(wrong_time))
    times[wrong_time] = np.clip(moved, times[0], times[split - 1])
    order = np.argsort(times, kind="stable")
    assert (order[split:] == np.arange(split, len(log))).all()
    return replace(
        log, users=log.users[order], items=items[order], actions=actions[order], positive=positive[order],
        times_ms=times[order],
    )  # fmt: skip


def _signals_of(corpus: Corpus, recipe: Recipe, split: int) -> dict[str, float]:
    """NDCG@10 of each signal, of item-kNN, and of the signals weighed as chosen before the split."""
    truth = future(corpus.log, split)
    replay = _replay(corpus, recipe.signals, split)
    signals, met = _signals(replay, truth.users), replay.met(truth.users)
    each = dict(zip(SIGNALS, signals.transpose(1, 0, 2), strict=True))
    each["item-kNN"] = item_knn(corpus.log, split, truth.users)
    reached = {
        name: measure(top_items(scores, met, TOP), truth.relevant)[METRIC] for name, scores in each.items()
    }
    return reached | {"signals weighed": at_split(corpus, recipe.signals, split)[1][METRIC]}


def _trained(
    corpus: Corpus, recipe: Recipe, settings: Settings, until: float, seed: int, epochs: int
) -> float:
    """NDCG@10 of a release."""
    train = replace(recipe.train, seed=seed, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        made = train_release(
            corpus, dict(settings.actions), Path(folder) / "release", until=until, config=recipe.model,
            train=train, signals=recipe.signals,
        )  # fmt: skip
        return float(made.release.metrics["slatestream"][METRIC])


def _show(console: Console, found: dict[str, NDArray[np.float64]], shares: list[float]) -> None:
    table = Table(title=f"{METRIC.upper()} by share of corrupted events, and what is left at the last, 95 %")
    for column in ("model", *(f"{one:.0%}" for one in shares), f"left at {shares[-1]:.0%}"):
        table.add_column(column, justify="right")
    for name, rows in found.items():
        left = rows[:, -1] / rows[:, 0]
        table.add_row(name, *(_mean(rows[:, s]) for s in range(len(shares))), _mean(left))
    console.print(table)


def _mean(values: NDArray[np.float64]) -> str:
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    if not spread:
        return f"{values.mean():.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * spread / len(values) ** 0.5
    return f"{values.mean():.4f} ± {half:.4f}"


def _draw(path: Path, found: dict[str, NDArray[np.float64]], shares: list[float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    percent = 100 * np.array(shares)
    for name, rows in found.items():
        (line,) = axes.plot(percent, rows.mean(0), marker="o", label=name)
        axes.fill_between(percent, rows.min(0), rows.max(0), color=line.get_color(), alpha=0.15)
    axes.set(xlabel="corrupted events, %", ylabel="NDCG@10 (band: all seeds)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
