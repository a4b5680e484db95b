"""Parameters of the signals: training writes them into a release, and whoever serves reads them from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from model_core.robust.influence import Bound
from model_core.signals.horizons import HALF_LIVES_MS

MAX_NEIGHBOURS = 4096
UNTOLD = {
    "depth": 1009, "affinity_positives": 50, "affinity_half_life_ms": 2_592_000_000, "neighbours": 256,
    "influence_per_hour": 100, "surge_bound": 3.0,
    "popularity_half_life_ms": 0, "low_pass": 0.0, "ease_near": 0.0, "read_temper": 0.0, "pair_back": 1.0,
    "full_likes": 0,
}  # fmt: skip
"""Of releases whose manifest does not say: they were trained when these were the only values, and before
users and surges were bounded, which they are in what is served all the same."""
ORDERED: dict[str, Any] = {"pair_decay": 0.5, "pair_back": 0.0, "read_decay": 0.5}
"""Of co-visits in order: near events count far more, and only what came later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfig:
    """Which of a user's events count in the signals, and with which weights.

    The last `depth` events of a user count, and of those the ones whose item is described; see
    `model_core.signals.pasts`. An event pairs its item with those of the user's `window` events before it;
    the d-th event before adds ``pair_decay ** (d - 1)``, times `pair_other` unless both are positive, to what
    C says of its item after the earlier one, and `pair_back` times as much to the earlier one after it. The
    signal of item i is ``sum_r read_decay ** r * (1 or read_other) * rarity(h_r) * C[h_r, i] /
    sqrt(popularity_i + 10)`` over the user's `read_window` last events h_r, r = 0 the most recent, 1 for a
    positive one, with the `popularity.rarity` of what was met; beside it goes ``log1p(popularity_i)``,
    counting positive events, those of long ago less where there is a half-life, and EASE's score from all
    that the user liked.
    """

    depth: int = 1009
    """Events of a user, the last ones, that anything is read from."""
    affinity_positives: int = 50
    """Positive events, the last ones, that a user's affinities to entities are drawn from."""
    affinity_half_life_ms: int = 30 * 86_400_000
    """Age at which an event adds half as much to an affinity."""
    neighbours: int = 256
    """Counters of co-visits that an item has in each partition."""
    window: int = 20
    pair_decay: float = 0.9
    pair_other: float = 0.35
    pair_back: float = 1.0
    """How much a pair counts against its order: at 1 items are met together, at 0 one after the other."""
    influence_per_hour: int = 100
    """Events of a user an hour that count in what users share, an item once; 0 = all count. See
    `model_core.robust.influence`."""
    surge_bound: float = 3.0
    """Times the pace of before at which an item's recent likes count; 0 = at any. See
    `model_core.robust.surge`."""
    read_window: int = 20
    read_decay: float = 0.8
    read_other: float = 0.5
    read_temper: float = 0.75
    """How much less co-visits with a popular item say than those with a rare one: see `popularity.rarity`."""
    popularity_half_life_ms: int = 0
    """Age at which a positive event counts half as much in how popular its item is: one of
    `horizons.HALF_LIVES_MS`, or 0, as much at any age."""
    ease_penalty: float = 300.0
    low_pass: float = 0.0
    """Weight of `model_core.signals.low_pass` beside EASE's 1, in EASE's signal."""
    full_likes: int = 40
    """Likes up to which a user counts in full in EASE; 0 = at any number. See
    `model_core.robust.influence.likes_share`."""
    ease_near: float = 0.0
    """Share of what EASE counts of pairs that is by how near two likes are: see `liked_together`. Catalogues
    beyond `ease.DENSE_ITEMS` have none."""
    ease_keep: int = 256
    """Weights per item that a release keeps."""
    ease_refits: int = 16
    """How often training refits EASE along the log, so that no sample sees weights that know its target."""

    def __post_init__(self) -> None:
        for name in ("depth", "affinity_positives", "affinity_half_life_ms", "window", "read_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.popularity_half_life_ms not in (0, *HALF_LIVES_MS):
            raise ValueError(
                f"popularity_half_life_ms must be 0 or in {HALF_LIVES_MS}, got {self.popularity_half_life_ms}"
            )
        if self.window > self.depth:
            raise ValueError(f"window must be at most the depth, {self.depth}, got {self.window}")
        for name in ("influence_per_hour", "full_likes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("surge_bound", "low_pass"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if not 1 <= self.neighbours <= MAX_NEIGHBOURS:
            raise ValueError(f"neighbours must be in [1, {MAX_NEIGHBOURS}], got {self.neighbours}")
        for name in ("pair_decay", "pair_other"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("pair_back", "read_temper", "ease_near"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> "SignalConfig":
        """Read what a manifest says. All that it says counts, and but for `UNTOLD` it must say everything.

        Raises
        ------
        ValueError
            If a parameter is missing, unknown or out of bounds.
        """
        names = {field.name for field in fields(cls)}
        told: dict[str, Any] = {**UNTOLD, **described}
        if wrong := sorted(names ^ told.keys()):
            state = "missing" if wrong[0] in names else "unknown"
            raise ValueError(f"signals of a release must be {sorted(names)}, got {wrong[0]!r} {state}")
        return cls(**told)

    @property
    def horizon(self) -> int:
        """Place of the half-life of popularity in `horizons.HALF_LIVES_MS`, -1 if it has none."""
        half_life_ms = self.popularity_half_life_ms
        return HALF_LIVES_MS.index(half_life_ms) if half_life_ms else -1

    @property
    def order(self) -> dict[str, Any]:
        """The parameters that say how much the order of events counts in co-visits."""
        return {name: getattr(self, name) for name in ORDERED}

    @property
    def in_order(self) -> bool:
        """Whether co-visits with an item are rather of what follows it than of what goes before."""
        return self.pair_back < 1.0

    def ordered(self) -> "SignalConfig":
        """Return a copy whose co-visits are of what soon follows what; as it is if it says anything else."""
        return replace(self, **ORDERED) if self.order == SignalConfig().order else self

    @property
    def pairing(self) -> dict[str, Any]:
        """The parameters of pairs, as `CoVisitation` takes them."""
        return {
            "window": self.window, "pair_decay": self.pair_decay, "pair_other": self.pair_other,
            "pair_back": self.pair_back,
            "bound": Bound.of(self.influence_per_hour, kept=self.depth, window=self.window),
        }  # fmt: skip
