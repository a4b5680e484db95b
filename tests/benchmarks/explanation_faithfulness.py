"""Whether explanations name what matters: the score must fall when what they name is taken away.

    slatestream train --data ~/.cache/slatestream/ml-100k --until 0.2 --epochs 3 --out build/releases/fifth
    python -m tests.benchmarks.explanation_faithfulness --release build/releases/fifth

For users of the release's own test (ML-100K, the split it was trained with) the first item of the slate is
explained as a worker does it: what each item of the user's past adds to the logit, by itself, by co-visits
and by EASE, is summed. Then all events with the k items that add most are cut out of the user's past, and the
item is scored again, all signals included; what others did stays. Beside it: k other items of the past drawn
at random (the mean of several draws), and the k latest. Last, the items that speak against: without them the
score must rise. Falls are in logits; intervals are Student's over users, 95 %, of paired differences.
"""

import platform
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from model_core.data.batches import ItemBatch, ScoreBatch, SparseRows
from model_core.evaluation.evaluate import start_replay
from model_core.explanation.contributions import Attribution, explain, split_signal
from model_core.inputs.replay import Replay, item_batch
from model_core.release.scorer import Scorer
from model_core.signals.neighbour_groups import UNIT
from model_core.signals.pasts import Pasts
from streams.why.kernels import _add_counts, arrays_of
from tests.benchmarks.inputs import DataFolder, faults_told, read_scorer
from tests.benchmarks.released import read_release_test

DRAWS = 5
MIN_ITEMS = 10
"""Different items in a past, fewer of which leave nothing to draw from."""


class _Cut:
    """Users' events without those of some items."""

    def __init__(self, events: Any, items: NDArray[np.int64]) -> None:
        self._events, self._items = events, items

    def before(self, users: NDArray[np.int32], rows: NDArray[np.int64]) -> Pasts:
        past = self._events.before(users, rows)
        kept = ~np.isin(past.items, self._items)
        bounds = np.concatenate(([0], np.cumsum(kept)))[past.bounds]
        return Pasts(bounds, *(values[kept] for values in past[1:]))


