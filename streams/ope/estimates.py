"""From columns of slates to a verdict on each policy: a value with its interval, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.diagnostics import Limits
from online_learning.ope.evaluation import Estimate, Refusal, evaluate
from online_learning.ope.intervals import bootstrap
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates
from online_learning.ope.types import Contributions, RefusalKind
from streams.ope.log import Columns

LIVE = "live"
DEFAULT_ESTIMATORS = ("snrips",)
REFUSALS = ("no_slates", *get_args(RefusalKind))
LEVEL = 0.95

# Which estimators are worth something for the beginnings of slates: those by position.
_BY_POSITION = ("rips", "snrips")


@dataclass(frozen=True, slots=True)
class Value:
    """Reward a slate, over its first `positions`, with an interval of `LEVEL` that draws users."""

    positions: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Estimate of one policy by one estimator, or why there is none.

    Attributes
    ----------
    policy : a candidate as the worker was told it, or `LIVE`
    slates : that speak of it
    estimate : of whole slates; None when refused
    effective_size : slates of equal weight that would be as certain, at the worst position; None if unknown
    largest_weight : of a slate, at the worst position; None if unknown
    refused : one of `REFUSALS`, "" with an estimate
    reason : in words
    bears : where whole slates are refused, the most positions that the log bears; None if not even one
    """

    policy: str
    estimator: str
    slates: int
    estimate: Value | None = None
    effective_size: float | None = None
    largest_weight: float | None = None
    refused: str = ""
    reason: str = ""
    bears: Value | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of intervals, and limits below which an estimate is refused."""

    resamples: int = 1000
    seed: int = 0
    limits: Limits = Limits()


def measured(columns: Columns, sampling: Sampling) -> dict[str, tuple[int, Value]]:
    """Return slates and mean reward of a slate as served, under `LIVE` and of each policy that served."""
    found: dict[str, tuple[int, Value]] = {}
    names = np.unique(columns.policies).tolist()
    for name in (LIVE, *names) if len(columns) else ():
        part = columns if name == LIVE else columns.rows(columns.policies == name)
        earned = Contributions(part.rewards.sum(axis=1)[None])
        (low, high), *_ = bootstrap(
            [earned],
            resamples=sampling.resamples,
            level=LEVEL,
            seed=sampling.seed,
            clusters=part.users,
        )
        value = Value(columns.rewards.shape[1], float(earned.values()[0]), float(low[0]), float(high[0]))
        found[name] = len(part), value
    return found


def judge(
    columns: Columns,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    sampling: Sampling | None = None,
) -> list[Verdict]:
    """Return a verdict on the live policy and on every candidate in the log, by each estimator.

    Slates without the propensities of the policy that served, or of the candidate, say nothing of it and
    are left out: whether they were logged depends on the worker's configuration, not on what was shown.

    Parameters
    ----------
    estimators : names in `SLATE_ESTIMATORS`
    """
    sampling = sampling or Sampling()
    if not len(columns):
        nothing = "slates must be in the log, got none"
        return [Verdict(LIVE, one, 0, refused="no_slates", reason=nothing) for one in estimators]
    verdicts = []
    for name, target in {LIVE: columns.propensities, **columns.candidates}.items():
        rows = np.flatnonzero(~np.isnan(columns.propensities + target).any(axis=1))
        log = _log(columns, target, rows)
        verdicts += [_verdict(name, one, log, columns.users[rows], sampling) for one in estimators]
    return verdicts


def _log(columns: Columns, target: NDArray[np.float64], rows: NDArray[np.int64]) -> LoggedSlates | None:
    if not len(rows):
        return None
    return LoggedSlates(
        columns.rewards[rows],
        np.minimum(target[rows], 1.0)[None],
        columns.propensities[rows],
        shown=columns.shown[rows],
    )


def _verdict(
    policy: str, estimator: str, log: LoggedSlates | None, users: NDArray[np.str_], sampling: Sampling
) -> Verdict:
    if log is None:
        reason = "propensities must be logged for importance weights, got none"
        return Verdict(policy, estimator, 0, refused="propensities", reason=reason)
    n, length = log.rewards.shape
    found = _evaluate(estimator, log, users, sampling)
    size, largest = None, None
    if (about := found.diagnostics) is not None:
        size, largest = about.effective_size, about.quantiles[-1]
    if isinstance(found, Estimate):
        return Verdict(policy, estimator, n, _value(length, found), size, largest)
    bears = _beginning(estimator, log, users, sampling) if estimator in _BY_POSITION else None
    # What the library proposes instead is for logs of any kind; what this one bears is said in `remedy`.
    reason = found.reason.partition(";")[0]
    return Verdict(policy, estimator, n, None, size, largest, found.kind, reason, bears)


def _evaluate(
    estimator: str, log: LoggedSlates, users: NDArray[np.str_], sampling: Sampling
) -> Estimate | Refusal:
    (found,) = evaluate(
        log,
        {estimator: SLATE_ESTIMATORS[estimator]},
        level=LEVEL,
        resamples=sampling.resamples,
        seed=sampling.seed,
        limits=sampling.limits,
        clusters=users,
    )[estimator]
    return found


def _beginning(
    estimator: str, log: LoggedSlates, users: NDArray[np.str_], sampling: Sampling
) -> Value | None:
    """Return the value of the longest beginning of the slates that the log bears."""
    for length in reversed(range(1, log.rewards.shape[1])):
        begun = log.first(length)
        if isinstance(_evaluate(estimator, begun, users, replace(sampling, resamples=1)), Estimate):
            found = _evaluate(estimator, begun, users, sampling)
            return _value(length, found) if isinstance(found, Estimate) else None
    return None


def _value(positions: int, found: Estimate) -> Value:
    return Value(positions, found.value, found.low, found.high)


def remedy(verdict: Verdict) -> str:
    """Say what can still be done where an estimate was refused."""
    if verdict.bears is not None:
        one = verdict.bears
        beginning = (
            "the first position is" if one.positions == 1 else f"the first {one.positions} positions are"
        )
        return f"{beginning} worth {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
    match verdict.refused:
        case "no_slates":
            return "wait until slates close: `attribution_window_ms` after they were served"
        case "propensities":
            return "what was served is measured all the same; a worker's own records carry propensities"
        case "marginals" | "model":
            return "snrips and rips need only what a worker logs"
    return "more slates, a live policy that explores more, or a candidate nearer to it"
