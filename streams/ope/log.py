"""Records of `feedback` as columns that off-policy evaluation reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.events import UNDECODABLE, Id

Reward = Literal["responses", "weights"]

MALFORMED = ("undecodable", "lengths", "propensity", "reward")


class _Position(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    propensity: float | None = None


class LoggedSlate(msgspec.Struct, frozen=True, gc=False):
    """The fields of a `Feedback` record that are evaluated; in a log from elsewhere some may be missing."""

    request_id: Id
    user_id: Id
    slate: list[_Position]
    rewards: list[float]
    actions: list[list[str]] = []
    policy: str = "unknown"
    propensity_kind: str = "exact"
    candidate_propensities: dict[str, list[float]] = {}


_decode = msgspec.json.Decoder(LoggedSlate).decode


class MalformedError(ValueError):
    """A record that says nothing: reason is one of `MALFORMED`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def read_slate(value: bytes | None) -> LoggedSlate:
    """Read and check one record; raise MalformedError with the rule that it breaks."""
    if value is None:
        raise MalformedError("undecodable", "value must be a JSON object, got null")
    try:
        slate = _decode(value)
    except UNDECODABLE as error:
        raise MalformedError("undecodable", str(error)) from None
    n = len(slate.slate)
    lengths = {"rewards": len(slate.rewards), "actions": len(slate.actions) or n}
    lengths |= {name: len(column) for name, column in slate.candidate_propensities.items()}
    for name, length in lengths.items():
        if not n or length != n:
            raise MalformedError(
                "lengths", f"{name} must be as long as a slate of 1 or more, got {length} for {n}"
            )
    logged = [position.propensity for position in slate.slate]
    missing = logged.count(None)
    if 0 < missing < n or not all(0.0 < p <= 1.0 for p in logged if p is not None):
        raise MalformedError(
            "propensity", f"propensity must be in (0, 1] at all positions or none, got {logged}"
        )
    for name, column in slate.candidate_propensities.items():
        if not all(0.0 <= p <= 1.0 + 1e-6 for p in column):
            raise MalformedError("propensity", f"propensities of {name!r} must be in [0, 1], got {column}")
    return slate


@dataclass(frozen=True, slots=True)
class Columns:
    """n slates of up to K positions.

    Attributes
    ----------
    rewards : (n, K) float64, 0 after a slate's end
    shown : (n, K) bool
    propensities : (n, K) float64, of the policy that served; NaN in a slate without
    candidates : (n, K) float64 by name, NaN in a slate that has none of this candidate
    users, policies : (n,) str
    estimated : (n,) bool, whose propensities are estimates from samples
    """

    rewards: NDArray[np.float64]
    shown: NDArray[np.bool_]
    propensities: NDArray[np.float64]
    candidates: dict[str, NDArray[np.float64]]
    users: NDArray[np.str_]
    policies: NDArray[np.str_]
    estimated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def without_propensities(self) -> int:
        """Number of slates without propensities."""
        return int(np.isnan(self.propensities).any(axis=1).sum())

    def rows(self, which: NDArray[np.bool_]) -> "Columns":
        """Return the same of some of the slates."""
        return replace(
            self,
            rewards=self.rewards[which],
            shown=self.shown[which],
            propensities=self.propensities[which],
            candidates={name: column[which] for name, column in self.candidates.items()},
            users=self.users[which],
            policies=self.policies[which],
            estimated=self.estimated[which],
        )

    def first(self, positions: int) -> "Columns":
        """Return the same of the slates' first `positions`."""
        return replace(
            self,
            rewards=self.rewards[:, :positions],
            shown=self.shown[:, :positions],
            propensities=self.propensities[:, :positions],
            candidates={name: column[:, :positions] for name, column in self.candidates.items()},
        )


class SlateLog:
    """The latest slates by request, as `feedback` tells them.

    A record about a request read before takes the place of the earlier one: it is a correction, or the same
    again after a crash.

    Parameters
    ----------
    positive : actions that count as a response
    reward : "responses" earns 1 at each position whose item was responded to; "weights" is what the record
        says, the sum of the weights of its actions
    capacity : slates kept, the latest read; None keeps all
    """

    def __init__(
        self, positive: frozenset[str], *, reward: Reward = "responses", capacity: int | None = None
    ) -> None:
        self._positive = positive
        self._reward = reward
        self._capacity = capacity
        self._slates: dict[str, LoggedSlate] = {}
        self.read = 0
        self.repeated = 0
        self.malformed: Counter[str] = Counter()
        self.first_malformed: str | None = None

    def __len__(self) -> int:
        return len(self._slates)

    def add(self, value: bytes | None) -> None:
        """Take in a record; one that cannot be read is counted."""
        self.read += 1
        try:
            slate = read_slate(value)
            if self._reward == "responses" and not slate.actions:
                raise MalformedError(
                    "reward", "actions must be given to count responses; reward 'weights' reads none"
                )
        except MalformedError as error:
            self.malformed[error.reason] += 1
            self.first_malformed = self.first_malformed or str(error)
            return
        self.repeated += self._slates.pop(slate.request_id, None) is not None
        self._slates[slate.request_id] = slate
        if self._capacity is not None and len(self._slates) > self._capacity:
            del self._slates[next(iter(self._slates))]

    def columns(self) -> Columns:
        """Return what is kept as arrays."""
        slates = list(self._slates.values())
        lengths = np.array([len(slate.slate) for slate in slates], np.int64)
        shown = np.arange(lengths.max(initial=1)) < lengths[:, None]

        def fill(rows: list[Sequence[float] | None], rest: float) -> NDArray[np.float64]:
            out = np.where(shown, np.nan, rest)
            has = np.array([row is not None for row in rows], np.bool_)
            out[shown & has[:, None]] = [value for row in rows if row is not None for value in row]
            return out

        names = sorted({name for slate in slates for name in slate.candidate_propensities})
        return Columns(
            rewards=fill([self._rewards(slate) for slate in slates], 0.0),
            shown=shown,
            propensities=fill([_logged(slate) for slate in slates], 1.0),
            candidates={
                name: fill([slate.candidate_propensities.get(name) for slate in slates], 1.0)
                for name in names
            },
            users=np.array([slate.user_id for slate in slates], np.str_),
            policies=np.array([slate.policy for slate in slates], np.str_),
            estimated=np.array([slate.propensity_kind == "estimated" for slate in slates], np.bool_),
        )

    def _rewards(self, slate: LoggedSlate) -> Sequence[float]:
        if self._reward == "weights":
            return slate.rewards
        return [float(not self._positive.isdisjoint(actions)) for actions in slate.actions]


def _logged(slate: LoggedSlate) -> list[float] | None:
    logged = [position.propensity for position in slate.slate]
    return None if None in logged else [value for value in logged if value is not None]
