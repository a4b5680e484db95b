"""What a device reaches that ranks by itself: hit@10 by what it tells of its history.

    python -m tests.benchmarks.quality_on_device --data FOLDER --release FOLDER [--until .2] [--every 20]

In time order, after the share that the release was trained on; before every n-th event with a positive
action ten items that the user has not met are listed, and a hit is the event's item among them. All lists are
made from the same counts. The worker has every history. A device ranks the `popular` list, and the lists of
what is similar to the items that it names, as `streams.on_device.client` asks for them: with "any" these are
drawn whatever the history is, with "inf" it is always the one that the device ranks first. An epsilon is of
one draw, and each slate has one here. Reach is the share of events whose item is in the lists.
"""

import argparse
import math
import random
from pathlib import Path

import numpy as np

from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import start_replay
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.release.scorer import Scorer
from model_core.signals.co_visitation_scores import WEIGHT_UNIT
from model_core.signals.horizons import DAY_MS, HALF_LIVES_MS
from model_core.signals.joint import joint_scores
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.popularity import Popularity
from model_core.signals.sample_signals import CovisitReplay
from model_core.signals.trends import Trends, popularity_signal
from streams.items.text_encoder import release_encoder
from streams.on_device.client import ANCHORS, WIDE, first, joined, share_of
from streams.on_device.interests import SubsetSelection
from streams.on_device.source import Listed
from streams.on_device.tower import History, Items, Tower
from streams.serving.ranking_inputs import NEIGHBOURS, met_with
from streams.settings import Settings
from tests.benchmarks.inputs import DATA_HELP, faults_told, read_data, read_scorer

TOP = 10
POPULAR = HALF_LIVES_MS.index(30 * DAY_MS)
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)


class Lists:
    """The lists of a worker that has folded a log up to an event."""

    def __init__(self, scorer: Scorer, corpus: Corpus, vectors: np.ndarray, most: int) -> None:
        self._most = most
        self._version, self._signals = scorer.release.version, scorer.release.signals
        self._ids, self._vectors = list(corpus.vocabulary.item_rows), vectors
        self._counted, self._reader = CovisitReplay(corpus.log, self._signals), PartsReader()
        self._popularity = Popularity(self._signals.surge_bound, self._signals.read_temper)
        self._trends = Trends(self._signals.surge_bound)
        self._parts: Parts
        self._now_ms = 0

    def advance(self, event: int, now_ms: int) -> None:
        """Fold the log up to (not with) an event."""
        self._counted.advance(event)
        self._parts, self._now_ms = self._reader.read([self._counted.counts]), now_ms
        self._popularity.read(self._parts, len(self._ids))
        self._trends.read(self._parts, len(self._ids), now_ms)

    def popular(self, k: int) -> Listed:
        rates = self._trends.rates(self._now_ms)[POPULAR]
        return self._listed(np.argsort(-rates, kind="stable")[:k])

    def similar(self, item: str, k: int) -> Listed:
        row = np.array([[self._ids.index(item)]], np.int64)
        near, values = joint_scores(
            self._parts, row, np.full((1, 1), WEIGHT_UNIT), self._popularity.tempers, None
        )
        return self._listed(near.rows[np.argsort(-values[:, 0], kind="stable")[:k]].astype(np.int64))

    def _listed(self, rows: np.ndarray) -> Listed:
        levels = popularity_signal(
            self._signals.horizon, self._popularity, self._trends, self._parts, np.array([self._now_ms])
        )
        ids = [self._ids[row] for row in rows.tolist()]
        met = [
            {self._ids[other]: value for other, value in zip(*one, strict=True)}
            for one in met_with(self._parts, self._popularity, rows, most=self._most)
        ]
        return Listed(self._version, Items(ids, self._vectors[rows], levels[rows], met), {})


def histories(corpus: Corpus) -> dict[int, np.ndarray]:
    """Rows of the log by user, in its order."""
    order = np.argsort(corpus.log.users, kind="stable")
    users, begins = np.unique(corpus.log.users[order], return_index=True)
    return dict(zip(users.tolist(), np.split(order, begins[1:]), strict=True))


