"""Report of an experiment: figures, alarms, and one sentence that says what to do."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.srm import win_rate_interval
from online_learning.experiments.summary import (
    Summary,
    VariantSummary,
    broken_guardrails,
    summarise,
)
from streams.experiments.definition import Experiment
from streams.experiments.log import ExperimentLog

SRM_ALPHA = 0.01
MIN_USERS = 30  # of a variant, before a normal approximation is worth anything


class VariantReport(msgspec.Struct, frozen=True):
    """A variant's figures; delta and its always-valid interval are to the control, which has none."""

    name: str
    policy: str
    users: int
    slates: int
    closed: int
    responses: float
    reward_per_user: float
    guardrails: dict[str, float]
    broken: list[str]
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


class Preference(msgspec.Struct, frozen=True):
    """Interleaved slates won by each variant; rate of the second, with its interval."""

    control: int
    variant: int
    undecided: int
    rate: float
    low: float
    high: float


class Report(msgspec.Struct, frozen=True):
    """An experiment at one moment.

    variants has one entry, for both together, where two are interleaved; preference is for these only, and
    sample_ratio_p for users who are split among variants.
    """

    experiment: Experiment
    ran_ms: int
    users: int
    slates: int
    variants: list[VariantReport]
    sample_ratio_p: float | None
    preference: Preference | None
    alarms: list[str]
    verdict: str


def make_report(experiment: Experiment, log: ExperimentLog, now_ms: int) -> Report:
    """Judge what the log holds of an experiment."""
    if experiment.kind == "interleaving":
        columns, speaks_for = log.interleaved()
        names, weights = ["interleaved"], [1.0]
        preference = preference_of(columns.closed, speaks_for, alpha=experiment.alpha)
    else:
        columns, preference = log.columns(), None
        names = [variant.name for variant in experiment.variants]
        weights = [variant.weight for variant in experiment.variants]
    summary = summarise(columns, names, weights, alpha=experiment.alpha, plan=experiment.plan)
    alarms = _alarms(experiment, summary)
    return Report(
        experiment=experiment,
        ran_ms=max(0, (experiment.stopped_ms or now_ms) - experiment.started_ms),
        users=len(np.unique(columns.users)),
        slates=len(columns.users),
        variants=[_variant(experiment, one) for one in summary.variants],
        sample_ratio_p=summary.sample_ratio_p if experiment.kind == "ab" else None,
        preference=preference,
        alarms=alarms,
        verdict=_verdict(experiment, summary, preference, alarms),
    )


def preference_of(closed: NDArray[np.bool_], speaks_for: NDArray[np.int64], *, alpha: float) -> Preference:
    """Count the closed slates for each side.

    The trials are slates and not users: the coins of a slate are tossed anew, so whoever the user is, two
    policies that are equal win each decided slate with probability 1/2 whatever came before.
    """
    decided = speaks_for[closed]
    wins, losses = int((decided > 0).sum()), int((decided < 0).sum())
    low, high = win_rate_interval(wins, losses, alpha=alpha)
    rate = wins / (wins + losses) if wins + losses else 0.5
    return Preference(losses, wins, len(decided) - wins - losses, rate, low, high)


def _variant(experiment: Experiment, one: VariantSummary) -> VariantReport:
    policies = {variant.name: variant.policy for variant in experiment.variants}
    both = " and ".join(policies.values())
    report = VariantReport(
        name=one.name,
        policy=policies.get(one.name, both),
        users=one.users,
        slates=one.slates,
        closed=one.closed,
        responses=one.responses,
        reward_per_user=one.reward_per_user,
        guardrails=one.guardrails,
        broken=broken_guardrails(one.guardrails, experiment.guardrails),
    )
    if (found := one.difference) is None:
        return report
    return msgspec.structs.replace(
        report,
        delta=float(found.estimate),
        low=float(found.low),
        high=float(found.high),
        p_value=float(found.p_value),
    )


