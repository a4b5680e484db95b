"""What a private release ranks as served, by epsilon, and how much better weights could be: NDCG@10.

    python -m tests.benchmarks.private_served --domain films --seeds 5

EASE is of noisy counts of the first part of the log, and stays; co-visits and popularity are exact and go on,
as a worker counts them. Before every n-th later response to an item that the user has not met all items are
ranked. Beside the weights that a private release has stand those of networks before any training, and the
best ones of a grid, chosen on just the events that are asked: what no training of three weights exceeds.
Values are means over users; differences have 95 % over users, whose values are averaged over the noise first.
"""

import argparse
import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_core.data.batches import dense_signals
from model_core.evaluation.topn import paired_difference
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.inputs.replay import Replay, item_features
from model_core.network.config import ModelConfig
from model_core.network.ranker import SIGNAL_WEIGHTS
from model_core.privacy.config import Privacy
from model_core.privacy.counts import PrivateCounts, private_counts
from model_core.signals.config import SignalConfig
from model_core.signals.ease import Ease
from model_core.signals.sample_signals import Log, with_unmet
from model_core.training.balance import unmet
from model_core.training.private import PRIVATE_WEIGHTS, by_catalogue, private_ease
from streams.errors import SlatestreamError
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.domains import DOMAINS
from tests.benchmarks.inputs import faults_told

EPSILONS = (1.0, 4.0, 8.0, math.inf)
FLOOR = np.float32(math.exp(-3.0))
"""Added to a signal before its logarithm, as an untrained ranker does."""
TOP = 10
GRID = tuple(product((0.0, 0.8), (0.0, 0.05, 0.1, 0.2, 0.4, 0.8), (0.0, 0.075, 0.15, 0.3, 0.6, 1.2)))
"""Of co-visits, popularity and EASE; what ranks depends on their ratios alone."""
SIGNALS = SignalConfig(full_likes=0)


class Asked(NamedTuple):
    """Later responses.

    rows : (n,) of the log; users : (n,); items : (n,), what was wanted; met : (n, N) bool
    shaped : (n, 3, N) float32, logarithms of co-visits, popularity and EASE
    """

    rows: np.ndarray
    users: np.ndarray
    items: np.ndarray
    met: np.ndarray
    shaped: np.ndarray

    def ndcg(self, weights: tuple[float, ...]) -> np.ndarray:
        """NDCG@10 of each, items weighed by their signals: (n,). Of items that tie the wanted one is last."""
        scores = np.tensordot(np.array(weights, np.float32), self.shaped, (0, 1))
        scores[self.met] = -np.inf
        own = scores[np.arange(len(scores)), self.items]
        place = (scores >= own[:, None]).sum(1) - 1
        return np.where(place < TOP, 1.0 / np.log2(2.0 + place), 0.0)

    def by_user(self, values: np.ndarray) -> np.ndarray:
        """Mean of each user who was asked: (u,)."""
        _, who = np.unique(self.users, return_inverse=True)
        return np.bincount(who, values) / np.bincount(who)

    def best(self) -> tuple[float, ...]:
        """Weights of the grid that rank these events best."""
        return max(GRID, key=lambda weights: float(self.by_user(self.ndcg(weights)).mean()))


def read_domain(folder: Path | None, domain: str) -> tuple[Corpus, int]:
    """Read a corpus, and how many of its events are told."""
    if folder is None and domain != "films":
        raise SlatestreamError(f"--folder must be given for the domain {domain}")
    dataset, split = DOMAINS[domain](folder and folder.expanduser())
    settings = Settings()
    actions = rating_actions(dataset.interactions)
    encoder = named_encoder(settings.text_encoder)
    return make_corpus(dataset, actions, settings.actions, encoder, ModelConfig().n_neighbours), split


def counts_of(corpus: Corpus, log: Log, privacy: Privacy, seed: int) -> PrivateCounts:
    """Noisy counts of a log, as a private release takes them."""
    similar = by_catalogue(item_features(corpus))
    liked = log.users[log.positive], log.items[log.positive]
    return private_counts(*liked, log.n_items, similar, privacy, np.random.default_rng(seed))


def ease_of(corpus: Corpus, counts: PrivateCounts) -> Ease:
    """EASE of noisy counts, as a private release has it."""
    ease = private_ease(counts, corpus.log.n_items, penalty=SIGNALS.ease_penalty, keep=SIGNALS.ease_keep)
    return with_unmet(ease, SIGNALS, item_features(corpus))


def ask(corpus: Corpus, ease: Ease, split: int, every: int) -> Asked:
    """Replay a log, and note the signals before every n-th response from the split on."""
    log = corpus.log
    rows = np.flatnonzero(unmet(log))
    rows = rows[rows >= split][::every]
    replay = Replay(
        log, corpus.edges, corpus.stated, history_length=1, n_affinities=1, signals=SIGNALS, ease=ease
    )
    shaped = np.empty((len(rows), 3, log.n_items), np.float32)
    met = np.empty((len(rows), log.n_items), np.bool_)
    for at, row in enumerate(rows.tolist()):
        replay.advance(row)
        user = log.users[row : row + 1]
        shaped[at] = np.log(FLOOR + dense_signals(replay.requests(user, log.times_ms[row : row + 1]))[0])
        met[at] = replay.met(user)[0]
    return Asked(rows, log.users[rows], log.items[rows], met, shaped)


def show_leads(found: dict[str, np.ndarray], first: str) -> None:
    """Print the mean of each row of users' values, by seed (S, u), and what it is ahead of one of them."""
    for name, rows in found.items():
        lead = paired_difference(rows, found[first])
        print(
            f"  {name:<24} {rows.mean():.4f}  less {first} {lead.mean:+.4f} "
            f"[{lead.low:+.4f}, {lead.high:+.4f}]", flush=True,
        )  # fmt: skip


def make_parser(description: str | None, domains: Iterable[str] = DOMAINS) -> argparse.ArgumentParser:
    """Return a parser of what is asked of all that is ranked as served."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--folder", type=Path, help="Of ML-100K, which is fetched without it, or of the domains."
    )
    parser.add_argument("--domain", choices=sorted(domains), default="films")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--epsilon", type=float, action="append", help="Several times; all are the default.")
    return parser


def main() -> None:
    """Print NDCG@10 by epsilon and weights."""
    given = make_parser(__doc__).parse_args()
    corpus, split = read_domain(given.folder, given.domain)
    for epsilon in given.epsilon or EPSILONS:
        values: dict[str, list[np.ndarray]] = {"untrained": [], "private": [], "best": []}
        best = []
        for seed in range(given.seeds if epsilon < math.inf else 1):
            counts = counts_of(corpus, corpus.log.first(split), Privacy(epsilon=epsilon), seed)
            asked = ask(corpus, ease_of(corpus, counts), split, given.every)
            best.append(asked.best())
            for name, weights in zip(values, (SIGNAL_WEIGHTS, PRIVATE_WEIGHTS, best[-1]), strict=True):
                values[name].append(asked.by_user(asked.ndcg(weights)))
        found = {name: np.array(rows) for name, rows in values.items()}
        print(
            f"epsilon {epsilon:g}, {len(asked.rows)} responses of {found['best'].shape[1]} users, best {best}"
        )
        show_leads(found, "untrained")


if __name__ == "__main__":
    with faults_told():
        main()