def measured(
    scorer: Scorer, tower: Tower, corpus: Corpus, actions: list[str], asked: np.ndarray, most: int
) -> dict[str, np.ndarray]:
    """Whether each event was a hit, and in reach, by who lists: (2, n) bool."""
    log, rng = corpus.log, random.Random(0)
    replay, vectors = start_replay(scorer, corpus)
    lists, of_user = Lists(scorer, corpus, vectors, most), histories(corpus)
    ids = list(corpus.vocabulary.item_rows)
    known = dict(zip(ids, vectors, strict=True))
    found: dict[str, list[tuple[bool, bool]]] = {}
    for event in asked.tolist():
        user, now_ms, wanted = log.users[event], int(log.times_ms[event]), ids[log.items[event]]
        replay.advance(event)
        lists.advance(event, now_ms)
        served = scorer.score(replay.requests(log.users[[event]], log.times_ms[[event]]), vectors)
        top = [ids[row] for row in served.rows[0, :TOP]]
        found.setdefault("worker", []).append((wanted in top, True))

        past = of_user[int(user)]
        past = past[past < event][-tower.depth :]
        history = History(
            [ids[row] for row in log.items[past]], [actions[row] for row in past], log.times_ms[past]
        )
        met = {ids[row] for row in log.items[of_user[int(user)]][of_user[int(user)] < event]}
        popular = lists.popular(WIDE)
        anchors = first(popular.items, ANCHORS)
        true = int(np.argmax(tower.score(history, known, anchors, now_ms=now_ms)))
        named: dict[str, list[int]] = {"nothing": [], "any": [rng.randrange(ANCHORS)], "inf": [true]}
        for epsilon in EPSILONS:
            named[f"epsilon {epsilon:g}"] = SubsetSelection(epsilon, ANCHORS).draw(true, rng)
        plain = [item for item in popular.items.ids if item not in met]
        found.setdefault("popularity", []).append((wanted in plain[:TOP], wanted in plain))
        for name, places in named.items():
            near = [lists.similar(anchors.ids[at], share_of(WIDE, len(places))) for at in places]
            wide = joined([popular, *near], met=met, dim=tower.dim)
            scores = tower.score(history, known, wide, now_ms=now_ms)
            best = np.argsort(-scores, kind="stable")[:TOP].tolist()
            hit = wanted in [wide.ids[at] for at in best]
            found.setdefault(f"device, {name}", []).append((hit, wanted in wide.ids))
    return {name: np.array(one).T for name, one in found.items()}


def spread(hits: np.ndarray, users: np.ndarray, draws: int = 2000) -> float:
    """Half of a 95 % interval of a mean, by a bootstrap over users."""
    _, of = np.unique(users, return_inverse=True)
    sums, sizes = np.bincount(of, hits), np.bincount(of)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (draws, len(sizes)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    return float(high - low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help=DATA_HELP)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--until", type=float, default=0.2)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--neighbours", type=int, default=NEIGHBOURS, help="of which an item is told")
    given = parser.parse_args()
    dataset, scorer = read_data(given.data), read_scorer(given.release, threads=1)
    release = scorer.release
    actions = rating_actions(dataset.interactions)
    corpus = make_corpus(
        dataset, actions, Settings().actions, release_encoder(given.release, release), release.n_neighbours,
        known=Vocabulary(release.item_rows, release.entity_rows, release.relation_rows),
    )  # fmt: skip
    log = corpus.log
    later = np.arange(len(log)) >= int(given.until * len(log))
    asked = np.flatnonzero(log.positive & later)[:: given.every]
    in_time = [release.actions[code - 1] for code in log.actions.tolist()]
    found = measured(scorer, Tower(given.release), corpus, in_time, asked, given.neighbours)
    users = log.users[asked]
    print(f"release {release.version}: {len(asked)} events of {len(np.unique(users))} users")
    print(f"{'':<24}{'hit@10':>18}{'of the worker':>15}{'reach':>8}")
    for name, (hit, reach) in found.items():
        share = hit.mean() / max(found["worker"][0].mean(), math.ulp(1.0))
        interval = f"{hit.mean():.4f} ± {spread(hit, users):.4f}"
        print(f"{name:<24}{interval:>18}{share:>15.2f}{reach.mean():>8.3f}")


if __name__ == "__main__":
    with faults_told():
        main()
