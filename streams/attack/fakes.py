"""Events of fake users, by the shilling attacks that the literature names.

Each fake is a sequence of items: targets, and fillers between them that make it look like a user, or that tie
the targets to what others like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.signals.config import SignalConfig
from model_core.signals.popularity import rarity

POPULAR_SHARE = 0.05
"""Share of a catalogue, the most popular items, that bandwagon and decoy tie targets to."""
TARGET_EVERY = 4
"""Of a fake's events one in so many is on a target; of a decoy's one in two."""

READ = SignalConfig()

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Known:
    """An attacker's knowledge of a catalogue.

    popularity : (N,) int64, responses so far
    groups : by item, its genres or the like
    pasts : item rows that honest users have responded to of late, a sequence a user
    """

    popularity: NDArray[np.int64]
    groups: Sequence[frozenset[str]]
    pasts: Sequence[Rows]

    @property
    def popular(self) -> Rows:
        """The most popular items, the most popular first."""
        n = max(1, round(POPULAR_SHARE * len(self.popularity)))
        return np.argsort(-self.popularity, kind="stable")[:n]


def unpopular_targets(known: Known, n: int, rng: np.random.Generator) -> Rows:
    """Draw n items of the rarer half of those that anybody has responded to: (n,) int64."""
    met = np.flatnonzero(known.popularity > 0)
    rare = met[np.argsort(known.popularity[met], kind="stable")][: max(n, len(met) // 2)]
    if len(rare) < n:
        raise ValueError(f"targets must be at most the {len(met)} items that somebody has liked, got {n}")
    return np.sort(rng.choice(rare, n, replace=False))


def fakes(
    kind: str, known: Known, targets: Rows, *, n: int, events: int, rng: np.random.Generator
) -> list[Rows]:
    """Make n fake users of so many events each, in the order they happen: (events,) int64 each.

    Parameters
    ----------
    kind : one of `KINDS`
    targets : (n_targets,) int64, the items to be pushed; each fake takes them in turn
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    every = 2 if kind == "decoy" else TARGET_EVERY
    made = []
    for fake in range(n):
        row = KINDS[kind](known, targets, events, rng)
        at = np.arange(every - 1, events, every)
        row[at] = targets[(np.arange(len(at)) + fake) % len(targets)]
        made.append(row)
    return made


def _random(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Any items."""
    return rng.integers(0, len(known.popularity), events)


def _average(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Items as often as honest users take them."""
    odds = known.popularity + 1e-9
    return rng.choice(len(odds), events, p=odds / odds.sum())


def _bandwagon(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Half popular items, which many users have in their histories, and half any."""
    popular = rng.choice(known.popular, events)
    return np.where(rng.random(events) < 0.5, popular, _random(known, targets, events, rng))


def _segment(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Items of the targets' group, by popularity."""
    wanted = frozenset().union(*(known.groups[t] for t in targets.tolist()))
    near = np.array([bool(groups & wanted) for groups in known.groups])
    odds = (known.popularity + 1e-9) * (near if near.any() else 1)
    return rng.choice(len(odds), events, p=odds / odds.sum())


def _decoy(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Popular items only, each a decoy right before a target."""
    return rng.choice(known.popular, events)


def _gradient(known: Known, targets: Rows, events: int, rng: np.random.Generator) -> Rows:
    """Items by `gradient_odds`."""
    steepest, odds = gradient_odds(known, targets)
    return rng.choice(steepest, events, p=odds)


def gradient_odds(known: Known, targets: Rows) -> tuple[Rows, NDArray[np.float64]]:
    """Fillers and their odds, by how steeply the targets' scores rise with their co-visits: (n,) both.

    A target's score for a user is the sum of its co-visits with the last items of that user, the latest and
    the rarest the most (`SignalConfig.read_decay`, `popularity.rarity`): so its derivative by the co-visits
    with an item is what that item weighs in the histories of all users. Fillers are drawn by it, from the
    steepest ones.
    """
    gradient = np.zeros(len(known.popularity))
    for past in known.pasts:
        latest_first = past[::-1]
        np.add.at(gradient, latest_first, READ.read_decay ** np.arange(len(latest_first)))
    gradient *= [rarity(likes, READ.read_temper) for likes in known.popularity.tolist()]
    gradient[targets] = 0.0
    steepest = np.argsort(-gradient, kind="stable")[: len(known.popular)]
    odds = gradient[steepest] + 1e-9
    return steepest, odds / odds.sum()


KINDS: dict[str, Callable[[Known, Rows, int, np.random.Generator], Rows]] = {
    "random": _random,
    "average": _average,
    "bandwagon": _bandwagon,
    "segment": _segment,
    "decoy": _decoy,
    "gradient": _gradient,
}
"""How fillers are chosen, by the name of the attack."""
