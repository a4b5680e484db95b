"""Summarises an experiment: each variant, its difference to the control, and its guardrails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.sequential import Difference, difference_of_means
from online_learning.experiments.srm import sample_ratio_p_value

GUARDRAILS = ("latency_p99_ms", "fallback_share", "empty_share")


@dataclass(frozen=True, slots=True)
class SlateColumns:
    """Slates of an experiment in the order of their time: n rows.

    Attributes
    ----------
    users : (n,) int64, a number for each user
    variants : (n,) int64, position of the variant in the definition
    closed : (n,) bool, whether the reward is known
    rewards : (n,) float64, what the slate earned; 0 where it is not known yet
    responses : (n,) float64, items responded to
    latency_ms : (n,) float64, NaN where it is not known
    fallback, empty : (n,) bool
    """

    users: NDArray[np.int64]
    variants: NDArray[np.int64]
    closed: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    responses: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    fallback: NDArray[np.bool_]
    empty: NDArray[np.bool_]

    def first(self, n: int) -> "SlateColumns":
        """Return the first n slates."""
        return SlateColumns(*(getattr(self, column.name)[:n] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """One variant so far.

    Attributes
    ----------
    users, slates, closed : exposed users, slates shown, and those whose reward is known
    responses : items responded to in closed slates
    reward_per_user : mean total of the users with a closed slate
    difference : to the control; None for the control itself
    guardrails : value of each of `GUARDRAILS`; NaN where nothing was measured
    """

    name: str
    users: int
    slates: int
    closed: int
    responses: float
    reward_per_user: float
    difference: Difference | None
    guardrails: dict[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """All variants, the control first; crossed is how many users were served by more than one variant."""

    variants: list[VariantSummary]
    sample_ratio_p: float
    crossed: int


def summarise(
    columns: SlateColumns, names: Sequence[str], weights: Sequence[float], *, alpha: float, plan: float
) -> Summary:
    """Summarise an A/B experiment; `alpha` is shared among the variants that are compared with the control.

    Parameters
    ----------
    names, weights : of the variants, the control first
    alpha, plan : see `difference_of_means`
    """
    totals = [_user_totals(columns, number) for number in range(len(names))]
    moments = [(len(one), one.sum(), np.square(one).sum()) for one in totals]
    closed = [int(columns.closed[columns.variants == number].sum()) for number in range(len(names))]
    share = alpha / max(1, len(names) - 1)
    variants = []
    for number, name in enumerate(names):
        here = columns.variants == number
        difference = None
        if number:
            steps = max(1, closed[0] + closed[number])
            difference = difference_of_means(moments[0], moments[number], steps, alpha=share, plan=plan)
        variants.append(
            VariantSummary(
                name=name,
                users=len(np.unique(columns.users[here])),
                slates=int(here.sum()),
                closed=closed[number],
                responses=float(columns.responses[here].sum()),
                reward_per_user=float(totals[number].mean()) if len(totals[number]) else 0.0,
                difference=difference,
                guardrails=guardrail_values(columns, here),
            )
        )
    _, first = np.unique(columns.users, return_index=True)
    entered = columns.variants[np.sort(first)]
    pairs = np.unique(np.stack((columns.users, columns.variants)), axis=1)
    crossed = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    return Summary(variants, sample_ratio_p_value(entered, weights), crossed)


def guardrail_values(columns: SlateColumns, here: NDArray[np.bool_]) -> dict[str, float]:
    """Return each of `GUARDRAILS` over some slates: (n,) bool."""
    latency = columns.latency_ms[here & ~np.isnan(columns.latency_ms)]
    return {
        "latency_p99_ms": float(np.percentile(latency, 99)) if len(latency) else np.nan,
        "fallback_share": float(columns.fallback[here].mean()) if here.any() else np.nan,
        "empty_share": float(columns.empty[here].mean()) if here.any() else np.nan,
    }


def broken_guardrails(values: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """Return the names whose value is above its bound."""
    return [name for name, bound in bounds.items() if values[name] > bound]


def _user_totals(columns: SlateColumns, variant: int) -> NDArray[np.float64]:
    """Total reward of each user with a closed slate of a variant: (users,) float64."""
    here = columns.closed & (columns.variants == variant)
    _, numbers = np.unique(columns.users[here], return_inverse=True)
    return np.bincount(numbers, columns.rewards[here]).astype(np.float64)  # ints where there is no slate
