"""Evaluate every candidate policy with every estimator: a value with its interval, or the reason for none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.diagnostics import Diagnostics, Limits, check_bearable, diagnose
from online_learning.ope.intervals import bootstrap, empirical_bernstein
from online_learning.ope.types import Contributions, Floats, RefusalKind, Refused

Interval = Literal["bootstrap", "bernstein"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated value of one policy, by one estimator.

    Attributes
    ----------
    value, low, high : in units of reward per row; the interval is of the given `level`
    diagnostics : None where the estimator uses no weights
    """

    value: float
    low: float
    high: float
    level: float
    diagnostics: Diagnostics | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why there is no estimate, and what can still be done.

    Attributes
    ----------
    reason : in words; kind : in one
    diagnostics : None where the weights could not be had
    """

    reason: str
    kind: RefusalKind
    diagnostics: Diagnostics | None


class Log(Protocol):
    """Inputs of `evaluate`: a log's rewards, (n,) or (n, K), and P from `target`."""

    @property
    def rewards(self) -> Floats: ...  # noqa: D102

    @property
    def target(self) -> Floats: ...  # noqa: D102


L = TypeVar("L", bound=Log)


def evaluate(
    log: L,
    estimators: Mapping[str, Callable[[L], Contributions]],
    *,
    interval: Interval = "bootstrap",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    limits: Limits | None = None,
    reward_range: tuple[float, float] = (0.0, 1.0),
    clusters: NDArray[Any] | None = None,
) -> dict[str, list[Estimate | Refusal]]:
    """Return, by estimator, an estimate of each of P policies, or the reason why the log bears none.

    Parameters
    ----------
    estimators : by name, e.g. `ESTIMATORS` or `SLATE_ESTIMATORS`
    interval : "bootstrap", or "bernstein", which holds at any n but is wide and needs bounded weights
    resamples, seed : of the bootstrap
    limits : below which to refuse; None for the defaults
    reward_range : least and most reward of a row; read by "bernstein" only
    clusters : (n,), equal for rows that depend on each other, such as those of a user, which a bootstrap
        then draws together; None where all rows are independent, as "bernstein" needs them
    """
    if interval not in ("bootstrap", "bernstein"):
        raise ValueError(f"interval must be 'bootstrap' or 'bernstein', got {interval!r}")
    if interval == "bernstein" and clusters is not None:
        raise ValueError(
            "clusters must be None for interval 'bernstein', whose rows are independent, got some"
        )
    usable: dict[str, Contributions] = {}
    refusals: dict[str, Refusal] = {}
    for name, estimator in estimators.items():
        try:
            usable[name] = _with_interval(estimator(log), interval)
        except Refused as refused:
            refusals[name] = Refusal(str(refused), refused.kind, None)
    if interval == "bernstein":
        ends = [_bernstein(contributions, reward_range, level) for contributions in usable.values()]
    else:
        ends = bootstrap(
            list(usable.values()), resamples=resamples, level=level, seed=seed, clusters=clusters
        )
    rewards = np.atleast_2d(log.rewards.T)
    results: dict[str, list[Estimate | Refusal]] = {
        name: [refusals[name]] * len(log.target) if name in refusals else [] for name in estimators
    }
    for (name, contributions), (lows, highs) in zip(usable.items(), ends, strict=True):
        found = diagnose(contributions, rewards, clusters)
        for value, low, high, diagnostics in zip(contributions.values(), lows, highs, found, strict=True):
            try:
                if diagnostics is not None:
                    check_bearable(diagnostics, limits or Limits(), modelled=contributions.modelled)
            except Refused as refused:
                results[name].append(Refusal(str(refused), refused.kind, diagnostics))
            else:
                results[name].append(Estimate(float(value), float(low), float(high), level, diagnostics))
    return results


def _with_interval(contributions: Contributions, interval: Interval) -> Contributions:
    if interval == "bernstein" and contributions.ratio is not None:
        raise Refused("interval", "a self-normalised estimate is no mean of rows; use the bootstrap")
    if interval == "bernstein" and contributions.largest_weight == np.inf:
        raise Refused(
            "interval",
            "largest weight must be known for an empirical Bernstein interval, got inf; set the log's "
            "max_weight to 1 / the least logged propensity, use clipped weights, or the bootstrap",
        )
    return contributions


def _bernstein(
    contributions: Contributions, reward_range: tuple[float, float], level: float
) -> tuple[Floats, Floats]:
    low, high = contributions.bounds(reward_range)
    return empirical_bernstein(contributions.plain, low=low, high=high, level=level)