class Counterfactual:
    """Asks a replay what a request were, had a user not met some items."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def without(self, user: int, moment: int, items: Iterable[int] = ()) -> ScoreBatch:
        """Return the request of a user, of whom some items' events are not known."""
        replay, events = self._replay, self._replay._events
        replay._events = _Cut(events, np.array([*items], np.int64))  # type: ignore[assignment]
        try:
            return replay.requests(np.array([user], np.int32), np.array([moment]))
        finally:
            replay._events = events

    def past(self, user: int) -> NDArray[np.int64]:
        """Return the different items that a user met, the latest first."""
        items = self._replay._pasts(np.array([user], np.int32)).items[::-1]
        return items[np.sort(np.unique(items, return_index=True)[1])].astype(np.int64)

    def sources(self, user: int, moment: int, row: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Return which items co-visits and EASE owe their signal for an item to, and how much of it each."""
        replay = self._replay
        past = replay._pasts(np.array([user], np.int32))
        drawn = replay._reader.draw(past, np.array([moment]), described=replay._described)
        window, weights = (values[0] for values in replay._popularity.weighed(drawn.window))
        counts = np.zeros((len(window), 1), np.float32)
        for part in replay._parts.read([replay._counted.counts]).where:
            tables = arrays_of(part)
            for event in np.flatnonzero(window >= 0):
                _add_counts(*tables, window[event], np.array([row], np.int64), counts[event])
        liked = np.unique(drawn.liked)
        liked = liked[liked >= 0]
        together = counts[:, 0] / UNIT * weights
        return [(window, together), (liked, replay.ease.block(liked, np.array([row]))[:, 0])]


def main(
    release: Annotated[Path, typer.Option(help="A release trained on ML-100K with `train --until`.")],
    data: DataFolder = None,
    users: Annotated[int, typer.Option(min=2, help="At most, drawn at random.")] = 40,
    tolerance: Annotated[float, typer.Option(help="Standard error of a contribution, in logits.")] = 0.02,
    budget: Annotated[int, typer.Option(min=1, help="Coalitions at most.")] = 4096,
    seed: int = 0,
) -> None:
    """Explain the first item of every user's slate, take away what was named, and score it again."""
    console = Console(width=130)
    version, corpus, split, moment, truth = read_release_test(release, data)
    scorer = read_scorer(release)
    folded, vectors = start_replay(scorer, corpus)
    folded.advance(split)
    replay = Counterfactual(folded)
    rng = np.random.default_rng(seed)
    described = item_batch(corpus)
    sizes = (1, 3, 5)
    found: dict[str, list[list[float]]] = {name: [] for name in ("named", "random", "latest", "against")}
    asked = [user for user in rng.permutation(truth.users).tolist() if len(replay.past(user)) >= MIN_ITEMS]
    for user in track(asked[:users], description="explaining", console=console):
        request = replay.without(user, moment)
        row = int(scorer.score(request, vectors).rows[0, 0])
        parts = ItemBatch(**{name: getattr(described, name)[row : row + 1] for name in ItemBatch.__slots__})
        told = explain(
            scorer, request, vectors, row, parts, rng=np.random.default_rng((seed, user)),
            tolerance=tolerance, budget=budget,
        )  # fmt: skip
        past = replay.past(user)
        adds = added(told, past, replay.sources(user, moment, row))
        whole = logit(scorer, request, vectors, row)

        def falls(items: NDArray[np.int64], user: int = user, row: int = row, whole: float = whole) -> float:
            return whole - logit(scorer, replay.without(user, moment, items), vectors, row)

        ordered = past[np.argsort(-adds, kind="stable")]
        found["named"].append([falls(ordered[:k]) for k in sizes])
        found["latest"].append([falls(past[:k]) for k in sizes])
        found["against"].append([falls(ordered[-k:]) for k in sizes])
        drawn = [[falls(rng.permutation(ordered[k:])[:k]) for k in sizes] for _ in range(DRAWS)]
        found["random"].append(np.mean(drawn, 0).tolist())
    console.print(
        f"{platform.machine()}, release {version}, {len(found['named'])} users with {MIN_ITEMS} items or "
        f"more, seed {seed}; tolerance {tolerance:g}, budget {budget}"
    )
    _show(console, {name: np.array(rows) for name, rows in found.items()}, sizes)


def added(
    told: Attribution, past: NDArray[np.int64], sources: list[tuple[NDArray[Any], NDArray[Any]]]
) -> NDArray[np.float64]:
    """What each item of a past adds to the score, as an explanation tells it: (n,) float64."""
    place = {item: at for at, item in enumerate(past.tolist())}
    adds = np.zeros(len(past))
    for player, value in zip(told.players, told.contributions.tolist(), strict=True):
        if player.kind == "history":
            adds[place[int(player.key)]] += value
    for name, (items, parts) in zip(("covisits", "ease"), sources, strict=True):
        shares = split_signal(told.of("signal", name)[0], parts.astype(np.float64))
        for item, share in zip(items.tolist(), shares.tolist(), strict=True):
            if item in place:
                adds[place[item]] += share
    return adds


def logit(scorer: Scorer, request: ScoreBatch, vectors: NDArray[np.float32], row: int) -> float:
    """Score an item alone, whatever else is eligible."""
    one = replace(request.only(SparseRows.of([np.array([row])])), eligible=np.ones(len(vectors), np.bool_))
    p = float(np.clip(scorer.score(one, vectors).scores[0, 0], 1e-7, 1 - 1e-7))
    return float(np.log(p / (1 - p)))


def _show(console: Console, found: dict[str, NDArray[np.float64]], sizes: tuple[int, ...]) -> None:
    table = Table(title="fall of the logit when items of the past are taken away")
    for column in ("items", "named", "random", "latest", "named - random", "named falls more", "against"):
        table.add_column(column, justify="right")
    for at, k in enumerate(sizes):
        rows = {name: values[:, at] for name, values in found.items()}
        ahead = rows["named"] - rows["random"]
        table.add_row(
            str(k), *(f"{rows[name].mean():+.3f}" for name in ("named", "random", "latest")), _mean(ahead),
            f"{(ahead > 0).mean():.0%} of users", _mean(rows["against"]),
        )  # fmt: skip
    console.print(table)


def _mean(values: NDArray[np.float64]) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.3f} ± {half:.3f}"


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
