"""The trial of a shadow: whether a release that answered live requests may serve users."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import numpy as np

from online_learning.ope.evaluation import Estimate, evaluate
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates
from streams.events import UNDECODABLE
from streams.releases.changes import Gate, ReleaseChange
from streams.releases.comparison import Outcome
from streams.serving.shadowing import Shadow

SLOWER, SLOWER_MS = 1.5, 2.0
"""Times the latency of a live slate, with all that belongs to it, and milliseconds beyond that."""
P99 = 0.99
ESTIMATOR = "snrips"
"""Weighs each position by the items down to it; see `online_learning.ope.slates`."""


class _Item(msgspec.Struct, gc=False):
    propensity: float


class _Record(msgspec.Struct, gc=False):
    """The fields of `Feedback` that are read."""

    request_id: str
    user_id: str
    slate: list[_Item]
    actions: list[list[str]]


_decode = msgspec.json.Decoder(_Record).decode


class ShadowTrial:
    """Slates of the live release that have closed, of requests that the shadow has answered as well.

    Responses to them say, by off-policy evaluation, what the shadow's slates would have earned. Only this
    worker's answers count: whoever comes after it begins anew.

    Parameters
    ----------
    begun : the record by which it began
    live : version that serves
    shadow : returns what the release has made of requests here, None for nothing
    positive : actions that count as a response
    """

    def __init__(
        self,
        begun: ReleaseChange,
        live: str,
        shadow: Callable[[], Shadow | None],
        *,
        positive: Collection[str],
    ) -> None:
        assert begun.trial is not None
        self.begun = begun
        self._trial = begun.trial
        self._live = live
        self._shadow = shadow
        self._positive = frozenset(positive)
        self._closed: dict[str, tuple[_Record, list[float]]] = {}

    def add(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        """Take in records of `feedback`; those of other requests say nothing, and of two the last counts."""
        shadow = self._answers
        for record in records if shadow is not None else ():
            try:
                told = _decode(record.value or b"")
            except UNDECODABLE:
                continue
            answer = None if shadow is None else shadow.answers.get(told.request_id)
            if answer is not None and len(answer.propensities) == len(told.slate) == len(told.actions):
                self._closed[told.request_id] = told, answer.propensities

    @property
    def _answers(self) -> Shadow | None:
        found = self._shadow()
        begun = self.begun.version, self.begun.timestamp_ms
        return found if found is not None and (found.version, found.begun_ms) == begun else None

    def outcome(self, now_ms: int) -> Outcome | None:
        """Return what is to become of the release; None while that is not known."""
        shadow, trial, n = self._answers, self._trial, len(self._closed)
        if shadow is not None and shadow.error:
            return Outcome(False, Gate("shadow", False, f"it could not make a slate: {shadow.error}"))
        if shadow is not None and n >= trial.least_slates:
            return self._judged(shadow)
        if now_ms - self.begun.timestamp_ms < 1000 * trial.longest_s:
            return None
        skipped = 0 if shadow is None else shadow.skipped
        said = (
            f"within {trial.longest_s / 3600:g} h {n} slates of requests that it has answered as well have "
            f"closed, at least {trial.least_slates} are asked for; for {skipped} there was no room"
        )
        return Outcome(False, Gate("shadow", False, said, {"slates": float(n)}))

    def _judged(self, shadow: Shadow) -> Outcome:
        answers = list(shadow.answers.values())
        ours, theirs = (
            1000 * float(np.quantile(times, P99))
            for times in ([one.seconds for one in answers], [one.live_s for one in answers])
        )
        agreement = float(np.mean([one.agreement for one in answers]))
        figures = {"slates": float(len(self._closed)), "agreement": agreement}
        figures |= {"p99_ms": ours, "live_p99_ms": theirs}
        slow = ours > SLOWER * theirs + SLOWER_MS
        said = (
            f"it shows {agreement:.0%} of what is served; 99 % of its slates take {ours:.1f} ms at most, "
            f"live ones {theirs:.1f} with all that is theirs"
        )
        log, users = self._log()
        found = _longest(log, users)
        if isinstance(found, str):
            return self._outcome(
                not slow, f"{said}; what its slates would earn cannot be told: {found}", figures
            )
        value, positions = found
        earned = float(log.rewards[:, :positions].sum(axis=1).mean())
        figures |= {"value": value.value, "low": value.low, "high": value.high, "live": earned}
        said += (
            f"; the first {positions} positions of its slates would earn {value.value:.4f} [{value.low:.4f}, "
            f"{value.high:.4f}], those of {self._live} earn {earned:.4f}"
        )
        worse = value.high < (1.0 - self._trial.harm) * earned
        return self._outcome(not (slow or worse), said, figures)

    def _outcome(self, passed: bool, said: str, figures: dict[str, float]) -> Outcome:
        return Outcome(passed, Gate("shadow", passed, said, figures))

    def _log(self) -> tuple[LoggedSlates, list[str]]:
        """Return the slates that have closed, and their users."""
        told = [record for record, _ in self._closed.values()]
        shape = len(told), max(len(record.slate) for record in told)
        rewards, logged, target = np.zeros(shape), np.ones(shape), np.ones((1, *shape))
        shown = np.zeros(shape, np.bool_)
        for row, (record, ours) in enumerate(self._closed.values()):
            k = len(record.slate)
            shown[row, :k] = True
            rewards[row, :k] = [not self._positive.isdisjoint(actions) for actions in record.actions]
            logged[row, :k] = [item.propensity for item in record.slate]
            target[0, row, :k] = np.minimum(ours, 1.0)
        return LoggedSlates(rewards, target, logged, shown=shown), [record.user_id for record in told]


def _longest(log: LoggedSlates, users: list[str]) -> tuple[Estimate, int] | str:
    """Estimate the longest beginning of the slates that the log bears, or say why it bears none."""
    reason = ""
    for length in reversed(range(1, log.rewards.shape[1] + 1)):
        (found,) = evaluate(
            log.first(length), {ESTIMATOR: SLATE_ESTIMATORS[ESTIMATOR]}, clusters=np.array(users)
        )[ESTIMATOR]
        if isinstance(found, Estimate):
            return found, length
        reason = found.reason.partition(";")[0]
    return reason