def _alarms(experiment: Experiment, summary: Summary) -> list[str]:
    alarms = []
    if experiment.kind == "ab" and summary.sample_ratio_p < SRM_ALPHA:
        counts = ", ".join(f"{one.name} {one.users:,}" for one in summary.variants)
        alarms.append(
            f"Sample ratio mismatch: users ({counts}) are not split as planned, p = "
            f"{summary.sample_ratio_p:.1e}; some leave no record, so believe no figure here until the cause "
            "is found."
        )
    if summary.crossed:
        alarms.append(f"{summary.crossed:,} users were served by more than one variant.")
    for one in summary.variants:
        for name in broken_guardrails(one.guardrails, experiment.guardrails):
            bound, value = experiment.guardrails[name], one.guardrails[name]
            alarms.append(f"Guardrail: {name} of {one.name} is {value:.4g}, above {bound:g}.")
    return alarms


def _verdict(
    experiment: Experiment, summary: Summary, preference: Preference | None, alarms: list[str]
) -> str:
    found = _finding(experiment, summary, preference, alarms)
    stop = f"`slatestream experiment stop {experiment.name}`"
    return " ".join(
        f"{said} {advice.format(stop=stop)}" if experiment.running and advice else said
        for said, advice in found
    )


def _finding(
    experiment: Experiment, summary: Summary, preference: Preference | None, alarms: list[str]
) -> list[tuple[str, str]]:
    """Return what is found, each with what to do about it while the experiment runs."""
    if alarms:
        return [("Look at the alarm first.", "To give all users the live policy again: {stop}.")]
    if experiment.kind == "policy":
        (variant,) = experiment.variants
        serves = "serves" if experiment.running else "served"
        return [(f"{variant.policy} {serves} {_whom(experiment)}.", "To end that: {stop}.")]
    if preference is not None:
        return [_of_preference(experiment, preference)]
    if (fewest := min(one.users for one in summary.variants)) < MIN_USERS:
        early = "Too early" if experiment.running else "Too few"
        return [(f"{early}: a variant has {fewest} users, and nothing is said below {MIN_USERS}.", "")]
    return [_of_variant(summary, one) for one in summary.variants[1:]]


def _whom(experiment: Experiment) -> str:
    users = "all users" if experiment.segment is None else f"users with {experiment.segment}"
    return users if experiment.share == 1.0 else f"{100 * experiment.share:.0f} % of {users}"


def _of_variant(summary: Summary, one: VariantSummary) -> tuple[str, str]:
    control, found = summary.variants[0], one.difference
    assert found is not None
    size = f"{float(found.estimate):+.4g} a user"
    if control.reward_per_user:
        size += f" ({100 * float(found.estimate) / abs(control.reward_per_user):+.1f} %)"
    within = f"between {float(found.low):+.4g} and {float(found.high):+.4g}"
    if found.low > 0:
        said = f"{one.name} earns more than {control.name}: {size}, {within}."
        return said, "You may stop now ({stop}) and make it the live policy."
    if found.high < 0:
        return f"{one.name} earns less than {control.name}: {size}, {within}.", "Stop it: {stop}."
    said = f"No difference between {one.name} and {control.name} is shown: it lies {within}."
    return said, "Go on, or stop if so little does not matter ({stop})."


def _of_preference(experiment: Experiment, found: Preference) -> tuple[str, str]:
    control, variant = experiment.variants
    decided = f"{found.variant:,} slates to {found.control:,}"
    rate, low, high = (f"{100 * share:.1f} %" for share in (found.rate, found.low, found.high))
    within = f"wins {rate} of the decided slates, between {low} and {high}"
    if found.low > 0.5:
        return (
            f"{variant.name} is preferred to {control.name}, {decided}: it {within}.",
            "You may stop: {stop}.",
        )
    if found.high < 0.5:
        return f"{control.name} is preferred to {variant.name}: the latter {within}.", "Stop it: {stop}."
    return f"No preference is shown, {decided}: {variant.name} {within}.", "Go on, or stop: {stop}."
