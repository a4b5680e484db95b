"""Which news of an impression is clicked, by users never seen in training: NeMig, English.

    python -m tests.benchmarks.quality_news --data ../shared/data/nemig-en

3,000 users with 5 impressions each, of about 6 items and at most one click. Users are dealt into five parts;
each part is scored by models that saw the other four only (of which a tenth weighs the models together), so
every user is tested once. Intervals are bootstraps over users. The log has no times: items are not new at
test. How the lists were ordered is not known, and the first item is clicked twice as often as the others, so
models that are told an item's place are a table of their own: they predict clicks on a page already laid
out, which is no recommendation.
"""

import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from model_core.language.loop import LoopConfig
from tests.benchmarks.inputs import check_files, faults_told
from tests.benchmarks.news_data import (
    News,
    item_statistics,
    one_hot,
    overlaps,
    principal,
    read_news,
    similarities,
    text_vectors,
)
from tests.benchmarks.rivals.impressions import METRICS, fit_choice, impression_metrics, resampled_means
from tests.benchmarks.rivals.news_reader import ReaderConfig, Shown, reader_scores, train_reader

FOLDS, RESAMPLES = 5, 1000
FLOOR = "item CTR (floor)"
WITH_PLACE = ("place alone", "all of ours and place")


class Features:
    """What does not depend on the fold."""

    def __init__(self, news: News, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.similar = similarities(news, vectors)
        self.common = overlaps(news)
        components = principal(vectors, 40)
        publishers = one_hot(news.publishers, 20)
        items = [components, publishers, one_hot(news.subtopics, 20), one_hot(news.sentiments, 3)]
        self.content = np.hstack(items)[news.items]
        who, what = news.profile[news.users], components[news.items, :10]
        self.by_profile = (who[:, :, None] * what[:, None, :]).reshape(len(who), -1)
        self.place = np.eye(int(news.places.max()) + 1)[news.places]


def shown(news: News, groups: np.ndarray) -> Shown:
    """Impressions with a click, as the reader wants them."""
    m = int(news.places.max()) + 1
    items = np.full((len(news.history), m), -1)
    items[news.groups, news.places] = news.items
    clicked = np.full(len(news.history), -1)
    clicked[news.groups[news.clicked]] = news.places[news.clicked]
    groups = groups[clicked[groups] >= 0]
    return Shown(news.history[groups], items[groups], clicked[groups])


def fold_scores(
    news: News, features: Features, parts: dict[str, np.ndarray], reader: ReaderConfig, seed: int
) -> dict[str, np.ndarray]:
    """Scores of every row by models of one fold; parts : rows (n,) bool of train, blend and test."""
    train, blend = parts["train"], parts["blend"]
    statistics = item_statistics(news, train)

    def choice(columns: np.ndarray, penalties: np.ndarray | float, rows: np.ndarray) -> np.ndarray:
        wide = np.broadcast_to(np.asarray(penalties, np.float64), columns.shape[1:])
        return fit_choice(columns[rows], news.groups[rows], news.clicked[rows], wide).scores(columns)

    personal = np.hstack([features.similar, features.common, features.by_profile])
    softly = np.r_[np.full(features.similar.shape[1] + features.common.shape[1], 100.0),
                   np.full(features.by_profile.shape[1], 1000.0)]  # fmt: skip
    module = train_reader(
        features.vectors,
        shown(news, np.unique(news.groups[train])),
        shown(news, np.unique(news.groups[blend])),
        replace(reader, loop=replace(reader.loop, seed=seed)),
    )
    m = features.place.shape[1]
    items = np.full((len(news.history), m), 0)
    items[news.groups, news.places] = news.items
    read = reader_scores(module, news.history, items)[news.groups, news.places].astype(np.float64)
    scores = {
        FLOOR: statistics[:, 0],
        "MiniLM similarity, frozen": features.similar[:, 1],
        "knowledge-graph overlap": features.common.sum(1),
        "attention reader, frozen MiniLM": read,
        "content: text, publisher, topic": choice(features.content, 500.0, train),
        "personal: history, graph, age, gender": choice(personal, softly, train),
        "item statistics": choice(statistics, 3.0, train),
    }
    names = [name for name in scores if not name.startswith(("MiniLM", "knowledge", FLOOR))]
    every = np.column_stack([scores[name] for name in names])
    scores["all of ours"] = choice(every, 3.0, blend)
    scores[WITH_PLACE[0]] = choice(features.place, 1.0, train)
    both = np.column_stack([scores["all of ours"], features.place])
    scores[WITH_PLACE[1]] = choice(both, 1.0, blend)
    return scores


def fine_tuned_scores(
    news: News, parts: dict[str, np.ndarray], most: int, seed: int
) -> tuple[np.ndarray, float]:
    """Scores by a low-rank fine-tuned MiniLM with its reader, trained on so many impressions; and seconds."""
    from model_core.language.backbone import LoraSettings
    from model_core.language.fine_tune import Examples, FineTuneConfig, fine_tune
    from model_core.language.text_pairs import TextLog

    begun = time.perf_counter()

    def examples(rows: np.ndarray, limit: int) -> "Examples":
        part = shown(news, np.unique(news.groups[rows]))
        part = part[np.random.default_rng(seed).permutation(len(part))[:limit]]
        others = part.items.copy()
        others[np.arange(len(part)), part.clicked] = -1
        target = part.items[np.arange(len(part)), part.clicked]
        return Examples(np.zeros(len(part), np.int32), part.history, target, others)

    empty = np.zeros(0, np.int32)
    log = TextLog(news.texts, news.texts, empty, empty, empty.astype(np.bool_), True)
    config = FineTuneConfig(
        max_tokens=24,
        lora=LoraSettings(),
        temperature=0.2,
        loop=LoopConfig(epochs=1, batch_size=16, learning_rate=2e-4, seed=seed),
    )
    tuned = fine_tune(log, (examples(parts["train"], most), examples(parts["blend"], 64)), config)
    with torch.inference_mode():
        vectors = tuned.backbone.encode(news.texts)
        history = torch.as_tensor(news.history)
        users = tuned.reader(vectors[history.clamp(min=0)], history >= 0)
        scores = (vectors[torch.as_tensor(news.items)] * users[torch.as_tensor(news.groups)]).sum(1)
    return scores.double().numpy(), time.perf_counter() - begun


def report(news: News, scores: dict[str, np.ndarray], rng: np.random.Generator, title: str) -> None:
    owner = np.zeros(len(news.history), np.int64)
    owner[news.groups] = news.users
    measured = {}
    for name, values in scores.items():
        found = impression_metrics(values, news.groups, news.clicked)
        measured[name] = np.column_stack([found[metric] for metric in METRICS])
    table = np.stack(list(measured.values()), 1)  # (n_groups, models, metrics)
    known = ~np.isnan(table[:, 0, 0])
    table, owner = table[known], np.unique(owner[known], return_inverse=True)[1]
    means = table.mean(0)
    drawn = resampled_means(table, owner, resamples=RESAMPLES, rng=rng)
    floor = list(scores).index(FLOOR)
    print(f"\n{title}: {known.sum():,} impressions of {owner.max() + 1:,} users, 95 % intervals over users")
    columns = "".join(f"{metric:>9}" for metric in METRICS[1:])
    print(f"{'':<40}{'group AUC':>10}{'interval':>19}{columns}{'AUC - floor':>13}{'interval':>20}")
    for at, name in enumerate(measured):
        low, high = np.quantile(drawn[:, at, 0], [0.025, 0.975])
        gain = drawn[:, at, 0] - drawn[:, floor, 0]
        less, more = np.quantile(gain, [0.025, 0.975])
        print(
            f"{name:<40}{means[at, 0]:>10.4f}{f'{low:.4f} .. {high:.4f}':>19}"
            + "".join(f"{value:>9.4f}" for value in means[at, 1:])
            + f"{means[at, 0] - means[floor, 0]:>+13.4f}{f'{less:+.4f} .. {more:+.4f}':>20}"
        )


def main(
    data: Annotated[Path, typer.Option(help="The folder nemig-en.")] = Path("../shared/data/nemig-en"),
    cache: Annotated[Path, typer.Option(help="Where the texts' vectors are kept.")] = Path(
        "~/.cache/slatestream"
    ),
    seed: Annotated[int, typer.Option(help="Deals the users and starts the models.")] = 0,
    lora: Annotated[
        int, typer.Option(help="Fine-tune on so many impressions of one part; 0 leaves it out.")
    ] = 0,
) -> None:
    """Print both tables."""
    check_files(data, "behaviors.tsv.gz")
    torch.set_num_threads(1)
    begun = time.perf_counter()
    news = read_news(data)
    features = Features(news, text_vectors(news, cache.expanduser()))
    rng = np.random.default_rng(seed)
    n_users = len(news.profile)
    part = rng.permutation(np.arange(n_users) % FOLDS)[news.users]
    blended = (rng.random(n_users) < 0.1)[news.users]
    print(
        f"NeMig English: {len(news.history):,} impressions, {len(news.items):,} items shown, "
        f"{news.clicked.sum():,} clicks, {n_users:,} users; {FOLDS} parts of users, seed {seed}\n"
        f"{platform.processor() or platform.machine()}, 1 thread, Python {platform.python_version()}, "
        f"torch {torch.__version__}; read and encoded in {time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    scores = {"random": rng.random(len(news.items))}
    parts = {}
    for fold in range(FOLDS):
        test = part == fold
        again = np.unique(news.groups[test], return_inverse=True)[1], news.clicked[test]
        parts[fold] = {"train": ~test & ~blended, "blend": ~test & blended, "test": test}
        for name, values in fold_scores(news, features, parts[fold], ReaderConfig(), seed).items():
            scores.setdefault(name, np.zeros(len(news.items)))[test] = values[test]
        aucs = {
            name: np.nanmean(impression_metrics(values[test], *again)["auc"])
            for name, values in scores.items()
        }
        print(f"part {fold + 1} of {FOLDS}, {time.perf_counter() - begun:.0f} s: group AUC")
        print("  " + ", ".join(f"{name} {value:.4f}" for name, value in aucs.items()), flush=True)
    free = {name: values for name, values in scores.items() if name not in WITH_PLACE}
    report(news, free, rng, "Ranking, the place not known")
    placed = {name: scores[name] for name in (FLOOR, *WITH_PLACE)}
    report(news, placed, rng, "Clicks on a page laid out already, the place known")
    if lora:
        tuned, seconds = fine_tuned_scores(news, parts[0], lora, seed)
        some = {name: scores[name] for name in ("random", FLOOR, "attention reader, frozen MiniLM")}
        some[f"MiniLM + adapters, {lora} impressions"] = tuned
        first = keep(news, parts[0]["test"])
        report(first, {name: values[parts[0]["test"]] for name, values in some.items()}, rng, "Part 1 only")
        print(f"fine-tuning and encoding took {seconds:.0f} s")
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


def keep(news: News, rows: np.ndarray) -> News:
    """Keep whole impressions."""
    groups, again = np.unique(news.groups[rows], return_inverse=True)
    return replace(
        news,
        items=news.items[rows],
        groups=again,
        places=news.places[rows],
        users=news.users[rows],
        clicked=news.clicked[rows],
        history=news.history[groups],
    )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
